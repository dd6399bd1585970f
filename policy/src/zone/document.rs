//! The whole graph of a plant as one file: TOML to be read, reviewed and kept beside the plant's drawings.
//!
//! ```toml
//! schema = 1
//!
//! [[zone]]
//! name = "cell-3"
//! function = "control"
//! mode = "enforce"
//! products = ["edge-box"]
//! reattest_every = "15m"
//! outlive_broker = "8h"
//!
//! [[conduit]]
//! from = "cell-3"
//! to = "historian"
//! service = "opcua"
//! schedule = "sat,sun 22:00-04:00 in Europe/Berlin"
//! expires = "2027-01-01T00:00:00Z"
//! ```
//!
//! Promises: what [`render`] writes, [`parse`] reads back equal, and everything that cannot be read or does not fit
//! together is told at once, each fault with the line where it stands; only text that is no TOML ends with its first. What this module does not promise: a plant that differs
//! from the file is not named here; that is [`difference`](super::difference).

mod read;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::read::{DocumentFaults, parse};
use super::conduit::Conduit;
use super::drill::DrillBounds;
use super::function::Function;
use super::gate::{GateFail, GateRules};
use super::model::{IntraZone, NameConstraint, Segmentation, SoftwareKeys, Timing, Zone, is_false};
use super::schedule::Schedule;
use super::silence::OnSilence;
use super::span::Span;
use super::subnet::Subnet;
use crate::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use crate::appraisal::policy::Mode;
use crate::id::{ProductName, ServiceName, ZoneName};
use crate::time::UnixTime;

/// Longest document in bytes: a thousand zones with ten conduits each, of a hundred bytes.
pub const MAX_DOCUMENT: usize = 2 * 1024 * 1024;
/// The layout that this version reads and writes.
const SCHEMA: u64 = 1;

#[derive(Serialize)]
struct Document {
    schema: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    zone: Vec<ZoneEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conduit: Vec<ConduitEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoneEntry {
    name: ZoneName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<Function>,
    mode: Mode,
    #[serde(default)]
    products: BTreeSet<ProductName>,
    reattest_every: Span,
    outlive_broker: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silent_after: Option<Span>,
    #[serde(default, skip_serializing_if = "OnSilence::is_default")]
    on_silence: OnSilence,
    #[serde(default = "deny")]
    intra_zone: IntraZone,
    #[serde(default)]
    token_admits: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    idevid_admits: bool,
    #[serde(default = "critical")]
    name_constraint: NameConstraint,
    #[serde(default)]
    software_keys: SoftwareKeys,
    #[serde(default)]
    two_person: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    subnets: BTreeSet<Subnet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate_drain: Option<Span>,
    #[serde(default, skip_serializing_if = "is_open")]
    gate_fail: GateFail,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drills: Option<DrillEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    least: Option<BTreeMap<Claim, Least>>,
}

const fn deny() -> IntraZone {
    IntraZone::Deny
}

fn is_open(fail: &GateFail) -> bool {
    *fail == GateFail::Open
}

const fn critical() -> NameConstraint {
    NameConstraint::Critical
}

/// A zone is marked for drills by having this, with whatever bounds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrillEntry {
    #[serde(default)]
    cut_within: Option<Span>,
    #[serde(default)]
    recover_within: Option<Span>,
}

