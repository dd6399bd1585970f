//! Flat spots are found by name, and what is sound is left in peace.

use policy::appraisal::policy::Mode;
use policy::time::UnixTime;
use policy::zone::function::Function;
use policy::zone::inspection::{Member, Spot, SpotKind, TwoSided, inspect};
use policy::zone::model::{IntraZone, Segmentation, Zone};
use policy::zone::{Conduit, authorize};

const NOW: &str = "2026-11-26T12:00:00Z";

fn now() -> UnixTime {
    NOW.parse().unwrap()
}

fn zone(name: &str, function: Option<Function>) -> Zone {
    Zone { function, ..Zone::new(name.parse().unwrap()) }
}

fn conduit(text: &str) -> Conduit {
    let parts: Vec<&str> = text.split(' ').collect();
    Conduit {
        from: parts[0].parse().unwrap(),
        to: parts[1].parse().unwrap(),
        service: parts[2].parse().unwrap(),
        schedule: None,
        expires: None,
        accept_observed: false,
    }
}

fn member(device: &str, zones: &[&str], offers: &[&str]) -> Member {
    Member {
        device: device.parse().unwrap(),
        zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
        offers: offers.iter().map(|service| service.parse().unwrap()).collect(),
        two_sided: [].into(),
    }
}

fn plant(zones: Vec<Zone>, conduits: Vec<Conduit>) -> Segmentation {
    Segmentation::new(zones, conduits).unwrap()
}

fn kinds(spots: &[Spot]) -> Vec<SpotKind> {
    spots.iter().map(|spot| spot.kind).collect()
}

/// A cell, a historian that reads it, and a vendor with hours.
fn sound() -> (Segmentation, Vec<Member>) {
    let zones = vec![
        zone("cell", Some(Function::Control)),
        zone("historian", Some(Function::It)),
        zone("vendor", Some(Function::Vendor)),
    ];
    let hours = Some("sun 02:00-06:00 in Europe/Berlin".parse().unwrap());
    let conduits =
        vec![conduit("cell historian mqtt"), Conduit { schedule: hours, ..conduit("vendor cell ssh") }];
    let members = vec![member("press-7", &["cell"], &["ssh"]), member("db", &["historian"], &["mqtt"])];
    (plant(zones, conduits), members)
}

#[test]
fn what_is_sound_has_no_spots() {
    let (plant, members) = sound();
    assert_eq!(inspect(&plant, &members, now()), []);
}

#[test]
fn zones_that_reach_each_other_are_one() {
    let zones = || ["a", "b", "c", "d"].map(|name| zone(name, None)).into();
    let ring = plant(zones(), vec![conduit("a b x"), conduit("b c x"), conduit("c a y"), conduit("c d x")]);
    let members = [member("m", &["a", "b", "c", "d"], &["x", "y"])];
    let spots = inspect(&ring, &members[..0], now());
    let mutual: Vec<&Spot> = spots.iter().filter(|spot| spot.kind == SpotKind::AnyToAny).collect();
    assert_eq!(mutual.len(), 1);
    assert!(mutual[0].sentence.starts_with("zones a, b, c reach each other"), "{}", mutual[0].sentence);
    let chain = plant(zones(), vec![conduit("a b x"), conduit("b c x"), conduit("c d x")]);
    assert!(!kinds(&inspect(&chain, &[], now())).contains(&SpotKind::AnyToAny));
    let ended = Conduit { expires: Some(UnixTime(1)), ..conduit("b a x") };
    let once = plant(zones(), vec![conduit("a b x"), ended]);
    assert!(!kinds(&inspect(&once, &[], now())).contains(&SpotKind::AnyToAny));
}

#[test]
fn a_service_for_all_is_for_nobody_in_particular() {
    let zones = ["a", "b", "c", "hub"].map(|name| zone(name, None)).into();
    let open = plant(zones, vec![conduit("a hub mqtt"), conduit("b hub mqtt"), conduit("c hub mqtt")]);
    let spots = inspect(&open, &[member("m", &["hub"], &["mqtt"])], now());
    assert_eq!(kinds(&spots), [SpotKind::OpenToAll]);
    assert_eq!(spots[0].about.as_deref(), Some("hub mqtt"));
}

