//! Zones, conduits and the numbers that everything about time follows from.
//!
//! [`Segmentation::new`] is the only door to a set of zones and conduits that fit together, and it
//! reports everything that does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::conduit::Conduit;
use super::drill::DrillBounds;
use super::function::Function;
use super::gate::GateRules;
use super::silence::OnSilence;
use super::subnet::{MAX_SUBNETS, Subnet};
use crate::appraisal::claims::{Claim, ClaimValue, LeastClaims, Tier};
use crate::appraisal::policy::{Mode, ZonePolicy};
use crate::id::{ProductName, ServiceName, ZoneName};

/// Least `reattest_every` in seconds: a quote of a slow hardware TPM takes a second or two.
pub const MIN_REATTEST: u64 = 5;
/// Least `outlive_broker` in seconds: 15 minutes.
pub const MIN_OUTLIVE: u64 = 15 * 60;
/// Most `outlive_broker` in seconds: 30 days.
pub const MAX_OUTLIVE: u64 = 30 * 24 * 3600;
/// Most `silent_after` in seconds: three times the longest `reattest_every`.
pub const MAX_SILENT: u64 = MAX_OUTLIVE / 2 * 3;
/// Most zones of a plant.
pub const MAX_ZONES: usize = 1000;
/// Most conduits of a plant.
pub const MAX_CONDUITS: usize = 10_000;

/// The three numbers of a zone, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTiming", into = "RawTiming")]
pub struct Timing {
    reattest_every: u64,
    outlive_broker: u64,
    silent_after: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTiming {
    reattest_every: u64,
    outlive_broker: u64,
    #[serde(default)]
    silent_after: Option<u64>,
}

/// The three numbers of a zone do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Outside the bounds.
    #[error("outlive_broker is {0} s; use {MIN_OUTLIVE} (15 minutes) to {MAX_OUTLIVE} (30 days)")]
    Outlive(u64),
    /// Too often, or so rarely that a certificate would end first.
    #[error("reattest_every is {found} s; use {MIN_REATTEST} to {most}, half of outlive_broker")]
    Reattest {
        /// What was asked.
        found: u64,
        /// The most that goes with `outlive_broker`.
        most: u64,
    },
    /// Silence that is shorter than the wait for the next word, or endless.
    #[error("silent_after is {found} s; use {least}, which is reattest_every, to {MAX_SILENT}")]
    Silent {
        /// What was asked.
        found: u64,
        /// The least that goes with `reattest_every`.
        least: u64,
    },
}

impl Default for Timing {
    /// 15 minutes, 8 hours, 45 minutes.
    fn default() -> Self {
        Self { reattest_every: 900, outlive_broker: 28_800, silent_after: 2_700 }
    }
}

impl Timing {
    /// These numbers, in seconds; `silent_after` is three times `reattest_every` if not given.
    pub fn new(
        reattest_every: u64,
        outlive_broker: u64,
        silent_after: Option<u64>,
    ) -> Result<Self, TimingError> {
        if !(MIN_OUTLIVE..=MAX_OUTLIVE).contains(&outlive_broker) {
            return Err(TimingError::Outlive(outlive_broker));
        }
        // A certificate is replaced at a third of its life, half of outlive_broker: a device that
        // proves itself more rarely would have to come for that alone.
        let most = outlive_broker / 2;
        if !(MIN_REATTEST..=most).contains(&reattest_every) {
            return Err(TimingError::Reattest { found: reattest_every, most });
        }
        let silent_after = silent_after.unwrap_or(reattest_every * 3);
        if !(reattest_every..=MAX_SILENT).contains(&silent_after) {
            return Err(TimingError::Silent { found: silent_after, least: reattest_every });
        }
        Ok(Self { reattest_every, outlive_broker, silent_after })
    }

    /// How often a device proves itself, in seconds.
    #[must_use]
    pub const fn reattest_every(&self) -> u64 {
        self.reattest_every
    }

    /// How long everything runs without the broker, in seconds.
    #[must_use]
    pub const fn outlive_broker(&self) -> u64 {
        self.outlive_broker
    }

    /// After how many seconds of silence a device is silent, while others of its zone are heard.
    #[must_use]
    pub const fn silent_after(&self) -> u64 {
        self.silent_after
    }

