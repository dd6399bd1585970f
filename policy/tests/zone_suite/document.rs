//! The graph as one file: it reads back as it was, and every fault has its line.

use std::collections::BTreeMap;

use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::appraisal::policy::Mode;
use policy::time::UnixTime;
use policy::zone::difference::{Difference, peer_changes};
use policy::zone::document::{MAX_DOCUMENT, changed_fields, parse, render};
use policy::zone::function::Function;
use policy::zone::gate::{GateFail, GateRules};
use policy::zone::inspection::Member;
use policy::zone::model::{IntraZone, NameConstraint, Segmentation, SoftwareKeys, Timing, Zone};
use policy::zone::span::Span;
use policy::zone::{Conduit, DrillBounds, OnSilence};
use proptest::prelude::*;

pub(crate) const PLANT: &str = r#"schema = 1

[[zone]]
name = "cell-3"
function = "control"
mode = "enforce"
products = ["edge-box"]
reattest_every = "15m"
outlive_broker = "8h"

[[zone]]
name = "historian"
mode = "observe"
reattest_every = "1h"
outlive_broker = "1d"
two_person = true
[zone.least]
hardware = "warning"

[[conduit]]
from = "cell-3"
to = "historian"
service = "opcua"
schedule = "sat,sun 22:00-04:00 in Europe/Berlin"
expires = "2027-01-01T00:00:00Z"
"#;

