//! Trust files say exactly what conduits say, in both directions, and `authorize` agrees with them.

use std::collections::BTreeSet;

use policy::appraisal::policy::Mode;
use policy::id::{ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Conduit;
use policy::zone::authorize::{Allowed, Refusal, authorize};
use policy::zone::model::{IntraZone, Segmentation, Zone};
use policy::zone::trust::{
    AuthorityRef, Believed, Direction, Placement, Role, TrustFiles, UnknownZone, compile,
};
use proptest::prelude::*;

pub(crate) const ZONES: [&str; 4] = ["a", "b", "c", "d"];
pub(crate) const SERVICES: [&str; 3] = ["opcua", "ssh", "mqtt"];
pub(crate) const NOW: UnixTime = UnixTime(1_000);

pub(crate) fn zone_name(text: &str) -> ZoneName {
    text.parse().unwrap()
}

pub(crate) fn services(names: &[&str]) -> BTreeSet<ServiceName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn conduit(from: &str, to: &str, service: &str, expires: Option<u64>) -> Conduit {
    Conduit {
        from: zone_name(from),
        to: zone_name(to),
        service: service.parse().unwrap(),
        schedule: None,
        expires: expires.map(UnixTime),
        accept_observed: false,
    }
}

fn plant(intra: IntraZone, conduits: Vec<Conduit>) -> Segmentation {
    let zone = |name: &&str| Zone { intra_zone: intra, mode: Mode::Observe, ..Zone::new(zone_name(name)) };
    Segmentation::new(ZONES.iter().map(zone).collect(), conduits).unwrap()
}

pub(crate) fn placement(zone: &str, offers: &[&str], zone_offers: &[&str]) -> Placement {
    Placement { zone: zone_name(zone), offers: services(offers), zone_offers: services(zone_offers) }
}

fn believed(files: &TrustFiles, service: &str, direction: Direction) -> Option<Believed> {
    let wanted = |file: &&policy::zone::trust::TrustFile| {
        file.service.as_str() == service && file.direction == direction
    };
    files.files.iter().find(wanted).map(|file| file.believed.clone())
}

fn authorities(zones: &[&str], role: Role) -> Option<Believed> {
    let list = zones.iter().map(|zone| AuthorityRef { zone: zone_name(zone), role }).collect();
    Some(Believed::Authorities(list))
}

#[test]
fn a_conduit_opens_one_service_in_one_direction() {
    let plant = plant(IntraZone::Deny, vec![conduit("a", "b", "opcua", None)]);
    let listener = compile(&plant, &placement("b", &["opcua", "ssh"], &[]), NOW).unwrap();
    assert_eq!(believed(&listener, "opcua", Direction::Inbound), authorities(&["a"], Role::Caller));
    assert_eq!(believed(&listener, "opcua", Direction::Outbound), Some(Believed::Nobody));
    assert_eq!(believed(&listener, "ssh", Direction::Inbound), Some(Believed::Nobody));
    let caller = compile(&plant, &placement("a", &[], &[]), NOW).unwrap();
    assert_eq!(believed(&caller, "opcua", Direction::Outbound), authorities(&["b"], Role::Listener));
    assert_eq!(believed(&caller, "opcua", Direction::Inbound), None);
}

#[test]
fn a_conduit_that_ended_leaves_a_file_for_nobody() {
    let plant = plant(IntraZone::Deny, vec![conduit("a", "b", "opcua", Some(1_000))]);
    let before = compile(&plant, &placement("a", &[], &[]), UnixTime(999)).unwrap();
    assert_eq!(before.until, Some(UnixTime(1_000)));
    assert_eq!(believed(&before, "opcua", Direction::Outbound), authorities(&["b"], Role::Listener));
    let after = compile(&plant, &placement("a", &[], &[]), NOW).unwrap();
    assert_eq!(believed(&after, "opcua", Direction::Outbound), Some(Believed::Nobody));
    assert_eq!(after.until, None);
}

#[test]
fn a_zone_that_allows_it_believes_itself() {
    let plant = plant(IntraZone::Allow, vec![conduit("a", "b", "opcua", None)]);
    let files = compile(&plant, &placement("b", &["opcua"], &["ssh"]), NOW).unwrap();
    assert_eq!(believed(&files, "opcua", Direction::Inbound), authorities(&["a", "b"], Role::Caller));
    assert_eq!(believed(&files, "ssh", Direction::Outbound), authorities(&["b"], Role::Listener));
}

#[test]
fn a_refusal_says_why() {
    let closed = plant(IntraZone::Deny, vec![conduit("a", "b", "opcua", Some(900))]);
    let (a, b, opcua) = (zone_name("a"), zone_name("b"), "opcua".parse().unwrap());
    let refused = |from: &ZoneName, to: &ZoneName| authorize(&closed, from, to, &opcua, NOW).unwrap_err();
    let (from, to, service) = (a.clone(), b.clone(), opcua.clone());
    assert_eq!(refused(&a, &b), Refusal::Expired { from, to, service, at: UnixTime(900), hours: None });
    let (from, to, service) = (b.clone(), a.clone(), opcua.clone());
    assert_eq!(refused(&b, &a), Refusal::NoConduit { from, to, service });
    assert_eq!(refused(&a, &a), Refusal::IntraZone(a.clone()));
    assert_eq!(refused(&zone_name("x"), &a), Refusal::UnknownZone(zone_name("x")));
    assert_eq!(compile(&closed, &placement("x", &[], &[]), NOW), Err(UnknownZone(zone_name("x"))));
    let hours = Conduit {
        schedule: Some("fri 00:00-01:00".parse().unwrap()),
        ..conduit("a", "b", "opcua", Some(900))
    };
    let ended = authorize(&plant(IntraZone::Deny, vec![hours]), &a, &b, &opcua, NOW).unwrap_err();
    assert_eq!(
        ended.remedy(),
        "touchstone conduit allow --from a --to b --service opcua --schedule 'fri 00:00-01:00' --until TIME"
    );
    let open = plant(IntraZone::Allow, vec![conduit("a", "b", "opcua", Some(1_001))]);
    assert!(matches!(authorize(&open, &a, &b, &opcua, NOW), Ok(Allowed::Conduit(_))));
    assert_eq!(authorize(&open, &a, &a, &opcua, NOW), Ok(Allowed::IntraZone(a)));
}

pub(crate) fn any_plant() -> impl Strategy<Value = Segmentation> {
    // At NOW, a Thursday in 1970, the first is open, the second opens in an hour, the third on another day.
    let hours = prop::sample::select(vec!["thu 00:00-01:00", "daily 01:16-02:00", "mon,fri 22:00-04:00"]);
    let when = (prop::option::of(995_u64..1_005), prop::option::of(hours));
    let raw = (0..4_usize, 0..4_usize, 0..3_usize, when);
    let zones = prop::collection::vec(any::<bool>(), 4);
    (zones, prop::collection::vec(raw, 0..12)).prop_map(|(allow, raw)| {
        let zones = ZONES.iter().zip(allow).map(|(name, allow)| Zone {
            intra_zone: if allow { IntraZone::Allow } else { IntraZone::Deny },
            ..Zone::new(zone_name(name))
        });
        let mut seen = BTreeSet::new();
        let conduits = raw
            .into_iter()
            .filter(|(from, to, service, _)| from != to && seen.insert((*from, *to, *service)))
            .map(|(from, to, service, (expires, hours))| Conduit {
                schedule: hours.map(|hours| hours.parse().unwrap()),
                ..conduit(ZONES[from], ZONES[to], SERVICES[service], expires)
            })
            .collect();
        Segmentation::new(zones.collect(), conduits).unwrap()
    })
}

/// What the model says, by its own definition: an open conduit, or one zone that allows it.
pub(crate) fn is_allowed(plant: &Segmentation, from: &str, to: &str, service: &str) -> bool {
    let intra = from == to && plant.zone(&zone_name(from)).unwrap().intra_zone == IntraZone::Allow;
    intra
        || plant.conduits().iter().any(|c| {
            let ended = c.expires.is_some_and(|end| end <= NOW);
            let hours = c.schedule.as_ref().is_none_or(|hours| hours.to_string().starts_with("thu"));
            (c.from.as_str(), c.to.as_str(), c.service.as_str()) == (from, to, service) && hours && !ended
        })
}

fn names(files: &TrustFiles, service: &str, direction: Direction, zone: &str, role: Role) -> bool {
    let wanted = AuthorityRef { zone: zone_name(zone), role };
    believed(files, service, direction).is_some_and(|b| b.authorities().any(|a| *a == wanted))
}

proptest! {
    #[test]
    fn files_say_what_conduits_say_and_authorize_agrees(plant in any_plant()) {
        for to in ZONES {
            let listener = compile(&plant, &placement(to, &SERVICES, &SERVICES), NOW).unwrap();
            for from in ZONES {
                let caller = compile(&plant, &placement(from, &[], &SERVICES), NOW).unwrap();
                for service in SERVICES {
                    let allowed = is_allowed(&plant, from, to, service);
                    prop_assert_eq!(names(&listener, service, Direction::Inbound, from, Role::Caller), allowed);
                    prop_assert_eq!(names(&caller, service, Direction::Outbound, to, Role::Listener), allowed);
                    let decision =
                        authorize(&plant, &zone_name(from), &zone_name(to), &service.parse().unwrap(), NOW);
                    prop_assert_eq!(decision.is_ok(), allowed);
                }
            }
        }
    }

    #[test]
    fn a_file_keeps_its_direction_and_is_never_an_empty_list(plant in any_plant(), zone in 0..4_usize) {
        let files = compile(&plant, &placement(ZONES[zone], &SERVICES, &[]), NOW).unwrap();
        for file in &files.files {
            let role = match file.direction {
                Direction::Inbound => Role::Caller,
                Direction::Outbound => Role::Listener,
            };
            prop_assert!(file.believed.authorities().all(|authority| authority.role == role));
            prop_assert_ne!(&file.believed, &Believed::Authorities(BTreeSet::new()));
        }
        let edge = files.until;
        prop_assert!(edge.is_none_or(|edge| edge > NOW));
        // Nothing changes before the edge.
        let place = placement(ZONES[zone], &SERVICES, &[]);
        let last = edge.map_or(NOW.plus(9 * 86_400), |edge| edge.minus(1));
        for at in [NOW.plus(last.since(NOW) / 2), last] {
            let later = compile(&plant, &place, at).unwrap();
            let believed = |files: &TrustFiles| {
                files.files.iter().map(|file| file.believed.clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(believed(&later), believed(&files));
        }
        let json = serde_json::to_string(&files).unwrap();
        prop_assert_eq!(serde_json::from_str::<TrustFiles>(&json).unwrap(), files);
    }
}
