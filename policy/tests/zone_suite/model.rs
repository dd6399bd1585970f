//! Zones and conduits fit together, or everything that does not is told.

use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::appraisal::policy::Mode;
use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::Conduit;
use policy::zone::model::{MAX_OUTLIVE, MIN_OUTLIVE, Segmentation, Timing, TimingError, Zone, ZoneFault};

fn name(text: &str) -> ZoneName {
    text.parse().unwrap()
}

fn zone(text: &str, mode: Mode) -> Zone {
    let products = ["edge-box".parse().unwrap()].into();
    Zone { mode, products, ..Zone::new(name(text)) }
}

fn conduit(from: &str, to: &str, service: &str) -> Conduit {
    Conduit {
        from: name(from),
        to: name(to),
        service: service.parse().unwrap(),
        schedule: None,
        expires: None,
        accept_observed: false,
    }
}

fn faults(zones: Vec<Zone>, conduits: Vec<Conduit>) -> Vec<ZoneFault> {
    Segmentation::new(zones, conduits).unwrap_err().faults().iter().map(|(_, fault)| fault.clone()).collect()
}

#[test]
fn times_follow_from_three_numbers() {
    let timing = Timing::default();
    assert_eq!((timing.certificate_lifetime(), timing.replace_after()), (43_200, 14_400));
    assert_eq!(timing.certificate_lifetime() - timing.replace_after(), timing.outlive_broker());
    let short = Timing::new(60, MIN_OUTLIVE, None).unwrap();
    assert_eq!((short.silent_after(), short.certificate_lifetime()), (180, 1350));
    assert!(Timing::new(900, MAX_OUTLIVE, Some(900)).is_ok());
}

#[test]
fn numbers_out_of_bounds_are_named() {
    assert_eq!(Timing::new(60, MIN_OUTLIVE - 1, None), Err(TimingError::Outlive(899)));
    assert_eq!(Timing::new(60, MAX_OUTLIVE + 1, None), Err(TimingError::Outlive(MAX_OUTLIVE + 1)));
    assert_eq!(Timing::new(4, 28_800, None), Err(TimingError::Reattest { found: 4, most: 14_400 }));
    assert_eq!(Timing::new(451, 900, None), Err(TimingError::Reattest { found: 451, most: 450 }));
    assert_eq!(Timing::new(60, 900, Some(59)), Err(TimingError::Silent { found: 59, least: 60 }));
    let stored = "{\"reattest_every\":60,\"outlive_broker\":10}";
    let error = serde_json::from_str::<Timing>(stored).unwrap_err().to_string();
    assert!(error.contains("outlive_broker is 10 s"), "{error}");
}

#[test]
fn zones_and_conduits_read_back_as_they_were_stored() {
    let zone = zone("cell-3", Mode::Enforce);
    let json = serde_json::to_string(&zone).unwrap();
    assert_eq!(serde_json::from_str::<Zone>(&json).unwrap(), zone);
    let conduit = Conduit { expires: Some(UnixTime(5)), ..conduit("a", "b", "opcua") };
    let json = serde_json::to_string(&conduit).unwrap();
    assert_eq!(serde_json::from_str::<Conduit>(&json).unwrap(), conduit);
}

#[test]
fn a_conduit_needs_two_different_known_zones_and_is_there_once() {
    let zones = vec![zone("a", Mode::Enforce), zone("b", Mode::Enforce)];
    let conduits = vec![
        conduit("a", "a", "opcua"),
        conduit("a", "c", "opcua"),
        conduit("a", "b", "opcua"),
        conduit("a", "b", "opcua"),
    ];
    let text = "a -> b opcua".to_owned();
    assert_eq!(
        faults(zones, conduits),
        [
            ZoneFault::SelfConduit("a -> a opcua".to_owned()),
            ZoneFault::UnknownZone { conduit: "a -> c opcua".to_owned(), zone: name("c") },
            ZoneFault::DuplicateConduit(text),
        ]
    );
}

#[test]
fn an_observing_zone_reaches_an_enforcing_one_only_by_name() {
    let zones = || vec![zone("lab", Mode::Observe), zone("line", Mode::Enforce)];
    let refused = faults(zones(), vec![conduit("lab", "line", "opcua")]);
    assert_eq!(refused, [ZoneFault::Observed("lab -> line opcua".to_owned())]);
    let named = Conduit { accept_observed: true, ..conduit("lab", "line", "opcua") };
    let plant = Segmentation::new(zones(), vec![named, conduit("line", "lab", "ssh")]).unwrap();
    assert_eq!(plant.observed().map(ToString::to_string).collect::<Vec<_>>(), ["lab -> line opcua"]);
}

#[test]
fn an_enforcing_zone_asks_for_something_that_can_be_known() {
    let mut lax = zone("lax", Mode::Enforce);
    lax.least = LeastClaims::new([].into());
    let mut blind = zone("blind", Mode::Enforce);
    blind.products.clear();
    let mut fond = zone("fond", Mode::Observe);
    fond.least = LeastClaims::new([(Claim::Hardware, ClaimValue::NOT_RECOGNISED)].into());
    assert_eq!(
        faults(vec![lax, blind, fond.clone(), fond], vec![]),
        [
            ZoneFault::AsksNothing(name("lax")),
            ZoneFault::NoProducts(name("blind")),
            ZoneFault::AcceptsContraindicated {
                zone: name("fond"),
                claim: Claim::Hardware,
                value: ClaimValue::NOT_RECOGNISED
            },
            ZoneFault::AcceptsContraindicated {
                zone: name("fond"),
                claim: Claim::Hardware,
                value: ClaimValue::NOT_RECOGNISED
            },
            ZoneFault::DuplicateZone(name("fond")),
        ]
    );
}
