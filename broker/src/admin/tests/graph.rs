//! Zones and conduits from one file.

use std::fmt::Write as _;

use policy::zone::{Role, SpotKind, TwoSided};

use super::office::Office;
use super::{Bench, NOW, enforcing, observing, refused};
use crate::admin::conduit::Unoffered;
use crate::admin::device::view::State;
use crate::admin::device::why::why;
use crate::admin::reach::Scope;
use crate::admin::{Act, graph, zone};
use crate::record::device::{Attested, Decision, attested_key};
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::plant::{AdminRole, TRUST, TrustHead};
use crate::record::stage::STAGE;
use crate::record::stored;
use crate::store::Txn;
use crate::trust;

const SCHEMA: &str = "schema = 1\n";

fn zones(names: &[&str]) -> String {
    let mut text = String::new();
    for name in names {
        let _ = write!(
            text,
            "[[zone]]\nname = \"{name}\"\nmode = \"observe\"\nproducts = [\"edge-box\"]\nreattest_every = \"15m\"\noutlive_broker = \"8h\"\n"
        );
    }
    text
}

fn conduit(from: &str, to: &str) -> String {
    format!("[[conduit]]\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"opcua\"\n")
}

async fn document(bench: &Bench) -> String {
    graph::view(&bench.plant, &Scope::Plant).await.unwrap().document
}

async fn apply(bench: &Bench, text: &str) -> graph::Planned {
    let (actor, seen) = (bench.actor(Act::ApplyGraph).await, document(bench).await);
    graph::apply(&bench.plant, &actor, text, &seen, Unoffered::Refuse, false).await.unwrap()
}

