//! What a change of zones and conduits means: what is made, changed and removed, and which devices gain or lose
//! which peers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::authorize::authorize;
use super::conduit::Conduit;
use super::inspection::Member;
use super::model::Segmentation;
use crate::id::{DeviceName, ServiceName, ZoneName};
use crate::time::UnixTime;

/// What differs between two graphs. A conduit that only has other hours is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Zones that are only in the second.
    pub zones_made: Vec<ZoneName>,
    /// Zones of both that differ.
    pub zones_changed: Vec<ZoneName>,
    /// Zones that are only in the first.
    pub zones_removed: Vec<ZoneName>,
    /// Conduits that are only in the second.
    pub conduits_made: Vec<Conduit>,
    /// Conduits of both that differ, as they are in the second.
    pub conduits_changed: Vec<Conduit>,
    /// Conduits that are only in the first.
    pub conduits_removed: Vec<Conduit>,
}

impl Difference {
    /// From `before` to `after`.
    #[must_use]
    pub fn between(before: &Segmentation, after: &Segmentation) -> Self {
        let mut found = Self::default();
        for zone in after.zones() {
            match before.zone(&zone.name) {
                None => found.zones_made.push(zone.name.clone()),
                Some(old) if old != zone => found.zones_changed.push(zone.name.clone()),
                Some(_) => {}
            }
        }
        let gone = before.zones().filter(|zone| after.zone(&zone.name).is_none());
        found.zones_removed = gone.map(|zone| zone.name.clone()).collect();
        for conduit in after.conduits() {
            match before.conduit(&conduit.from, &conduit.to, &conduit.service) {
                None => found.conduits_made.push(conduit.clone()),
                Some(old) if old != conduit => found.conduits_changed.push(conduit.clone()),
                Some(_) => {}
            }
        }
        let gone =
            before.conduits().iter().filter(|old| after.conduit(&old.from, &old.to, &old.service).is_none());
        found.conduits_removed = gone.cloned().collect();
        found
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A service of a device that another zone may open, or may no longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reachable {
    /// The device that offers it.
    pub device: DeviceName,
    /// In which of its zones.
    pub zone: ZoneName,
    /// The service.
    pub service: ServiceName,
    /// The zone whose devices may open it.
    pub from: ZoneName,
}

/// What devices gain and lose at `now`: peers that may open their services, and so, seen from the other side,
/// services that they may open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerChanges {
    /// What may be opened only after the change.
    pub gained: BTreeSet<Reachable>,
    /// What may be opened only before it.
    pub lost: BTreeSet<Reachable>,
}

impl PeerChanges {
    /// Whether nobody gains or loses anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Times at which conduits open, and at which they close, that are looked at beside now: each of a thousand may have hours of
/// its own.
const MAX_LATER: usize = 8;

/// What changes only later, with the time: conduits that differ are looked at when they open or close next, as they were
/// and as they would be. What is told of a time is not told again of a later one.
#[must_use]
pub fn later_changes(
    before: &Segmentation,
    after: &Segmentation,
    members: &[Member],
    now: UnixTime,
) -> Vec<(UnixTime, PeerChanges)> {
    let differs = |one: &&Conduit| !(before.conduits().contains(one) && after.conduits().contains(one));
    let conduits = before.conduits().iter().chain(after.conduits()).filter(differs);
    let edges = conduits.filter_map(|one| Some((one.is_open(now), one.hours().next_edge(now)?)));
    let (closing, opening): (BTreeSet<_>, BTreeSet<_>) = edges.partition(|(open, _)| *open);
    // Those that close soon leave room for those that open later.
    let times = closing.into_iter().take(MAX_LATER).chain(opening.into_iter().take(MAX_LATER));
    let times: BTreeSet<UnixTime> = times.map(|(_, time)| time).collect();
    let mut told = peer_changes(before, after, members, now);
    let mut later = Vec::new();
    for time in times {
        let mut changes = peer_changes(before, after, members, time);
        changes.gained.retain(|one| told.gained.insert(one.clone()));
        changes.lost.retain(|one| told.lost.insert(one.clone()));
        if !changes.is_empty() {
            later.push((time, changes));
        }
    }
    later
}

/// What a change from `before` to `after` means for these devices at `now`.
#[must_use]
pub fn peer_changes(
    before: &Segmentation,
    after: &Segmentation,
    members: &[Member],
    now: UnixTime,
) -> PeerChanges {
    let mut changes = PeerChanges::default();
    let zones: BTreeSet<&ZoneName> = before.zones().chain(after.zones()).map(|zone| &zone.name).collect();
    let mut known = std::collections::BTreeMap::new();
    for member in members {
        for (zone, service) in
            member.zones.iter().flat_map(|zone| member.offers.iter().map(move |s| (zone, s)))
        {
            // Alike for all devices of the zone: a thousand of them ask once.
            let changed: &Vec<(&ZoneName, bool)> = known.entry((zone, service)).or_insert_with(|| {
                let may = |plant, from| authorize(plant, from, zone, service, now).is_ok();
                let differs =
                    |from| (may(before, from) != may(after, from)).then(|| (from, may(after, from)));
                zones.iter().copied().filter_map(differs).collect()
            });
            for (from, gained) in changed {
                let reachable = Reachable {
                    device: member.device.clone(),
                    zone: zone.clone(),
                    service: service.clone(),
                    from: (*from).clone(),
                };
                if *gained {
                    changes.gained.insert(reachable)
                } else {
                    changes.lost.insert(reachable)
                };
            }
        }
    }
    changes
}