#[test]
fn a_file_is_read_with_its_defaults() {
    let plant = parse(PLANT).unwrap();
    let cell = plant.zone(&"cell-3".parse().unwrap()).unwrap();
    let expected = Zone {
        function: Some(Function::Control),
        mode: Mode::Enforce,
        products: ["edge-box".parse().unwrap()].into(),
        ..Zone::new("cell-3".parse().unwrap())
    };
    assert_eq!(*cell, expected);
    let historian = plant.zone(&"historian".parse().unwrap()).unwrap();
    assert_eq!(historian.timing, Timing::new(3_600, 86_400, None).unwrap());
    let least = [(Claim::Hardware, ClaimValue::WARNING)].into();
    assert_eq!((&historian.least, historian.two_person), (&LeastClaims::new(least), true));
    assert_eq!(plant.conduits()[0].expires, Some("2027-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(parse(&render(&plant)).unwrap(), plant);
    let bare = PLANT.replace("\"2027-01-01T00:00:00Z\"", "2027-01-01T01:00:00+01:00");
    assert_eq!(parse(&bare).unwrap(), plant, "a time as TOML has it");
}

fn refused(from: &str, to: &str) -> String {
    assert!(PLANT.contains(from), "{from}");
    parse(&PLANT.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn faults_have_their_lines() {
    let told = refused("mode = \"enforce\"", "mode = \"maybe\"");
    assert!(told.contains("line 6, column 8") && told.contains("maybe"), "{told}");
    let told = refused("two_person", "two_persons");
    assert!(told.contains("line 16, column 1") && told.contains("two_persons"), "{told}");
    let told = refused("22:00", "25:00");
    assert!(told.contains("line 24, column 12") && told.contains("`25:00` is no time of day"), "{told}");
    let told = refused("reattest_every = \"1h\"", "reattest_every = \"13h\"");
    assert!(told.contains("line 11, column 1: zone historian: reattest_every is 46800 s"), "{told}");
    let told = refused("\"15m\"", "900");
    assert!(told.contains("line 8") && told.contains("for example \"15m\""), "{told}");
    let told = refused("\"2027-01-01T00:00:00Z\"", "2027");
    assert!(told.contains("line 25") && told.contains("write for example \"2027-"), "{told}");
    let told = refused("\"15m\"", "\"15\"");
    assert!(told.contains("line 8") && told.contains("`15` is no length of time"), "{told}");
    let told = refused("schema = 1", "schema = 2");
    assert!(told.contains("schema 2 is not known here"), "{told}");
    assert!(parse(&" ".repeat(MAX_DOCUMENT + 1)).unwrap_err().to_string().contains("are allowed"));
}

#[test]
fn what_does_not_fit_together_is_told_at_once() {
    let more = "[[conduit]]\nfrom = \"cell-3\"\nto = \"lab\"\nservice = \"ssh\"\n[[zone]]\nname = \"cell-3\"\nmode = \"observe\"\n\
                reattest_every = \"15m\"\noutlive_broker = \"8h\"\n";
    let told = parse(&format!("{PLANT}{more}")).unwrap_err().to_string();
    assert!(told.starts_with("the zones' file has 2 fault(s)"), "{told}");
    assert!(told.contains("line 26, column 1: conduit cell-3 -> lab ssh: there is no zone lab"), "{told}");
    assert!(told.contains("line 30, column 1: zone cell-3 is there twice"), "{told}");
}

#[test]
fn every_fault_of_a_file_is_told_at_once_with_its_line() {
    let text = r#"schema = 1
plant = "x"
[[zone]]
name = "cell-3"
mode = "maybe"
products = ["Edge Box", "edge-box", "edge box"]
reattest_every = 900
outlive_broker = "8h"
[zone.least]
hardware = "excellent"
luck = "warning"
[[zone]]
name = "Cell 4"
mode = "observe"
reattest_every = "15m"
[[zone]]
name = "lab"
mode = "enforce"
products = ["edge-box"]
reattest_every = "13h"
outlive_broker = "8h"
gate_drain = "2h"
[[zone]]
name = "cell-3"
mode = "observe"
reattest_every = "15m"
outlive_broker = "8h"
[[conduit]]
from = "cell-3"
to = "lab"
service = "ssh"
schedule = "sat 25:00-26:00"
expires = "soon"
[[conduit]]
from = "cell-3"
to = "lab"
service = "ssh"
[[conduit]]
from = "lab"
to = "lab"
service = "ssh"
shedule = "sat 20:00-21:00"
[[conduit]]
form = "lab"
to = "cell-3"
service = "ssh"
"#;
    let told = parse(text).unwrap_err().to_string();
    let found = told.lines().skip(1).map(|line| {
        let (place, said) = line.split_once(": ").unwrap();
        (place.strip_prefix("line ").unwrap().split_once(',').unwrap().0.parse::<usize>().unwrap(), said)
    });
    let found: Vec<(usize, &str)> = found.collect();
    let expected = [
        (2, "unknown field `plant`"),
        (5, "unknown variant `maybe`"),
        (6, "`Edge Box`"),
        (6, "`edge box`"),
        (7, "a length of time"),
        (10, "the least of a claim is affirming, warning or a number"),
        (11, "unknown variant `luck`"),
        (12, "missing field `outlive_broker`"),
        (13, "`Cell 4`"),
        (16, "zone lab: gate_drain"),
        (16, "zone lab: reattest_every is 46800 s"),
        (23, "zone cell-3 is there twice"),
        (32, "`25:00` is no time of day"),
        (33, "soon"),
        (34, "conduit cell-3 -> lab ssh is there twice"),
        (38, "conduit lab -> lab ssh stays in one zone"),
        (42, "unknown field `shedule`"),
        (43, "missing field `from`"),
        (44, "unknown field `form`"),
    ];
    assert_eq!(found.len(), expected.len(), "{told}");
    for ((at, said), (line, words)) in found.iter().zip(expected) {
        assert!(*at == line && said.contains(words), "line {line}, {words}: {said}\n{told}");
    }
}

#[test]
fn what_a_file_is_made_of_is_said_where_it_is_missing_or_something_else() {
    for (text, expected) in [
        (
            "zone = 1\n",
            &["missing field `schema`; write schema = 1", "`zone` is a list; write [[zone]] above each"][..],
        ),
        ("schema = 1\n[conduit]\n", &["line 2", "`conduit` is a list; write [[conduit]] above each"]),
        ("schema = \"one\"\n", &["line 1", "schema: invalid type"]),
    ] {
        let told = parse(text).unwrap_err().to_string();
        assert!(expected.iter().all(|words| told.contains(words)), "{text}: {told}");
    }
}

#[test]
fn what_cannot_be_read_of_a_zone_is_no_reason_to_find_others_wrong() {
    let told = refused("mode = \"enforce\"", "mode = \"maybe\"");
    assert!(told.starts_with("the zones' file has 1 fault(s)\nline 6, column 8"), "{told}");
    let told = refused("name = \"historian\"", "name = \"His Torian\"");
    assert!(told.starts_with("the zones' file has 1 fault(s)\nline 12"), "{told}");
    let into_enforcing =
        PLANT.replace("from = \"cell-3\"\nto = \"historian\"", "from = \"historian\"\nto = \"cell-3\"");
    let told = parse(&into_enforcing.replace("\"1h\"", "1")).unwrap_err().to_string();
    assert!(
        told.starts_with("the zones' file has 1 fault(s)\nline 14"),
        "whether it observes is not known: {told}"
    );
    let told = parse(&into_enforcing).unwrap_err().to_string();
    assert!(
        told.contains("line 20, column 1: conduit historian -> cell-3 opcua leads from a zone that observes"),
        "{told}"
    );
}

#[test]
fn equal_conduits_are_told_with_the_line_of_each() {
    let twice = "[[conduit]]\nfrom = \"cell-3\"\nto = \"lab\"\nservice = \"ssh\"\n".repeat(2);
    let told = parse(&format!("{PLANT}{twice}")).unwrap_err().to_string();
    for line in [
        "line 26, column 1: conduit cell-3 -> lab ssh: there is no zone lab",
        "line 30, column 1: conduit cell-3 -> lab ssh: there is no zone lab",
        "line 30, column 1: conduit cell-3 -> lab ssh is there twice",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

fn any_plant() -> impl Strategy<Value = Segmentation> {
    let zone =
        (any::<[bool; 5]>(), prop::option::of(prop::sample::select(Function::ALL.to_vec())), 5_u64..400);
    let zones = prop::collection::vec(zone, 4)
        .prop_map(|zones| zones.into_iter().enumerate().map(zone_of).collect::<Vec<_>>());
    let hours = prop::option::of(prop::sample::select(vec![
        "daily 01:16-02:00",
        "mon,fri 22:00-04:00 in Asia/Tokyo",
    ]));
    let conduit = (
        0..4_usize,
        0..4_usize,
        prop::sample::select(vec!["opcua", "ssh"]),
        hours,
        prop::option::of(0_u64..4_000_000_000),
    );
    (zones, prop::collection::vec(conduit, 0..12)).prop_map(|(zones, raw)| {
        let mut conduits = BTreeMap::new();
        for (from, to, service, hours, expires) in raw.into_iter().filter(|raw| raw.0 != raw.1) {
            let conduit = Conduit {
                from: zones[from].name.clone(),
                to: zones[to].name.clone(),
                service: service.parse().unwrap(),
                schedule: hours.map(|hours| hours.parse().unwrap()),
                expires: expires.map(UnixTime),
                accept_observed: true,
            };
            conduits.insert(conduit.to_string(), conduit);
        }
        Segmentation::new(zones, conduits.into_values().collect()).unwrap()
    })
}

fn zone_of((at, (flags, function, reattest)): (usize, ([bool; 5], Option<Function>, u64))) -> Zone {
    let [allow, two_person, soft, enforce, off] = flags;
    Zone {
        function,
        mode: if enforce { Mode::Enforce } else { Mode::Observe },
        timing: Timing::new(reattest, 900 + reattest, None).unwrap(),
        intra_zone: if allow { IntraZone::Allow } else { IntraZone::Deny },
        products: ["edge".parse().unwrap()].into(),
        two_person,
        token_admits: !two_person,
        idevid_admits: soft,
        gate: GateRules::new(
            if off { reattest % 3_600 } else { 0 },
            if soft { GateFail::Closed } else { GateFail::Open },
        )
        .unwrap(),
        on_silence: if enforce { OnSilence::Refuse } else { OnSilence::Alert },
        drills: allow.then(|| DrillBounds::new(Some(1 + reattest % 3_600), None).unwrap()),
        software_keys: if soft { SoftwareKeys::Allow } else { SoftwareKeys::Refuse },
        name_constraint: if off { NameConstraint::Off } else { NameConstraint::NonCritical },
        ..Zone::new(format!("z{at}").parse().unwrap())
    }
}

proptest! {
    #[test]
    fn a_graph_is_written_and_read_back(plant in any_plant()) {
        prop_assert_eq!(parse(&render(&plant)).unwrap(), plant);
    }

    #[test]
    fn cut_and_changed_files_are_read_or_refused(at in 0..PLANT.len(), byte in 0_u8..128) {
        let mut bytes = PLANT.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = parse(std::str::from_utf8(&bytes).unwrap());
    }

    #[test]
    fn spans_read_back(seconds: u64) {
        prop_assert_eq!(Span(seconds).to_string().parse::<Span>().unwrap(), Span(seconds));
    }

    /// Applying what a difference names makes one graph of the other, and nobody gains or loses when nothing differs.
    #[test]
    fn a_difference_names_everything(before in any_plant(), after in any_plant()) {
        let difference = Difference::between(&before, &after);
        let mut conduits: Vec<Conduit> = before
            .conduits()
            .iter()
            .filter(|one| !difference.conduits_removed.contains(one))
            .filter(|one| !difference.conduits_changed.iter().any(|new| new.to_string() == one.to_string()))
            .cloned()
            .collect();
        conduits.extend(difference.conduits_made.iter().chain(&difference.conduits_changed).cloned());
        let sorted = |conduits: &[Conduit]| {
            conduits.iter().map(|one| (one.to_string(), one.clone())).collect::<BTreeMap<_, _>>()
        };
        prop_assert_eq!(sorted(&conduits), sorted(after.conduits()));
        let members = [Member {
            device: "m".parse().unwrap(),
            zones: before.zones().map(|zone| zone.name.clone()).collect(),
            offers: ["opcua".parse().unwrap(), "ssh".parse().unwrap()].into(),
 two_sided: [].into(),
        }];
        let now = UnixTime(1_000_000);
        prop_assert_eq!(peer_changes(&before, &before, &members, now), Default::default());
        let there = peer_changes(&before, &after, &members, now);
        let back = peer_changes(&after, &before, &members, now);
        prop_assert_eq!((&there.gained, &there.lost), (&back.lost, &back.gained));
    }
}

#[test]
fn a_change_says_who_gains_and_who_loses() {
    let before = parse(PLANT).unwrap();
    let after = parse(&PLANT.replace("schedule = \"sat,sun 22:00-04:00 in Europe/Berlin\"\n", "")).unwrap();
    let members = [Member {
        device: "db-1".parse().unwrap(),
        zones: ["historian".parse().unwrap()].into(),
        offers: ["opcua".parse().unwrap(), "ssh".parse().unwrap()].into(),
        two_sided: [].into(),
    }];
    let thursday = "2026-11-26T12:00:00Z".parse().unwrap();
    let changes = peer_changes(&before, &after, &members, thursday);
    let gained: Vec<String> = changes
        .gained
        .iter()
        .map(|one| format!("{} {} {} {}", one.device, one.zone, one.service, one.from))
        .collect();
    assert_eq!((gained, changes.lost.len()), (vec!["db-1 historian opcua cell-3".to_owned()], 0));
    let difference = Difference::between(&before, &after);
    assert_eq!((difference.conduits_changed.len(), difference.conduits_made.len()), (1, 0));
    assert!(Difference::between(&before, &before).is_empty());
}

#[test]
fn a_file_of_too_much_is_refused_before_it_is_read_closely() {
    let conduits = vec!["{from=\"a\",to=\"a\",service=\"c\"}"; 10_001].join(",");
    let text = format!("schema = 1\nconduit = [{conduits}]\n");
    let refused = parse(&text).unwrap_err().to_string();
    assert_eq!(refused, "the zones' file has 1 fault(s)\nit has 10001 conduits; a plant has at most 10000");
    let few = vec!["{from=\"a\",to=\"a\",service=\"c\"}"; 500].join(",");
    let refused = parse(&format!("schema = 1\nconduit = [{few}]\n")).unwrap_err().to_string();
    let last = refused.lines().last().unwrap();
    assert!(refused.lines().count() == 102 && last.starts_with("and ") && last.ends_with(" more"), "{last}");
}

#[test]
fn a_claim_between_two_tiers_is_written_as_it_is() {
    let text = PLANT.replacen("mode = \"enforce\"", "mode = \"enforce\"\nleast = { executables = 2 }", 1);
    let plant = parse(&text).unwrap();
    assert!(render(&plant).contains("executables = 2"), "{}", render(&plant));
    assert_eq!(parse(&render(&plant)).unwrap(), plant);
}

#[test]
fn what_changes_of_a_zone_is_told_field_by_field() {
    let old = parse(PLANT).unwrap();
    let (old, mut new) = (old.zones().next().unwrap().clone(), old.zones().next().unwrap().clone());
    assert!(changed_fields(&old, &new).is_empty());
    new.two_person = !old.two_person;
    new.mode = Mode::Observe;
    let told = changed_fields(&old, &new);
    assert_eq!(told, ["mode: \"enforce\" -> \"observe\"", "two_person: false -> true"]);
}
