//! Compiles conduits into trust files: for each service and direction, the authorities that a device
//! believes.
//!
//! What this module does not promise: certificates and CRLs of the authorities are put in by the
//! broker, and a file for nobody gets an authority whose key was never kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::conduit::Conduit;
use super::model::Segmentation;
use super::schedule::Schedule;
use super::ways::{Way, Ways};
use crate::id::{ServiceName, ZoneName};
use crate::time::UnixTime;

/// Which of the two authorities of a zone, and which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Opens connections: TLS client certificates.
    Caller,
    /// Accepts connections: TLS server certificates.
    Listener,
}

/// An authority by the zone and the role it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuthorityRef {
    /// The zone.
    pub zone: ZoneName,
    /// The role.
    pub role: Role,
}

/// The direction of a trust file, seen from the device that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Who may open the service on this device.
    Inbound,
    /// Whose service a client on this device may believe.
    Outbound,
}

impl Direction {
    /// What the peer is: one that calls, or one that listens.
    #[must_use]
    pub const fn peer(self) -> Role {
        match self {
            Self::Inbound => Role::Caller,
            Self::Outbound => Role::Listener,
        }
    }
}

/// Whom a trust file names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Believed {
    /// Nobody: the file must still be there, and refuse everybody.
    Nobody,
    /// These authorities; never empty.
    Authorities(BTreeSet<AuthorityRef>),
}

impl Believed {
    fn new(zones: BTreeSet<ZoneName>, role: Role) -> Self {
        if zones.is_empty() {
            return Self::Nobody;
        }
        Self::Authorities(zones.into_iter().map(|zone| AuthorityRef { zone, role }).collect())
    }

    /// The authorities; none for nobody.
    pub fn authorities(&self) -> impl Iterator<Item = &AuthorityRef> {
        match self {
            Self::Nobody => None,
            Self::Authorities(authorities) => Some(authorities),
        }
        .into_iter()
        .flatten()
    }
}

/// One trust file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustFile {
    /// The service.
    pub service: ServiceName,
    /// The direction.
    pub direction: Direction,
    /// Whom it names now.
    pub believed: Believed,
    /// When it names whom it does not always name, so that the device needs nobody to open and close on time.
    pub openings: Vec<Opening>,
    /// Every way that it says, open or not: what a decision about one peer names as its reason.
    pub ways: Vec<Way>,
}

/// An authority that a file names in certain hours only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The authority.
    pub authority: AuthorityRef,
    /// The hours of the week, if not always.
    pub schedule: Option<Schedule>,
    /// The first second at which it is over for good, if it ends.
    pub expires: Option<UnixTime>,
}

/// All trust files of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustFiles {
    /// The files, by service and direction.
    pub files: Vec<TrustFile>,
    /// When the next conduit of the zone opens or closes and the files must be compiled again.
    pub until: Option<UnixTime>,
}

/// A device in a zone, by the services that are offered there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The zone.
    pub zone: ZoneName,
    /// Services that the device offers.
    pub offers: BTreeSet<ServiceName>,
    /// Services that any device of the zone offers.
    pub zone_offers: BTreeSet<ServiceName>,
}

impl Placement {
    /// Whether the device has a trust file for `service` in this direction: it offers the service; or its zone does, or
    /// a conduit leads there.
    #[must_use]
    pub fn lists(&self, plant: &Segmentation, service: &ServiceName, direction: Direction) -> bool {
        let leads = |conduit: &Conduit| conduit.from == self.zone && conduit.service == *service;
        let offers = self.offers.contains(service);
        match direction {
            Direction::Inbound => offers,
            Direction::Outbound => {
                offers || self.zone_offers.contains(service) || plant.conduits_of(&self.zone).any(leads)
            }
        }
    }
}

/// Trust files cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no zone {0}; create it or move the device")]
pub struct UnknownZone(pub ZoneName);

/// Compiles the trust files of a device at `now`.
///
/// An inbound file for each service that it offers; an outbound file for each service that its zone
/// offers or that a conduit names, a closed one too: a file that was there does not vanish, it
/// turns to nobody.
pub fn compile(plant: &Segmentation, device: &Placement, now: UnixTime) -> Result<TrustFiles, UnknownZone> {
    let zone = &device.zone;
    plant.zone(zone).ok_or_else(|| UnknownZone(zone.clone()))?;
    let reached = reached(plant, zone, &device.zone_offers);
    let files = listed(&device.offers, &reached).into_iter();
    let files = files.map(|(service, direction)| trust_file(plant, zone, service, direction, now));
    Ok(TrustFiles { files: files.collect::<Result<_, _>>()?, until: next_edge(plant, zone, now) })
}

/// The trust file of every device of `zone` that has one for `service` in this direction.
pub fn trust_file(
    plant: &Segmentation,
    zone: &ZoneName,
    service: &ServiceName,
    direction: Direction,
    now: UnixTime,
) -> Result<TrustFile, UnknownZone> {
    Ways::of(plant, zone, service, direction).map(|ways| file(&ways, now))
}

/// The services that every device of `zone` has an outbound file for, of which `zone_offers` are offered there.
#[must_use]
pub fn reached(
    plant: &Segmentation,
    zone: &ZoneName,
    zone_offers: &BTreeSet<ServiceName>,
) -> BTreeSet<ServiceName> {
    let named = plant.conduits_of(zone).filter(|conduit| conduit.from == *zone);
    named.map(|conduit| &conduit.service).chain(zone_offers).cloned().collect()
}

/// The files of a device that offers `offers`, where the zone reaches `reached`.
#[must_use]
pub fn listed<'a>(
    offers: &'a BTreeSet<ServiceName>,
    reached: &'a BTreeSet<ServiceName>,
) -> BTreeSet<(&'a ServiceName, Direction)> {
    let inbound = offers.iter().map(|service| (service, Direction::Inbound));
    let outbound = offers.iter().chain(reached).map(|service| (service, Direction::Outbound));
    inbound.chain(outbound).collect()
}

/// When the next conduit of `zone` opens or closes, and its files are others.
#[must_use]
pub fn next_edge(plant: &Segmentation, zone: &ZoneName, now: UnixTime) -> Option<UnixTime> {
    plant.conduits_of(zone).filter_map(|conduit| conduit.hours().next_edge(now)).min()
}

/// The file that says these ways.
fn file(ways: &Ways, now: UnixTime) -> TrustFile {
    let role = ways.direction().peer();
    let (mut zones, mut openings) = (BTreeSet::new(), Vec::new());
    for way in ways.iter() {
        let hours = way.hours();
        if hours.is_open(now) {
            zones.insert(way.zone.clone());
        }
        if (way.schedule.is_some() || way.expires.is_some()) && !hours.has_ended(now) {
            let authority = AuthorityRef { zone: way.zone.clone(), role };
            openings.push(Opening { authority, schedule: way.schedule.clone(), expires: way.expires });
        }
    }
    TrustFile {
        service: ways.service().clone(),
        direction: ways.direction(),
        believed: Believed::new(zones, role),
        openings,
        ways: ways.iter().cloned().collect(),
    }
}