#[test]
fn a_device_joins_only_zones_that_may_share_fate() {
    use Function::{Control, It, Safety, Sensors, Vendor};
    let joined = |first: Function, second: Function| {
        let zones = vec![zone("one", Some(first)), zone("two", Some(second))];
        let with = plant(zones, vec![conduit("one two x")]);
        let spots = inspect(&with, &[member("gw-1", &["one", "two"], &["x"])], now());
        spots.into_iter().find(|spot| spot.kind == SpotKind::SharedFate).map(|spot| spot.sentence)
    };
    let told = joined(Safety, Control).unwrap();
    assert!(told.contains("device gw-1 stands in zone one (safety) and in zone two (control)"), "{told}");
    for (first, second) in [(Control, It), (Sensors, Vendor), (It, Safety), (Vendor, Control)] {
        assert!(joined(first, second).is_some(), "{first} {second}");
    }
    for (first, second) in [(Control, Sensors), (It, Vendor), (Safety, Safety)] {
        assert_eq!(joined(first, second), None, "{first} {second}");
    }
}

#[test]
fn safety_beside_what_nobody_said_a_word_of_is_named() {
    let zones = vec![zone("sis", Some(Function::Safety)), zone("hall", None)];
    let gateway = member("gw-1", &["hall", "sis"], &["x"]);
    for conduits in [vec![], vec![conduit("sis hall x")]] {
        let spots = inspect(&plant(zones.clone(), conduits), std::slice::from_ref(&gateway), now());
        assert_eq!(kinds(&spots), [SpotKind::SharedFate]);
        let told = &spots[0].sentence;
        assert!(
            told.contains(
                "gw-1 stands in the safety zone sis and in zone hall, of which nobody said what it is for"
            ),
            "{told}"
        );
        assert!(told.contains("touchstone zone set hall --function safety"), "{told}");
    }
    let spots =
        inspect(&plant(zones, vec![conduit("hall sis x")]), &[member("plc", &["sis"], &["x"])], now());
    assert_eq!(kinds(&spots), [SpotKind::IntoSafety]);
    assert!(spots[0].sentence.contains("from hall, of which nobody said what it is for"), "{spots:?}");
}

#[test]
fn a_device_in_zones_without_a_conduit_bridges_them() {
    let zones = ["a", "b"].map(|name| zone(name, None)).to_vec();
    let apart = plant(zones.clone(), vec![]);
    let spots = inspect(&apart, &[member("gw-1", &["a", "b"], &[])], now());
    assert_eq!(kinds(&spots), [SpotKind::Bridge]);
    let together = plant(zones, vec![conduit("b a x")]);
    assert_eq!(inspect(&together, &[member("gw-1", &["a", "b"], &["x"])], now()), []);
}