/// The worst that is accepted: a tier, or the value itself where it is neither end of one.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged, expecting = "the least of a claim is affirming, warning or a number")]
enum Least {
    Tier(LeastTier),
    Value(i8),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LeastTier {
    Affirming,
    Warning,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConduitEntry {
    from: ZoneName,
    to: ZoneName,
    service: ServiceName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<Schedule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Written>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    accept_observed: bool,
}

/// A time as text (RFC 3339), or as TOML has it.
#[derive(Clone, Copy, Serialize)]
#[serde(into = "String")]
struct Written(UnixTime);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text,
            toml::Value::Datetime(time) => time.to_string(),
            other => {
                let found = other.type_str();
                return Err(D::Error::custom(format!(
                    "{found} is no time; write for example \"2027-01-01T00:00:00Z\""
                )));
            }
        };
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl From<Written> for String {
    fn from(time: Written) -> Self {
        time.0.to_string()
    }
}

/// The zone, or every one of its numbers that does not go.
fn zone(entry: ZoneEntry) -> Result<Zone, Vec<String>> {
    let seconds = |span: Option<Span>| span.map(|span| span.0);
    let timing = Timing::new(entry.reattest_every.0, entry.outlive_broker.0, seconds(entry.silent_after));
    let gate = GateRules::new(seconds(entry.gate_drain).unwrap_or_default(), entry.gate_fail);
    let bounds =
        |entry: DrillEntry| DrillBounds::new(seconds(entry.cut_within), seconds(entry.recover_within));
    let drills = entry.drills.map(bounds).transpose();
    let (timing, gate, drills) = match (timing, gate, drills) {
        (Ok(timing), Ok(gate), Ok(drills)) => (timing, gate, drills),
        (timing, gate, drills) => {
            let wrong = [
                timing.err().map(|error| error.to_string()),
                gate.err().map(|error| error.to_string()),
                drills.err().map(|error| format!("drills: {error}")),
            ];
            return Err(wrong
                .into_iter()
                .flatten()
                .map(|wrong| format!("zone {}: {wrong}", entry.name))
                .collect());
        }
    };
    let worst = |least| match least {
        Least::Tier(LeastTier::Affirming) => ClaimValue::AFFIRMING,
        Least::Tier(LeastTier::Warning) => ClaimValue::WARNING,
        Least::Value(value) => ClaimValue(value),
    };
    let least = entry
        .least
        .map(|least| LeastClaims::new(least.into_iter().map(|(claim, tier)| (claim, worst(tier))).collect()));
    Ok(Zone {
        name: entry.name,
        function: entry.function,
        mode: entry.mode,
        timing,
        intra_zone: entry.intra_zone,
        products: entry.products,
        least: least.unwrap_or_default(),
        token_admits: entry.token_admits,
        idevid_admits: entry.idevid_admits,
        name_constraint: entry.name_constraint,
        software_keys: entry.software_keys,
        two_person: entry.two_person,
        subnets: entry.subnets,
        gate,
        on_silence: entry.on_silence,
        drills,
    })
}

impl From<ConduitEntry> for Conduit {
    fn from(entry: ConduitEntry) -> Self {
        let ConduitEntry { from, to, service, schedule, expires, accept_observed } = entry;
        Self { from, to, service, schedule, expires: expires.map(|time| time.0), accept_observed }
    }
}

/// The fields in which two zones differ, each as `field: old -> new`, as the document writes them.
#[must_use]
pub fn changed_fields(old: &Zone, new: &Zone) -> Vec<String> {
    let fields = |zone: &Zone| toml::Table::try_from(zone_entry(zone)).unwrap_or_default();
    let (old, new) = (fields(old), fields(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let shown = |value: Option<&toml::Value>| value.map_or_else(|| "none".to_owned(), ToString::to_string);
    let differ = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    differ.map(|name| format!("{name}: {} -> {}", shown(old.get(name)), shown(new.get(name)))).collect()
}

/// Writes the document that [`parse`] reads as this graph.
#[must_use]
pub fn render(plant: &Segmentation) -> String {
    let document = Document {
        schema: SCHEMA,
        zone: plant.zones().map(zone_entry).collect(),
        conduit: plant.conduits().iter().map(conduit_entry).collect(),
    };
    // Nothing in it can fail to be written: every field is text, a number or a list.
    toml::to_string(&document).unwrap_or_default()
}

fn zone_entry(zone: &Zone) -> ZoneEntry {
    let timing = &zone.timing;
    let silent = Span(timing.silent_after());
    let worst = |value: ClaimValue| match value {
        ClaimValue::AFFIRMING => Least::Tier(LeastTier::Affirming),
        ClaimValue::WARNING => Least::Tier(LeastTier::Warning),
        ClaimValue(value) => Least::Value(value),
    };
    ZoneEntry {
        name: zone.name.clone(),
        function: zone.function,
        mode: zone.mode,
        products: zone.products.clone(),
        reattest_every: Span(timing.reattest_every()),
        outlive_broker: Span(timing.outlive_broker()),
        silent_after: Some(silent),
        on_silence: zone.on_silence,
        intra_zone: zone.intra_zone,
        token_admits: zone.token_admits,
        idevid_admits: zone.idevid_admits,
        name_constraint: zone.name_constraint,
        software_keys: zone.software_keys,
        two_person: zone.two_person,
        subnets: zone.subnets.clone(),
        gate_drain: (zone.gate.drain() > 0).then_some(Span(zone.gate.drain())),
        gate_fail: zone.gate.fail(),
        drills: zone.drills.map(|bounds| DrillEntry {
            cut_within: Some(Span(bounds.cut_within())),
            recover_within: Some(Span(bounds.recover_within())),
        }),
        least: Some(zone.least.iter().map(|(claim, value)| (claim, worst(value))).collect()),
    }
}

fn conduit_entry(conduit: &Conduit) -> ConduitEntry {
    ConduitEntry {
        from: conduit.from.clone(),
        to: conduit.to.clone(),
        service: conduit.service.clone(),
        schedule: conduit.schedule.clone(),
        expires: conduit.expires.map(Written),
        accept_observed: conduit.accept_observed,
    }
}
