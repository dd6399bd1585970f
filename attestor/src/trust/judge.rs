//! Decisions from a trust set about one service of this device, in one direction.

use std::collections::BTreeMap;

use policy::access::{Allowed, Decision, KnownAuthority, View, decide, decide_again};
use policy::id::{PlantDomain, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Ways;

use super::{Believed, Direction, TrustFile, TrustSet};

/// What a decision is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The device's zone.
    pub zone: &'a ZoneName,
    /// The service.
    pub service: &'a ServiceName,
    /// Who opens it.
    pub direction: Direction,
}

/// What a trust set says of one service, made ready for many decisions.
#[derive(Debug)]
pub struct Judge<'a> {
    plant: &'a PlantDomain,
    listed: bool,
    ways: Ways,
    /// Of a peer's zone alone: a plant has a thousand, and a peer is in one.
    authorities: BTreeMap<&'a ZoneName, Vec<KnownAuthority<'a>>>,
}

impl TrustSet {
    /// Who decides about `about` as the broker would that made this set.
    #[must_use]
    pub fn judge<'a>(&'a self, plant: &'a PlantDomain, about: &About<'_>) -> Judge<'a> {
        let of = |file: &&TrustFile| {
            (&file.zone, &file.service, file.direction) == (about.zone, about.service, about.direction)
        };
        let file = self.files.iter().find(of);
        let stated = file.map(|file| file.ways.clone()).unwrap_or_default();
        let (zone, service) = (about.zone.clone(), about.service.clone());
        let ways = Ways::stated(zone, service, about.direction.to_policy(), stated);
        let mut authorities: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for known in self.authorities.iter().map(Believed::known) {
            authorities.entry(known.zone).or_default().push(known);
        }
        Judge { plant, listed: file.is_some(), ways, authorities }
    }

    /// Decides about one peer as the broker would that made this set.
    #[must_use]
    pub fn decide(
        &self,
        plant: &PlantDomain,
        about: &About<'_>,
        certificate: &[u8],
        now: UnixTime,
    ) -> Decision {
        self.judge(plant, about).decide(certificate, now)
    }
}

impl Judge<'_> {
    /// Decides about the peer that showed `certificate`.
    #[must_use]
    pub fn decide(&self, certificate: &[u8], now: UnixTime) -> Decision {
        let all: Vec<KnownAuthority<'_>> = self.authorities.values().flatten().copied().collect();
        decide(&self.view(&all), certificate, now)
    }

    /// Decides again about a peer that was let in before, at the cost of some comparisons.
    #[must_use]
    pub fn again(&self, before: &Allowed, now: UnixTime) -> Decision {
        let known = self.authorities.get(before.zone());
        decide_again(&self.view(known.map_or(&[], Vec::as_slice)), before, now)
    }

    fn view<'b>(&'b self, authorities: &'b [KnownAuthority<'b>]) -> View<'b> {
        View { plant: self.plant, listed: self.listed, ways: &self.ways, authorities }
    }
}