#[tokio::test]
async fn a_file_of_any_size_makes_its_zones_all_at_once() {
    let bench = Bench::new().await;
    let names: Vec<String> = (0..60).map(|at| format!("cell-{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = format!("{SCHEMA}{}{}", zones(&names), conduit("cell-0", "cell-1"));
    let head = bench.read::<TrustHead>(TRUST.to_owned()).await.n;
    let planned = apply(&bench, &text).await;
    assert_eq!((planned.difference.zones_made.len(), planned.difference.conduits_made.len()), (60, 1));
    assert_eq!(bench.read::<TrustHead>(TRUST.to_owned()).await.n, head + 1);
    let known = trust::segmentation(&bench.plant).await.unwrap();
    assert_eq!((known.zones().count(), known.conduits().len()), (60, 1));
    let authorities = zone::authorities(&bench.plant, &Scope::Plant).await.unwrap();
    assert_eq!(authorities.len(), 120);
    assert!(trust::view(&bench.plant).await.is_ok(), "they sign");
    assert!(apply(&bench, &text).await.difference.is_empty(), "it is so already");
    assert_eq!(apply(&bench, &document(&bench).await).await.difference, Default::default());
}

#[tokio::test]
async fn what_a_file_leaves_out_is_removed_but_no_device_loses_its_zone() {
    let bench = Bench::new().await;
    for name in ["cell-3", "historian"] {
        bench.zone(&observing(name)).await;
    }
    bench.device("press-7", &["cell-3"]).await;
    let both = format!("{SCHEMA}{}{}", zones(&["cell-3", "historian"]), conduit("historian", "cell-3"));
    let planned = apply(&bench, &both).await;
    let gained: Vec<String> = planned
        .peers
        .gained
        .iter()
        .map(|one| format!("{} {} {}", one.device, one.service, one.from))
        .collect();
    assert_eq!(gained, ["press-7 opcua historian"]);
    let actor = bench.actor(Act::ApplyGraph).await;
    let (seen, lone) = (document(&bench).await, format!("{SCHEMA}{}", zones(&["historian"])));
    let text =
        refused!(graph::apply(&bench.plant, &actor, &lone, &seen, Unoffered::Refuse, false).await, Conflict);
    assert!(text.contains("leaves out zone cell-3, in which 1 device(s) stand, press-7 for one"), "{text}");
    let before = bench.revision();
    let rest = format!("{SCHEMA}{}", zones(&["cell-3"]));
    graph::apply(&bench.plant, &actor, &rest, &seen, Unoffered::Refuse, true).await.unwrap();
    assert_eq!(bench.revision(), before, "a dry run writes nothing");
    let planned = apply(&bench, &rest).await;
    assert_eq!((planned.difference.zones_removed.len(), planned.peers.lost.len()), (1, 1));
    let known = trust::segmentation(&bench.plant).await.unwrap();
    assert_eq!((known.zones().count(), known.conduits().len()), (1, 0));
    assert!(bench.plant.store.scan(STAGE, None, 10).await.unwrap().len() <= 1, "only what is new is staged");

    // Made again, it is another zone: nobody believes its first authorities.
    bench.zone(&observing("historian")).await;
    let all = zone::authorities(&bench.plant, &Scope::Plant).await.unwrap();
    let callers = all
        .iter()
        .filter(|view| view.record.zone.as_str() == "historian" && view.record.role == Role::Caller);
    assert_eq!(callers.map(|view| view.record.generation).collect::<Vec<_>>(), [1, 2]);
    let believed = trust::view(&bench.plant).await.unwrap();
    assert_eq!(believed.callers().filter(|(zone, _)| zone.as_str() == "historian").count(), 1);
}

#[tokio::test]
async fn whoever_decided_on_another_graph_is_shown_what_moved() {
    let bench = Bench::new().await;
    for name in ["cell-3", "historian"] {
        bench.zone(&observing(name)).await;
    }
    let seen = document(&bench).await;
    apply(&bench, &format!("{seen}{}", conduit("historian", "cell-3"))).await;
    let actor = bench.actor(Act::ApplyGraph).await;
    let text = format!("{seen}{}", conduit("cell-3", "historian"));
    let refusal =
        refused!(graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, false).await, Conflict);
    assert!(refusal.contains("were changed since you looked: made historian -> cell-3 opcua"), "{refusal}");
    let refusal =
        refused!(graph::apply(&bench.plant, &actor, &text, "", Unoffered::Refuse, false).await, Malformed);
    assert!(refusal.contains("say what you saw"), "{refusal}");
}

#[tokio::test]
async fn what_is_refused_when_it_is_applied_is_refused_when_it_is_planned() {
    let bench = Bench::new().await;
    let both = zones(&["cell-3", "historian"]);
    let never = "schedule = \"sun 02:00-03:00\"\nexpires = \"2027-01-15T12:00:00Z\"\n";
    let two = zones(&["cell-3"]) + "two_person = true\n";
    for (text, why) in [
        (
            format!("{both}{}expires = \"2026-01-01T00:00:00Z\"\n", conduit("cell-3", "historian")),
            "would have ended already",
        ),
        (format!("{both}{}{never}", conduit("cell-3", "historian")), "would never open"),
        (two, "zone cell-3 would ask for two people, and only ada could approve"),
    ] {
        let (text, seen) = (format!("{SCHEMA}{text}"), document(&bench).await);
        let planned = graph::plan(&bench.plant, &Scope::Plant, &text).await.unwrap_err().to_string();
        let actor = bench.actor(Act::ApplyGraph).await;
        let applied = graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, false).await;
        assert!(planned.contains(why), "{planned}");
        assert_eq!(applied.unwrap_err().to_string(), planned);
    }
}

#[tokio::test]
async fn a_plan_names_who_loses_its_certificates_by_other_rules_and_so_it_is() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::WouldRefuse).await;
    bench.certificate(&press, "cell-3", 1).await;
    let text = format!("{SCHEMA}{}", zones(&["cell-3"]).replace("observe", "enforce"));
    let planned = graph::plan(&bench.plant, &Scope::Plant, &text).await.unwrap();
    let loses: Vec<_> = planned.loses.iter().map(|one| (one.device.as_str(), one.zone.as_str())).collect();
    assert_eq!(loses, [("press-7", "cell-3")]);
    apply(&bench, &text).await;
    crate::withdrawal::finish(&bench.plant).await.unwrap();
    let lost: Attested = bench.read(attested_key(&press)).await;
    let words = format!("by the rules of zone cell-3 since {NOW}: {}", planned.loses[0].why);
    assert_eq!(lost.lost, Some(words));
}

