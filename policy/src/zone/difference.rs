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

/// Times of which gains are told, and of which losses are: each of a thousand conduits may have hours of its own.
const MAX_LATER: usize = 8;

/// What changes only later, with the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaterChanges {
    /// By the second from which it is so. What is told of a time is not told again of a later one.
    pub told: Vec<(UnixTime, PeerChanges)>,
    /// Further times at which conduits that differ begin to be open, or to be closed, as they were not before.
    pub left_out: usize,
}

/// What changes only later: for each conduit, when it is first open that was not, and first closed that was open.
#[must_use]
pub fn later_changes(
    before: &Segmentation,
    after: &Segmentation,
    members: &[Member],
    now: UnixTime,
) -> LaterChanges {
    let (mut opening, mut closing) = (BTreeSet::new(), BTreeSet::new());
    for [old, new] in differing(before, after) {
        let [opens, closes] = first_departures(old, new, now);
        opening.extend(opens);
        closing.extend(closes);
    }
    let all = opening.union(&closing).count();
    // Those that close soon leave room for those that open later.
    let times: BTreeSet<UnixTime> =
        closing.into_iter().take(MAX_LATER).chain(opening.into_iter().take(MAX_LATER)).collect();
    let mut later = LaterChanges { told: Vec::new(), left_out: all.saturating_sub(times.len()) };
    let mut told = peer_changes(before, after, members, now);
    for time in times {
        let mut changes = peer_changes(before, after, members, time);
        changes.gained.retain(|one| told.gained.insert(one.clone()));
        changes.lost.retain(|one| told.lost.insert(one.clone()));
        if !changes.is_empty() {
            later.told.push((time, changes));
        }
    }
    later
}

/// The conduits that are not the same before and after, as they were and as they are.
fn differing<'a>(
    before: &'a Segmentation,
    after: &'a Segmentation,
) -> impl Iterator<Item = [Option<&'a Conduit>; 2]> {
    let of = |graph: &'a Segmentation, one: &Conduit| graph.conduit(&one.from, &one.to, &one.service);
    let old = before.conduits().iter().map(move |old| [Some(old), of(after, old)]);
    let made = after.conduits().iter().filter(move |new| of(before, new).is_none());
    old.chain(made.map(|new| [None, Some(new)])).filter(|[old, new]| old != new)
}

/// When `new` is first open while `old` is not, and first closed while `old` is open, if that is not so at `now` already.
fn first_departures(old: Option<&Conduit>, new: Option<&Conduit>, now: UnixTime) -> [Option<UnixTime>; 2] {
    let both = || [old, new].into_iter().flatten();
    let schedules = || both().filter_map(|one| one.schedule.as_ref());
    // After an end, and from summer time on, hours may differ that were alike for longer than hours are looked ahead.
    let ends = both().filter_map(|one| one.expires).filter(|end| *end > now);
    let clocks = schedules().flat_map(|one| one.clock_changes(now));
    let begins: Vec<UnixTime> = [now].into_iter().chain(ends).chain(clocks).collect();
    let edges = begins.iter().flat_map(|begin| schedules().flat_map(|one| one.edges(*begin)));
    let moments: BTreeSet<UnixTime> = begins.iter().copied().chain(edges).collect();
    let open = |one: Option<&Conduit>, at| one.is_some_and(|one| one.is_open(at));
    let first = |one, other| {
        let departs = |at: &UnixTime| open(one, *at) && !open(other, *at);
        moments.iter().copied().find(departs).filter(|at| *at > now)
    };
    [first(new, old), first(old, new)]
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