    /// How long a certificate lives, in seconds: 1.5 times `outlive_broker`.
    #[must_use]
    pub const fn certificate_lifetime(&self) -> u64 {
        self.outlive_broker + self.outlive_broker / 2
    }

    /// How long after its issue a certificate is replaced, in seconds: a third of its life, so that
    /// `outlive_broker` is always left.
    #[must_use]
    pub const fn replace_after(&self) -> u64 {
        self.certificate_lifetime() / 3
    }
}

impl TryFrom<RawTiming> for Timing {
    type Error = TimingError;

    fn try_from(raw: RawTiming) -> Result<Self, TimingError> {
        Self::new(raw.reattest_every, raw.outlive_broker, raw.silent_after)
    }
}

impl From<Timing> for RawTiming {
    fn from(timing: Timing) -> Self {
        Self {
            reattest_every: timing.reattest_every,
            outlive_broker: timing.outlive_broker,
            silent_after: Some(timing.silent_after),
        }
    }
}

/// Whether devices of one zone may open each other's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntraZone {
    /// They may.
    Allow,
    /// They may not.
    Deny,
}

/// How the zone's authorities carry their DNS name constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameConstraint {
    /// Software that does not know it refuses the authority.
    Critical,
    /// Software that does not know it ignores it.
    NonCritical,
    /// None: for peers that cannot parse it.
    Off,
}

/// Whether a server of the zone may have a key outside the TPM, certified through its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoftwareKeys {
    /// It may not: every certificate of the zone is for a key that no software can copy.
    #[default]
    Refuse,
    /// It may: root of that machine can copy the key, for as long as its certificate lives.
    Allow,
}

/// A zone: its policy, its numbers, its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Its name.
    pub name: ZoneName,
    /// What it is for, if it was said.
    #[serde(default)]
    pub function: Option<Function>,
    /// Whether it refuses or records.
    pub mode: Mode,
    /// Its three numbers.
    pub timing: Timing,
    /// Whether its devices may open each other's services.
    pub intra_zone: IntraZone,
    /// The products whose releases may boot in it.
    pub products: BTreeSet<ProductName>,
    /// The least it accepts for each claim.
    pub least: LeastClaims,
    /// Whether a join token that is bound to no EK admits a device, instead of leaving it pending.
    pub token_admits: bool,
    /// Whether a box that nobody registered is admitted where a trusted manufacturer gave it an IDevID.
    #[serde(default, skip_serializing_if = "is_false")]
    pub idevid_admits: bool,
    /// How its authorities carry their name constraint.
    pub name_constraint: NameConstraint,
    /// Whether its servers may have keys outside the TPM.
    #[serde(default)]
    pub software_keys: SoftwareKeys,
    /// Whether changes of it need two people.
    #[serde(default)]
    pub two_person: bool,
    /// The IP addresses that its devices may have in their certificates; none: no address.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub subnets: BTreeSet<Subnet>,
    /// What its gates do when trust is lost, and while the broker is not heard.
    #[serde(default, skip_serializing_if = "GateRules::is_default")]
    pub gate: GateRules,
    /// What it does about a device that is silent while others are heard.
    #[serde(default, skip_serializing_if = "OnSilence::is_default")]
    pub on_silence: OnSilence,
    /// What it promises of failure drills; none: it is not marked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drills: Option<DrillBounds>,
}

/// For what is written only where it holds.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(super) const fn is_false(value: &bool) -> bool {
    !*value
}

impl Zone {
    /// A zone as it begins: it observes, denies traffic among its devices, and asks for everything.
    #[must_use]
    pub fn new(name: ZoneName) -> Self {
        Self {
            name,
            function: None,
            mode: Mode::Observe,
            timing: Timing::default(),
            intra_zone: IntraZone::Deny,
            products: BTreeSet::new(),
            least: LeastClaims::default(),
            token_admits: false,
            idevid_admits: false,
            name_constraint: NameConstraint::Critical,
            software_keys: SoftwareKeys::Refuse,
            two_person: false,
            subnets: BTreeSet::new(),
            gate: GateRules::default(),
            on_silence: OnSilence::default(),
            drills: None,
        }
    }