#[tokio::test]
async fn a_zone_that_begins_to_enforce_has_every_device_prove_itself() {
    let bench = Bench::new().await;
    apply(&bench, &format!("{SCHEMA}{}", zones(&["cell-3"]))).await;
    let golden = bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n;
    let seen = document(&bench).await;
    apply(&bench, &seen.replace("\"8h\"", "\"9h\"")).await;
    assert_eq!(bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n, golden, "numbers judge nobody");
    let seen = document(&bench).await;
    apply(&bench, &seen.replace("observe", "enforce")).await;
    assert_eq!(bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n, golden + 1);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_nothing_changes() {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let (actor, seen, before) =
        (bench.actor(Act::ApplyGraph).await, document(&bench).await, bench.revision());
    let nowhere = format!("{seen}{}", conduit("cell-3", "nowhere"));
    let text = refused!(
        graph::apply(&bench.plant, &actor, &nowhere, &seen, Unoffered::Refuse, false).await,
        Malformed
    );
    assert!(text.contains("there is no zone nowhere") && text.contains("line "), "{text}");
    let keys = seen.replace("software_keys = \"refuse\"", "software_keys = \"allow\"");
    let text =
        refused!(graph::apply(&bench.plant, &actor, &keys, &seen, Unoffered::Refuse, false).await, Conflict);
    assert!(text.contains("keeps it for life"), "{text}");
    let alone = seen.replace("two_person = false", "two_person = true");
    let text =
        refused!(graph::apply(&bench.plant, &actor, &alone, &seen, Unoffered::Refuse, false).await, Conflict);
    assert!(text.contains("would ask for two people"), "{text}");
    let names: Vec<String> = (0..60).map(|at| format!("z{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(bench.revision(), before);
    apply(&bench, &format!("{seen}{}", zones(&names))).await;
    assert_eq!(apply(&bench, &seen).await.steps, 10, "what goes is more than one transaction takes");
    assert_eq!(document(&bench).await, seen);
}

#[tokio::test]
async fn a_deed_names_what_each_zone_and_conduit_becomes() {
    let bench = Bench::new().await;
    for name in ["cell-3", "historian"] {
        bench.zone(&observing(name)).await;
    }
    apply(&bench, &format!("{}{}", document(&bench).await, conduit("historian", "cell-3"))).await;
    let text = document(&bench)
        .await
        .replace("\"8h\"", "\"9h\"")
        .replace("service = \"opcua\"\n", "service = \"opcua\"\nschedule = \"daily 22:00-04:00\"\n");
    apply(&bench, &text).await;
    let told: Vec<String> = bench
        .events(None, 4)
        .await
        .iter()
        .map(|event| format!("{}: {}", event.subject, event.text))
        .collect();
    for expected in [
        "cell-3: outlive_broker: \"8h\" -> \"9h\"",
        "historian -> cell-3 opcua: open in the hours daily 22:00-04:00",
        "; as in the file sha256:",
    ] {
        assert!(told.iter().any(|event| event.contains(expected)), "no {expected} in {told:#?}");
    }
}

#[tokio::test]
async fn whoever_sees_a_part_changes_parts() {
    let office = Office::new().await;
    let who = office.administrator("vic", AdminRole::Security, Some(&["cell-3"])).await;
    let actor = crate::admin::authorize(&office.plant, &who, Act::ApplyGraph).await.unwrap();
    let text = refused!(
        graph::apply(&office.plant, &actor, SCHEMA, SCHEMA, Unoffered::Refuse, false).await,
        NotPermitted
    );
    assert!(text.contains("you see only what is in your zones (cell-3)"), "{text}");
    let reader = crate::admin::authorize(&office.plant, &who, Act::ReadZones).await.unwrap();
    refused!(graph::plan(&office.plant, reader.scope(), SCHEMA).await, NotPermitted);
}

#[tokio::test]
async fn a_program_of_both_sides_is_a_flat_spot() {
    let bench = Bench::new().await;
    bench.zone(&observing("a")).await;
    let box_ = bench.device("box-1", &["a"]).await;
    bench.attest(&box_, "boot-a", Decision::Trusted).await;
    let spots = async || {
        let view = graph::view(&bench.plant, &Scope::Plant).await.unwrap();
        view.spots.into_iter().map(|spot| (spot.kind, spot.about)).collect::<Vec<_>>()
    };
    assert_eq!(spots().await, []);
    let pair = TwoSided { client: "historian".parse().unwrap(), server: "hmi".parse().unwrap() };
    let attested = Attested { two_sided: [pair].into(), ..bench.read::<Attested>(attested_key(&box_)).await };
    let txn = Txn::new().put(attested_key(&box_), stored(&attested).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    assert_eq!(spots().await, [(SpotKind::BothRoles, Some("box-1".to_owned()))]);
}

#[tokio::test]
async fn flat_spots_are_seen_by_those_whose_zones_they_touch() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.zone(&observing(name)).await;
    }
    for name in ["a", "b"] {
        bench.device(&format!("{name}-1"), &[name]).await;
    }
    apply(&bench, &format!("{}{}{}", document(&bench).await, conduit("a", "b"), conduit("b", "a"))).await;
    let spots = |view: graph::View| view.spots.iter().map(|spot| spot.kind).collect::<Vec<_>>();
    let all = graph::view(&bench.plant, &Scope::Plant).await.unwrap();
    assert_eq!(spots(all), [SpotKind::AnyToAny]);
    let of_c = Scope::Zones(["c".parse().unwrap()].into());
    let part = graph::view(&bench.plant, &of_c).await.unwrap();
    assert_eq!((part.zones.len(), part.conduits.len(), spots(part).len()), (1, 0, 0));
    let of_a = Scope::Zones(["a".parse().unwrap()].into());
    let part = graph::view(&bench.plant, &of_a).await.unwrap();
    assert_eq!(
        (part.zones.len(), part.conduits.len()),
        (1, 2),
        "who reaches in is seen, and nothing else of it"
    );
    assert!(!part.document.contains("name = \"b\""), "{}", part.document);
}

#[tokio::test]
async fn a_device_that_was_admitted_as_its_zone_was_removed_waits_for_a_person() {
    let bench = Bench::new().await;
    bench.zone(&observing("historian")).await;
    // As if the removal had been decided before it came.
    let late = bench.device("late", &["cell-3"]).await;
    bench.attest(&late, "boot-a", Decision::Trusted).await;
    let wanted = crate::admin::device::DeviceRef::Name(late);
    let seen = crate::admin::device::view::one(&bench.plant, &Scope::Plant, &wanted).await.unwrap();
    assert_eq!(seen.state(), State::Pending);
    let why = why(&seen, &[], NOW);
    assert_eq!(why.sentences, ["a zone of late was removed (cell-3); say where it belongs"]);
    assert_eq!(why.next_command, "touchstone device admit late --zone ZONE");
}

#[tokio::test]
async fn a_file_does_not_open_a_service_that_nobody_offers_while_they_offer_others() {
    let bench = Bench::new().await;
    let before = format!("{SCHEMA}{}", zones(&["cell-3", "cell-4", "historian"]));
    apply(&bench, &before).await;
    bench.device("press-7", &["cell-3"]).await;
    let misspelt = |to: &str| conduit("historian", to).replace("opcua", "opc-ua");
    // In cell-4 nobody offers anything yet.
    let text = format!("{before}{}{}", misspelt("cell-3"), misspelt("cell-4"));
    let planned = graph::plan(&bench.plant, &Scope::Plant, &text).await.unwrap();
    let why = "no device of zone cell-3 offers opc-ua; they offer opcua: write --service opcua if that is meant, or say \
               --unoffered if it comes later";
    assert_eq!(planned.unoffered, [why]);
    let (actor, seen) = (bench.actor(Act::ApplyGraph).await, document(&bench).await);
    for dry_run in [true, false] {
        let refused = graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, dry_run).await;
        assert_eq!(refused!(refused, Conflict), why);
    }
    assert_eq!(document(&bench).await, seen, "nothing changed");
    graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Accept, false).await.unwrap();
    // One that is there already is no news.
    let more = format!("{text}{}", conduit("historian", "cell-3"));
    assert_eq!(apply(&bench, &more).await.unoffered, [""; 0]);
}