#[test]
fn conduits_that_are_wrong_say_why() {
    let (sound, members) = sound();
    let with = |conduits: Vec<Conduit>, zones: Vec<Zone>| {
        let zones = sound.zones().cloned().chain(zones).collect();
        inspect(&plant(zones, conduits), &members, now())
    };
    let sunday = Some("sun 02:00-06:00".parse().unwrap());
    let end = |text: &str| Some(text.parse().unwrap());
    // 2026-11-29 is a Sunday.
    let never = Conduit {
        schedule: sunday.clone(),
        expires: end("2026-11-28T00:00:00Z"),
        ..conduit("vendor cell ssh")
    };
    let spots = with(vec![never], vec![]);
    assert_eq!(kinds(&spots), [SpotKind::NeverOpens]);
    assert!(
        spots[0].sentence.contains("sun 02:00-06:00, do not come before it ends 2026-11-28"),
        "{spots:?}"
    );
    let once =
        Conduit { schedule: sunday, expires: end("2026-11-30T00:00:00Z"), ..conduit("vendor cell ssh") };
    assert_eq!(with(vec![once], vec![]), []);
    let ended = Conduit { expires: end("2026-11-01T00:00:00Z"), ..conduit("vendor cell ssh") };
    assert_eq!(kinds(&with(vec![ended], vec![])), [SpotKind::Ended]);
    assert_eq!(kinds(&with(vec![conduit("cell historian sql")], vec![])), [SpotKind::NobodyOffers]);
    assert_eq!(kinds(&with(vec![conduit("vendor cell ssh")], vec![])), [SpotKind::StandingAccess]);
    let always = Conduit {
        schedule: Some("daily 00:00-24:00 in Europe/Berlin".parse().unwrap()),
        ..conduit("vendor cell ssh")
    };
    assert_eq!(kinds(&with(vec![always], vec![])), [SpotKind::StandingAccess], "hours that never close");
    let safety = vec![zone("sis", Some(Function::Safety))];
    let into = with(vec![conduit("cell sis modbus")], safety);
    assert_eq!(kinds(&into), [SpotKind::IntoSafety, SpotKind::NobodyOffers]);
}

#[test]
fn a_program_that_opens_and_serves_is_named() {
    let cell = plant(vec![zone("cell", None)], vec![]);
    let pair = TwoSided { client: "historian".parse().unwrap(), server: "hmi".parse().unwrap() };
    let box_ = Member { two_sided: [pair].into(), ..member("box-1", &["cell"], &[]) };
    let spots = inspect(&cell, &[box_], now());
    assert_eq!(kinds(&spots), [SpotKind::BothRoles]);
    let text = "workloads historian (client) and hmi (server) of device box-1 are one program";
    assert!(spots[0].sentence.starts_with(text) && !spots[0].kind.is_serious(), "{spots:?}");
}

#[test]
fn an_open_zone_of_several_devices_is_seen() {
    let open = Zone { intra_zone: IntraZone::Allow, ..zone("cell", None) };
    let alone = plant(vec![open], vec![]);
    let two = [member("a", &["cell"], &[]), member("b", &["cell"], &[])];
    assert_eq!(inspect(&alone, &two[..1], now()), []);
    let spots = inspect(&alone, &two, now());
    assert_eq!(kinds(&spots), [SpotKind::AnyToAny], "nothing is apart from anything");
    assert!(spots[0].sentence.starts_with("all 2 devices of the plant stand in zone cell"), "{spots:?}");
    let [a, b] = two;
    let spots = inspect(&alone, &[a, b, member("c", &[], &[])], now());
    assert_eq!(kinds(&spots), [SpotKind::OpenInside]);
    assert!(spots[0].sentence.starts_with("the 2 devices of zone cell"), "{spots:?}");
}

#[test]
fn observed_conduits_are_seen_and_serious_spots_come_first() {
    let enforcing =
        Zone { mode: Mode::Enforce, products: ["edge".parse().unwrap()].into(), ..zone("b", None) };
    let both = Conduit { accept_observed: true, ..conduit("a b x") };
    let mixed = plant(vec![zone("a", None), enforcing], vec![both, conduit("b a y")]);
    let found = kinds(&inspect(&mixed, &[], now()));
    assert_eq!(
        found,
        [SpotKind::AnyToAny, SpotKind::Observed, SpotKind::NobodyOffers, SpotKind::NobodyOffers]
    );
}

#[test]
fn outside_its_hours_a_conduit_is_closed_and_says_when_it_opens() {
    let (plant, _) = sound();
    let (vendor, cell, ssh) = ("vendor".parse().unwrap(), "cell".parse().unwrap(), "ssh".parse().unwrap());
    let refused = authorize(&plant, &vendor, &cell, &ssh, now()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the conduit vendor -> cell ssh is closed now: its hours are sun 02:00-06:00 in Europe/Berlin; it opens 2026-11-29T01:00:00Z"
    );
    assert!(authorize(&plant, &vendor, &cell, &ssh, "2026-11-29T01:00:00Z".parse().unwrap()).is_ok());
}
