//! Compiles conduits into trust files: for each service and direction, the authorities that a device
//! believes.
//!
//! What this module does not promise: certificates and CRLs of the authorities are put in by the
//! broker, and a file for nobody gets an authority whose key was never kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::conduit::Conduit;
use super::model::{IntraZone, Segmentation};
use super::schedule::Schedule;
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
    let zone = plant.zone(&device.zone).ok_or_else(|| UnknownZone(device.zone.clone()))?;
    let own = match zone.intra_zone {
        IntraZone::Allow => Some(&device.zone),
        IntraZone::Deny => None,
    };
    let conduits = || plant.conduits().iter();
    let inbound = |service: &ServiceName| {
        let of = conduits().filter(|c| c.to == device.zone && c.service == *service);
        file(service, Direction::Inbound, of.map(|c| (&c.from, c)), own, now)
    };
    let outbound = |service: &ServiceName| {
        let of = conduits().filter(|c| c.from == device.zone && c.service == *service);
        file(service, Direction::Outbound, of.map(|c| (&c.to, c)), own, now)
    };
    let named = conduits().filter(|c| c.from == device.zone).map(|c| &c.service);
    let reachable: BTreeSet<&ServiceName> =
        device.offers.iter().chain(&device.zone_offers).chain(named).collect();
    let mut files: Vec<TrustFile> =
        device.offers.iter().map(inbound).chain(reachable.into_iter().map(outbound)).collect();
    files.sort_by(|a, b| (&a.service, a.direction).cmp(&(&b.service, b.direction)));
    Ok(TrustFiles { files, until: next_edge(plant.conduits(), &device.zone, now) })
}

/// The file of a service and direction, from the conduits that concern it, each with the zone at its other end.
fn file<'a>(
    service: &ServiceName,
    direction: Direction,
    conduits: impl Iterator<Item = (&'a ZoneName, &'a Conduit)>,
    own: Option<&ZoneName>,
    now: UnixTime,
) -> TrustFile {
    let role = match direction {
        Direction::Inbound => Role::Caller,
        Direction::Outbound => Role::Listener,
    };
    let (mut zones, mut openings): (BTreeSet<ZoneName>, Vec<Opening>) =
        (own.cloned().into_iter().collect(), Vec::new());
    for (zone, conduit) in conduits {
        if conduit.is_open(now) {
            zones.insert(zone.clone());
        }
        if (conduit.schedule.is_some() || conduit.expires.is_some()) && !conduit.has_ended(now) {
            let authority = AuthorityRef { zone: zone.clone(), role };
            openings.push(Opening {
                authority,
                schedule: conduit.schedule.clone(),
                expires: conduit.expires,
            });
        }
    }
    TrustFile { service: service.clone(), direction, believed: Believed::new(zones, role), openings }
}

fn next_edge(conduits: &[Conduit], zone: &ZoneName, now: UnixTime) -> Option<UnixTime> {
    let touches = |c: &&Conduit| c.from == *zone || c.to == *zone;
    conduits.iter().filter(touches).filter_map(|c| c.hours().next_edge(now)).min()
}