    /// Whether `address` may stand in certificates of its devices.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(address))
    }

    /// Whether other things stand in its authorities than `before`: they are followed by others for that.
    #[must_use]
    pub fn is_confined_otherwise(&self, before: &Self) -> bool {
        self.subnets != before.subnets || self.name_constraint != before.name_constraint
    }

    /// What it asks of evidence.
    #[must_use]
    pub fn policy(&self) -> ZonePolicy {
        ZonePolicy {
            zone: self.name.clone(),
            products: self.products.clone(),
            least: self.least.clone(),
            mode: self.mode,
        }
    }
}

/// Something about zones and conduits that does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneFault {
    /// Two zones of one name.
    #[error("zone {0} is there twice; choose another name")]
    DuplicateZone(ZoneName),
    /// More zones or conduits than a plant may have.
    #[error("{found} {what}; {limit} are allowed")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// An enforcing zone that anything would pass.
    #[error("zone {0} enforces but asks for nothing; ask at least for instance-identity")]
    AsksNothing(ZoneName),
    /// A least that a bad claim meets.
    #[error("zone {zone} accepts {claim} down to {value}; the worst that can be accepted is 95, a warning")]
    AcceptsContraindicated {
        /// The zone.
        zone: ZoneName,
        /// The claim.
        claim: Claim,
        /// The value.
        value: ClaimValue,
    },
    /// A zone that enforces what it can compare with nothing.
    #[error("zone {0} enforces what boots but names no product; name the products that may boot in it")]
    NoProducts(ZoneName),
    /// More subnets than its authorities may name.
    #[error("zone {0} has {1} subnets; name at most {MAX_SUBNETS}")]
    Subnets(ZoneName, usize),
    /// A conduit from or to nowhere.
    #[error("conduit {conduit}: there is no zone {zone}; create it first")]
    UnknownZone {
        /// The conduit.
        conduit: String,
        /// The zone that is missing.
        zone: ZoneName,
    },
    /// A conduit into its own zone.
    #[error("conduit {0} stays in one zone; what a zone allows inside is its intra_zone setting")]
    SelfConduit(String),
    /// The same conduit twice.
    #[error("conduit {0} is there twice; remove one")]
    DuplicateConduit(String),
    /// A conduit that would let unappraised devices into a zone that appraises.
    #[error(
        "conduit {0} leads from a zone that observes into one that enforces; name it with --accept-observed, or let the first enforce"
    )]
    Observed(String),
}

/// What a fault is about, as [`Segmentation::new`] was given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The whole.
    Plant,
    /// The zone at this place.
    Zone(usize),
    /// The conduit at this place.
    Conduit(usize),
}

/// Everything about zones and conduits that does not fit together; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ZoneFaults(Vec<(Entry, ZoneFault)>);

impl ZoneFaults {
    /// The faults, each with what it is about.
    #[must_use]
    pub fn faults(&self) -> &[(Entry, ZoneFault)] {
        &self.0
    }
}

impl fmt::Display for ZoneFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.0.iter().map(|(_, fault)| fault.to_string()).collect();
        f.write_str(&faults.join("\n"))
    }
}

/// The zones of a plant and the conduits between them, known to fit together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segmentation {
    zones: BTreeMap<ZoneName, Zone>,
    conduits: Vec<Conduit>,
    /// Where each conduit stands.
    by_ends: BTreeMap<Ends, usize>,
    /// Where those of each zone stand, either way.
    by_zone: BTreeMap<ZoneName, Vec<usize>>,
}

type Ends = (ZoneName, ZoneName, ServiceName);

