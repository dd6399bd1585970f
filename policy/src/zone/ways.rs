//! Whom one service of one zone is open to, in one direction: a trust file as zones and hours, without certificates.
//!
//! The broker makes it of zones and conduits, a device of the trust set that it was sent. [`crate::access::decide`]
//! decides from it, so that both come to the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::authorize::{Refusal, through};
use super::hours::Hours;
use super::model::{IntraZone, Segmentation};
use super::schedule::Schedule;
use super::trust::{Direction, UnknownZone};
use crate::id::{ServiceName, ZoneName};
use crate::time::UnixTime;

/// The zone at the other end, and when. One that ended stays, so that a refusal can say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The zone at the other end; the zone itself where it allows traffic among its devices.
    pub zone: ZoneName,
    /// The hours of the week in which it is open; always, if there is none.
    pub schedule: Option<Schedule>,
    /// The first second at which it is closed for good, if it ends.
    pub expires: Option<UnixTime>,
}

impl Way {
    /// When it is open.
    #[must_use]
    pub const fn hours(&self) -> Hours<'_> {
        Hours { schedule: self.schedule.as_ref(), expires: self.expires }
    }
}

/// Every way to a service of a zone, or from the zone to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    own: ZoneName,
    service: ServiceName,
    direction: Direction,
    ways: BTreeMap<ZoneName, Way>,
}

impl Ways {
    /// The ways that zones and conduits make, seen from `own`.
    pub fn of(
        plant: &Segmentation,
        own: &ZoneName,
        service: &ServiceName,
        direction: Direction,
    ) -> Result<Self, UnknownZone> {
        let zone = plant.zone(own).ok_or_else(|| UnknownZone(own.clone()))?;
        let intra = (zone.intra_zone == IntraZone::Allow).then(|| own.clone());
        let intra = intra.map(|zone| Way { zone, schedule: None, expires: None });
        let named = plant.conduits_of(own).filter(|conduit| conduit.service == *service);
        let ends = named.filter_map(|conduit| {
            let (here, there) = match direction {
                Direction::Inbound => (&conduit.to, &conduit.from),
                Direction::Outbound => (&conduit.from, &conduit.to),
            };
            let way =
                || Way { zone: there.clone(), schedule: conduit.schedule.clone(), expires: conduit.expires };
            (here == own).then(way)
        });
        Ok(Self::stated(own.clone(), service.clone(), direction, intra.into_iter().chain(ends)))
    }

    /// The ways that somebody else stated. Of two to one zone the last counts.
    pub fn stated(
        own: ZoneName,
        service: ServiceName,
        direction: Direction,
        ways: impl IntoIterator<Item = Way>,
    ) -> Self {
        let ways = ways.into_iter().map(|way| (way.zone.clone(), way)).collect();
        Self { own, service, direction, ways }
    }

    /// The zone whose service it is, or that opens it.
    #[must_use]
    pub const fn own(&self) -> &ZoneName {
        &self.own
    }

    /// The service.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Who opens the service.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// The ways, by zone.
    pub fn iter(&self) -> impl Iterator<Item = &Way> {
        self.ways.values()
    }

    /// The way to or from `other`, if it is open at `now`.
    pub fn open(&self, other: &ZoneName, now: UnixTime) -> Result<&Way, Refusal> {
        let (from, to) = match self.direction {
            Direction::Inbound => (other, &self.own),
            Direction::Outbound => (&self.own, other),
        };
        match self.ways.get(other) {
            Some(way) => through(from, to, &self.service, way.hours(), now).map(|()| way),
            None if *other == self.own => Err(Refusal::IntraZone(other.clone())),
            None => {
                Err(Refusal::NoConduit { from: from.clone(), to: to.clone(), service: self.service.clone() })
            }
        }
    }
}