#[tokio::test]
async fn a_plan_is_refused_while_what_it_asks_of_authorities_cannot_be_done() {
    let bench = Bench::new().await;
    let with = |subnets: &str| format!("{SCHEMA}{}subnets = [{subnets}]\n", zones(&["cell-3"]));
    apply(&bench, &with("")).await;
    apply(&bench, &with("\"10.1.3.0/24\"")).await;
    let (text, seen) = (with("\"10.1.4.0/24\""), document(&bench).await);
    let actor = bench.actor(Act::ApplyGraph).await;
    let applied = graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, false).await;
    let planned = graph::plan(&bench.plant, &Scope::Plant, &text).await;
    let told = refused!(planned, Conflict);
    assert!(told.starts_with("the next authorities of zone cell-3 are prepared already"), "{told}");
    assert_eq!(told, refused!(applied, Conflict));
}

#[tokio::test]
async fn what_has_ended_is_not_opened_and_stays_where_it_was_open() {
    let bench = Bench::new().await;
    let zones = zones(&["cell-3", "historian"]);
    let ends = |at: &str| format!("{SCHEMA}{zones}{}expires = \"{at}\"\n", conduit("historian", "cell-3"));
    let (actor, seen) = (bench.actor(Act::ApplyGraph).await, document(&bench).await);
    let past = ends("2020-01-01T00:00:00Z");
    let tried = graph::apply(&bench.plant, &actor, &past, &seen, Unoffered::Refuse, true).await;
    let text = refused!(tried, Malformed);
    assert!(text.contains("would have ended already; give a later end, or leave it out"), "{text}");
    let two = format!("{past}{}expires = \"2020-01-01T00:00:00Z\"\n", conduit("cell-3", "historian"));
    let tried = graph::apply(&bench.plant, &actor, &two, &seen, Unoffered::Refuse, true).await;
    let text = refused!(tried, Malformed);
    assert_eq!(text.matches("would have ended already").count(), 2, "all at once: {text}");
    let service = |n: usize| conduit("historian", "cell-3").replace("opcua", &format!("opcua-{n}"));
    let all: String =
        (0..101).map(|n| format!("{}expires = \"2020-01-01T00:00:00Z\"\n", service(n))).collect();
    let many = format!("{SCHEMA}{zones}{all}");
    let tried = graph::apply(&bench.plant, &actor, &many, &seen, Unoffered::Refuse, true).await;
    let text = refused!(tried, Malformed);
    assert!(
        text.matches("would have ended already").count() == 100 && text.ends_with("and 1 more"),
        "{text}"
    );
    let soon = ends(&NOW.plus(3600).to_string());
    apply(&bench, &soon).await;
    assert!(apply(&bench, &soon).await.difference.is_empty());
    bench.clock.set(NOW.plus(7200));
    let exported = document(&bench).await;
    assert!(exported.contains("expires"), "what ended is still there: {exported}");
    assert!(apply(&bench, &exported).await.difference.is_empty(), "and what is exported can be applied");
}

#[tokio::test]
async fn a_zone_of_a_file_has_no_more_products_than_its_record() {
    let bench = Bench::new().await;
    let products: Vec<String> = (0..33).map(|at| format!("\"p{at}\"")).collect();
    let text = format!("{SCHEMA}{}", zones(&["cell-3"])).replace("\"edge-box\"", &products.join(", "));
    let (actor, seen) = (bench.actor(Act::ApplyGraph).await, document(&bench).await);
    let tried = graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, true).await;
    let text = refused!(tried, Malformed);
    assert_eq!(text, "33 products of zone cell-3; a zone has at most 32");
}
