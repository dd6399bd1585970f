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
//! Promises: what [`render`] writes, [`parse`] reads back equal, and zones and conduits that do not fit together are
//! all told at once, each with the line where it stands. What this module does not promise: a plant that differs
//! from the file is not named here; that is [`difference`](super::difference).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use toml::Spanned;

use super::conduit::Conduit;
use super::drill::DrillBounds;
use super::function::Function;
use super::gate::{GateFail, GateRules};
use super::model::{
    IntraZone, MAX_CONDUITS, MAX_ZONES, NameConstraint, Segmentation, SoftwareKeys, Timing, Zone, ZoneFault,
    is_false,
};
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
/// Faults that are told; whoever has more mends these first.
const MAX_FAULTS: usize = 100;
/// The layout that this version reads and writes.
const SCHEMA: u64 = 1;

/// What is wrong with a document; each line names its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentFaults {
    told: Vec<String>,
    left_out: usize,
}

impl DocumentFaults {
    fn one(fault: String) -> Self {
        Self { told: vec![fault], left_out: 0 }
    }
}

impl fmt::Display for DocumentFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, left_out } = self;
        let more = if *left_out > 0 { format!("\nand {left_out} more") } else { String::new() };
        write!(f, "the zones' file has {} fault(s)\n{}{more}", told.len() + left_out, told.join("\n"))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<Z, C> {
    schema: u64,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    zone: Vec<Z>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    conduit: Vec<C>,
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
#[serde(untagged)]
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

/// Reads a document.
pub fn parse(text: &str) -> Result<Segmentation, DocumentFaults> {
    let refuse = |fault: String| Err(DocumentFaults::one(fault));
    if text.len() > MAX_DOCUMENT {
        return refuse(format!("it has {} bytes; {MAX_DOCUMENT} are allowed", text.len()));
    }
    fits(text).map_err(DocumentFaults::one)?;
    let document: Document<Spanned<ZoneEntry>, Spanned<ConduitEntry>> = match toml::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let at = error.span().unwrap_or_default().start;
            return refuse(placed(text, at, &error.message().lines().collect::<Vec<_>>().join(" ")));
        }
    };
    if document.schema != SCHEMA {
        return refuse(format!("schema {} is not known here; write schema = {SCHEMA}", document.schema));
    }
    let mut faults = Vec::new();
    let mut zones = Vec::new();
    let mut places = BTreeMap::new();
    for entry in document.zone {
        let at = entry.span().start;
        places.insert(entry.get_ref().name.to_string(), at);
        match zone(entry.into_inner()) {
            Ok(zone) => zones.push(zone),
            Err(error) => faults.push((at, error)),
        }
    }
    let mut conduits = Vec::new();
    for entry in document.conduit {
        let at = entry.span().start;
        let conduit = Conduit::from(entry.into_inner());
        places.insert(conduit.to_string(), at);
        conduits.push(conduit);
    }
    // A zone that could not be read would look like one that is missing.
    let fitting =
        if faults.is_empty() { Segmentation::new(zones, conduits) } else { Ok(Segmentation::default()) };
    match fitting {
        Ok(segmentation) if faults.is_empty() => return Ok(segmentation),
        Ok(_) => {}
        Err(found) => {
            faults.extend(found.faults().iter().map(|fault| (place(fault, &places), fault.to_string())))
        }
    }
    faults.sort();
    let left_out = faults.len().saturating_sub(MAX_FAULTS);
    let told = faults.into_iter().take(MAX_FAULTS).map(|(at, fault)| placed(text, at, &fault)).collect();
    Err(DocumentFaults { told, left_out })
}

/// Counts before anything is read closely: each entry may hold a schedule, and each schedule a time zone.
fn fits(text: &str) -> Result<(), String> {
    let Ok(document) = toml::from_str::<Document<IgnoredAny, IgnoredAny>>(text) else { return Ok(()) };
    let counts =
        [("zones", document.zone.len(), MAX_ZONES), ("conduits", document.conduit.len(), MAX_CONDUITS)];
    let over = counts.into_iter().find(|(_, count, most)| count > most);
    over.map_or(Ok(()), |(what, count, most)| {
        Err(format!("it has {count} {what}; a plant has at most {most}"))
    })
}

fn place(fault: &ZoneFault, places: &BTreeMap<String, usize>) -> usize {
    let about = match fault {
        ZoneFault::TooMany { .. } => return 0,
        ZoneFault::DuplicateZone(zone)
        | ZoneFault::AsksNothing(zone)
        | ZoneFault::NoProducts(zone)
        | ZoneFault::Subnets(zone, _)
        | ZoneFault::AcceptsContraindicated { zone, .. } => zone.as_str(),
        ZoneFault::UnknownZone { conduit, .. }
        | ZoneFault::SelfConduit(conduit)
        | ZoneFault::DuplicateConduit(conduit)
        | ZoneFault::Observed(conduit) => conduit,
    };
    places.get(about).copied().unwrap_or_default()
}

fn placed(text: &str, at: usize, fault: &str) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {fault}")
}

fn zone(entry: ZoneEntry) -> Result<Zone, String> {
    let timing =
        Timing::new(entry.reattest_every.0, entry.outlive_broker.0, entry.silent_after.map(|span| span.0))
            .map_err(|error| format!("zone {}: {error}", entry.name))?;
    let gate = GateRules::new(entry.gate_drain.map_or(0, |span| span.0), entry.gate_fail)
        .map_err(|error| format!("zone {}: {error}", entry.name))?;
    let seconds = |span: Option<Span>| span.map(|span| span.0);
    let bounds =
        |entry: DrillEntry| DrillBounds::new(seconds(entry.cut_within), seconds(entry.recover_within));
    let drills = entry
        .drills
        .map(bounds)
        .transpose()
        .map_err(|error| format!("zone {}: drills: {error}", entry.name))?;
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
