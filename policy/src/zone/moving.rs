//! Whom a device meets in its zones: what a move gains and loses.

use std::collections::{BTreeMap, BTreeSet};

use super::authorize::authorize;
use super::inspection::Member;
use super::model::Segmentation;
use crate::id::{ServiceName, ZoneName};
use crate::time::UnixTime;

/// A service of a zone.
pub type Place = (ZoneName, ServiceName);

/// The peers of a device, as far as zones and conduits say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Services that it may open, each with how many devices offer it.
    pub opens: BTreeMap<Place, usize>,
    /// Its own services, each with a zone whose devices may open it.
    pub opened_by: BTreeSet<Place>,
}

/// The peers that `device` has at `now` among `members`, itself not counted.
#[must_use]
pub fn peers(plant: &Segmentation, members: &[Member], device: &Member, now: UnixTime) -> Peers {
    let may = |from: &ZoneName, to: &ZoneName, service: &ServiceName| {
        authorize(plant, from, to, service, now).is_ok()
    };
    let mut found = Peers::default();
    let mut known = BTreeMap::new();
    for member in members.iter().filter(|member| member.device != device.device) {
        for (zone, service) in places(member) {
            // Alike for all devices of the zone: a thousand of them ask once.
            let opens = known.entry((zone, service));
            if *opens.or_insert_with(|| device.zones.iter().any(|from| may(from, zone, service))) {
                let count: &mut usize = found.opens.entry((zone.clone(), service.clone())).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
    for (zone, service) in places(device) {
        let callers = plant.zones().map(|zone| &zone.name).filter(|from| may(from, zone, service));
        found.opened_by.extend(callers.map(|from| (from.clone(), service.clone())));
    }
    found
}

fn places(member: &Member) -> impl Iterator<Item = (&ZoneName, &ServiceName)> {
    member.zones.iter().flat_map(|zone| member.offers.iter().map(move |service| (zone, service)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Conduit, Zone};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn member(device: &str, zones: &[&str], offers: &[&str]) -> Member {
        Member {
            device: device.parse().unwrap(),
            zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
            offers: offers.iter().map(|service| service.parse().unwrap()).collect(),
            two_sided: BTreeSet::new(),
        }
    }

    #[test]
    fn a_device_meets_what_its_zones_may_open_and_who_may_open_it() {
        let zone = |name: &str| Zone::new(name.parse().unwrap());
        let conduit = |from: &str, to: &str, service: &str| Conduit {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            service: service.parse().unwrap(),
            schedule: None,
            expires: None,
            accept_observed: false,
        };
        let zones = vec![zone("cell-3"), zone("cell-4"), zone("historian")];
        let conduits = vec![conduit("cell-3", "historian", "opcua"), conduit("historian", "cell-4", "ssh")];
        let plant = Segmentation::new(zones, conduits).unwrap();
        let members = [
            member("db-1", &["historian"], &["opcua", "ssh"]),
            member("db-2", &["historian"], &["opcua"]),
            member("press-7", &["cell-3"], &["ssh"]),
        ];
        let place = |zone: &str, service: &str| (zone.parse().unwrap(), service.parse().unwrap());
        let before = peers(&plant, &members, &members[2], NOW);
        assert_eq!(before.opens, [(place("historian", "opcua"), 2)].into());
        assert!(before.opened_by.is_empty());
        let after = peers(&plant, &members, &member("press-7", &["cell-4"], &["ssh"]), NOW);
        assert!(after.opens.is_empty());
        assert_eq!(after.opened_by, [place("historian", "ssh")].into());
    }
}