impl Segmentation {
    /// These zones and conduits, or everything that is wrong with them. An expired conduit is held to
    /// the same rules.
    pub fn new(zones: Vec<Zone>, conduits: Vec<Conduit>) -> Result<Self, ZoneFaults> {
        let mut faults = Vec::new();
        let mut by_name = BTreeMap::new();
        for (what, found, limit) in
            [("zones", zones.len(), MAX_ZONES), ("conduits", conduits.len(), MAX_CONDUITS)]
        {
            if found > limit {
                faults.push((Entry::Plant, ZoneFault::TooMany { what, found, limit }));
            }
        }
        for (at, zone) in zones.into_iter().enumerate() {
            let mut tell = |fault| faults.push((Entry::Zone(at), fault));
            report_zone(&zone, &mut tell);
            if let Some(twin) = by_name.insert(zone.name.clone(), zone) {
                tell(ZoneFault::DuplicateZone(twin.name));
            }
        }
        let (mut by_ends, mut by_zone) = (BTreeMap::new(), BTreeMap::<_, Vec<usize>>::new());
        for (at, conduit) in conduits.iter().enumerate() {
            for zone in [&conduit.from, &conduit.to] {
                by_zone.entry(zone.clone()).or_default().push(at);
            }
            let mut tell = |fault| faults.push((Entry::Conduit(at), fault));
            report_conduit(conduit, &by_name, &mut tell);
            if by_ends.insert(ends(&conduit.from, &conduit.to, &conduit.service), at).is_some() {
                tell(ZoneFault::DuplicateConduit(conduit.to_string()));
            }
        }
        if faults.is_empty() {
            Ok(Self { zones: by_name, conduits, by_ends, by_zone })
        } else {
            Err(ZoneFaults(faults))
        }
    }

    /// The zone with this name.
    #[must_use]
    pub fn zone(&self, name: &ZoneName) -> Option<&Zone> {
        self.zones.get(name)
    }

    /// Every zone, by name.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.zones.values()
    }

    /// The conduit of this service from one zone to another.
    #[must_use]
    pub fn conduit(&self, from: &ZoneName, to: &ZoneName, service: &ServiceName) -> Option<&Conduit> {
        self.by_ends.get(&ends(from, to, service)).and_then(|at| self.conduits.get(*at))
    }

    /// The conduits that lead from `zone` or to it, in the order of all.
    pub fn conduits_of(&self, zone: &ZoneName) -> impl Iterator<Item = &Conduit> {
        self.by_zone.get(zone).into_iter().flatten().filter_map(|at| self.conduits.get(*at))
    }

    /// Every conduit, open or expired, as given.
    #[must_use]
    pub fn conduits(&self) -> &[Conduit] {
        &self.conduits
    }

    /// The conduits from observing into enforcing zones: they stay on the status page.
    pub fn observed(&self) -> impl Iterator<Item = &Conduit> {
        self.conduits.iter().filter(|conduit| is_observed(conduit, &self.zones))
    }
}

fn ends(from: &ZoneName, to: &ZoneName, service: &ServiceName) -> Ends {
    (from.clone(), to.clone(), service.clone())
}

fn report_zone(zone: &Zone, tell: &mut impl FnMut(ZoneFault)) {
    for (claim, value) in zone.least.iter() {
        if !matches!(value.tier(), Tier::Affirming | Tier::Warning) {
            tell(ZoneFault::AcceptsContraindicated { zone: zone.name.clone(), claim, value });
        }
    }
    if zone.subnets.len() > MAX_SUBNETS {
        tell(ZoneFault::Subnets(zone.name.clone(), zone.subnets.len()));
    }
    if zone.mode == Mode::Observe {
        return;
    }
    if zone.least.iter().next().is_none() {
        tell(ZoneFault::AsksNothing(zone.name.clone()));
    }
    let asks_boot =
        zone.least.iter().any(|(claim, _)| matches!(claim, Claim::Executables | Claim::Configuration));
    if asks_boot && zone.products.is_empty() {
        tell(ZoneFault::NoProducts(zone.name.clone()));
    }
}

fn report_conduit(conduit: &Conduit, zones: &BTreeMap<ZoneName, Zone>, tell: &mut impl FnMut(ZoneFault)) {
    for zone in [&conduit.from, &conduit.to] {
        if !zones.contains_key(zone) {
            tell(ZoneFault::UnknownZone { conduit: conduit.to_string(), zone: zone.clone() });
        }
    }
    if conduit.from == conduit.to {
        tell(ZoneFault::SelfConduit(conduit.to_string()));
    }
    if is_observed(conduit, zones) && !conduit.accept_observed {
        tell(ZoneFault::Observed(conduit.to_string()));
    }
}

fn is_observed(conduit: &Conduit, zones: &BTreeMap<ZoneName, Zone>) -> bool {
    let mode = |zone| zones.get(zone).map(|zone| zone.mode);
    mode(&conduit.from) == Some(Mode::Observe) && mode(&conduit.to) == Some(Mode::Enforce)
}
