//! What is changed of a zone that is there: its numbers, what it asks for, what stands in its authorities.

use policy::appraisal::claims::{Claim, ClaimValue};
use policy::zone::difference::Reachable;
use policy::zone::{Function, IntraZone, NameConstraint, Zone};

use super::office::{Office, by, refusal, waits};
use super::{Bench, NOW, enforcing, observing, refused};
use crate::admin::conduit::Unoffered;
use crate::admin::reach::Scope;
use crate::admin::zone::{Changed, Settings, set};
use crate::admin::{Act, authorize, graph, zone};
use crate::record::device::{Attested, Decision, attested_key};
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::plant::AdminRole;
use crate::record::zone::AuthorityState;
use crate::session::Refusal;
use crate::withdrawal::Longer;
use proto::v1;
use proto::v1::admin_server::Admin;

/// Changes zone `cell-3`.
async fn change(bench: &Bench, settings: Settings) -> Result<Changed, Refusal> {
    let actor = bench.actor(Act::SetZone).await;
    set(&bench.plant, &actor, &"cell-3".parse().unwrap(), &settings, false).await
}

async fn head(bench: &Bench) -> u64 {
    crate::golden::current(&bench.plant).await.unwrap().n
}

#[tokio::test]
async fn each_number_and_rule_is_set_alone_and_the_rest_stays() {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let before = enforcing("cell-3");
    let cases = [
        (Settings { reattest_every: Some(60), ..Settings::default() }, "reattest_every: \"15m\" -> \"1m\""),
        (
            Settings { outlive_broker: Some(14_400), ..Settings::default() },
            "outlive_broker: \"8h\" -> \"4h\"",
        ),
        (Settings { silent_after: Some(600), ..Settings::default() }, "silent_after: \"3m\" -> \"10m\""),
        (
            Settings { function: Some(Some(Function::Safety)), ..Settings::default() },
            "function: none -> \"safety\"",
        ),
        (
            Settings { intra_zone: Some(IntraZone::Allow), ..Settings::default() },
            "intra_zone: \"deny\" -> \"allow\"",
        ),
        (
            Settings {
                products: Some(["plc".parse().unwrap(), "edge-box".parse().unwrap()].into()),
                ..Settings::default()
            },
            "products: [\"edge-box\"] -> [\"edge-box\", \"plc\"]",
        ),
        (Settings { token_admits: Some(true), ..Settings::default() }, "token_admits: false -> true"),
        (Settings { function: Some(None), ..Settings::default() }, "function: \"safety\" -> none"),
    ];
    let mut zone = before.clone();
    for (settings, field) in cases {
        let changed = change(&bench, settings.clone()).await.unwrap();
        assert!(changed.fields.contains(&field.to_owned()), "{field}: {:?}", changed.fields);
        zone = changed.zone;
        assert_eq!(change(&bench, settings).await.unwrap().fields, [""; 0], "{field}: it is so already");
    }
    let timing = zone.timing;
    assert_eq!((timing.reattest_every(), timing.outlive_broker(), timing.silent_after()), (60, 14_400, 600));
    assert_eq!((&zone.least, zone.mode, zone.gate), (&before.least, before.mode, before.gate));
    let told = bench.events(None, 100).await;
    assert!(told.iter().any(|event| event.text.contains("outlive_broker: \"8h\" -> \"4h\"")), "{told:?}");
}

#[tokio::test]
async fn a_zone_whose_devices_open_each_other_names_who_gains_and_loses_peers() {
    let bench = Bench::new().await;
    for name in ["cell-3", "cell-4"] {
        bench.zone(&observing(name)).await;
    }
    for (device, zone) in [("press-7", "cell-3"), ("press-8", "cell-3"), ("saw-1", "cell-4")] {
        bench.device(device, &[zone]).await;
    }
    let ask = async |intra_zone| {
        let changed = change(&bench, Settings { intra_zone: Some(intra_zone), ..Settings::default() }).await;
        let peers = changed.unwrap().peers;
        let names = |all: std::collections::BTreeSet<Reachable>| -> Vec<String> {
            all.iter().map(|one| format!("{} {} {}", one.device, one.service, one.from)).collect()
        };
        (names(peers.gained), names(peers.lost))
    };
    let all = ["press-7 opcua cell-3", "press-8 opcua cell-3"].map(str::to_owned).to_vec();
    assert_eq!(ask(IntraZone::Allow).await, (all.clone(), Vec::new()));
    assert_eq!(ask(IntraZone::Allow).await, (Vec::new(), Vec::new()), "it is so already");
    assert_eq!(ask(IntraZone::Deny).await, (Vec::new(), all));
}

#[tokio::test]
async fn numbers_out_of_bounds_change_nothing() {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let before = bench.revision();
    let bad = [
        (Settings { outlive_broker: Some(60), ..Settings::default() }, "outlive_broker is 60 s; use 900"),
        (Settings { reattest_every: Some(20_000), ..Settings::default() }, "reattest_every is 20000 s"),
        (Settings { silent_after: Some(60), ..Settings::default() }, "silent_after is 60 s; use 900"),
        (
            Settings { outlive_broker: Some(1_000), ..Settings::default() },
            "reattest_every is 900 s; use 5 to 500",
        ),
        (
            Settings { products: Some([].into()), ..Settings::default() },
            "enforces what boots but names no product",
        ),
        (
            Settings { least: Claim::ALL.map(|claim| (claim, None)).into(), ..Settings::default() },
            "enforces but asks for nothing",
        ),
        (
            Settings { least: [(Claim::Hardware, Some(ClaimValue(96)))].into(), ..Settings::default() },
            "the worst that can be accepted is 95",
        ),
    ];
    for (settings, why) in bad {
        let text = refused!(change(&bench, settings).await, Malformed);
        assert!(text.contains(why), "{why}: {text}");
    }
    assert_eq!(bench.revision(), before);
}

#[tokio::test]
async fn silence_follows_the_interval_until_it_was_said() {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let timing = change(&bench, Settings { reattest_every: Some(60), ..Settings::default() })
        .await
        .unwrap()
        .zone
        .timing;
    assert_eq!(timing.silent_after(), 180);
    change(&bench, Settings { silent_after: Some(600), ..Settings::default() }).await.unwrap();
    let timing = change(&bench, Settings { reattest_every: Some(120), ..Settings::default() })
        .await
        .unwrap()
        .zone
        .timing;
    assert_eq!(timing.silent_after(), 600);
}

#[tokio::test]
async fn what_lives_longer_than_shorter_numbers_is_told_and_not_revoked() {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.certificate(&press, "cell-3", 1).await;
    let quick = Settings { reattest_every: Some(60), outlive_broker: Some(2_400), ..Settings::default() };
    assert_eq!(change(&bench, quick).await.unwrap().longer, None, "an hour is what a new one lives");
    let shorter =
        change(&bench, Settings { outlive_broker: Some(900), ..Settings::default() }).await.unwrap();
    let zone = "cell-3".parse().unwrap();
    assert_eq!(shorter.longer, Some(Longer { zone, certificates: 1, devices: 1, until: NOW.plus(3600) }));
    let revoked = zone::authorities(&bench.plant, &Scope::Plant).await.unwrap();
    assert!(revoked.iter().all(|authority| authority.revoked == 0));
    let longer =
        change(&bench, Settings { outlive_broker: Some(1_200), ..Settings::default() }).await.unwrap();
    assert_eq!(longer.longer, None, "nothing became shorter");

    // The file says the same.
    let text = graph::view(&bench.plant, &Scope::Plant).await.unwrap().document;
    let text = text.replace("outlive_broker = \"20m\"", "outlive_broker = \"15m\"");
    let planned = graph::plan(&bench.plant, &Scope::Plant, &text).await.unwrap();
    let told: Vec<_> = planned.longer.iter().map(|one| (one.zone.as_str(), one.until)).collect();
    assert_eq!(told, [("cell-3", NOW.plus(3600))]);
    assert_eq!(
        planned.fields,
        [("cell-3".parse().unwrap(), vec!["outlive_broker: \"20m\" -> \"15m\"".to_owned()])]
    );
}

#[tokio::test]
async fn other_claims_and_products_judge_devices_anew() {
    let bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let actor = bench.actor(Act::SetZone).await;
    let press = bench.device("press-7", &["cell-3"]).await;
    bench.attest(&press, "boot-a", Decision::WouldRefuse).await;
    bench.certificate(&press, "cell-3", 1).await;
    let name = "cell-3".parse().unwrap();
    let before = head(&bench).await;
    let least = [(Claim::SourcedData, Some(ClaimValue::WARNING))].into();
    let asks = Settings { least, ..Settings::default() };
    let changed = set(&bench.plant, &actor, &name, &asks, false).await.unwrap();
    assert_eq!(changed.zone.least.iter().count(), observing("cell-3").least.iter().count() + 1);
    assert_eq!(head(&bench).await, before + 1, "every device proves itself again");
    assert!(changed.loses.is_empty(), "it observes");
    let products = Some(["edge-box".parse().unwrap()].into());
    let mode = Some(policy::appraisal::policy::Mode::Enforce);
    let enforce = Settings { products, mode, ..Settings::default() };
    let dry = set(&bench.plant, &actor, &name, &enforce, true).await.unwrap();
    assert_eq!(dry.loses.iter().map(|one| one.device.as_str()).collect::<Vec<_>>(), ["press-7"]);
    assert_eq!(head(&bench).await, before + 1, "a dry run writes nothing");
    set(&bench.plant, &actor, &name, &enforce, false).await.unwrap();
    crate::withdrawal::finish(&bench.plant).await.unwrap();
    let lost: Attested = bench.read(attested_key(&press)).await;
    assert!(lost.lost.is_some_and(|why| why.contains("by the rules of zone cell-3")), "as it was told");
    let golden = bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n;
    let inside = Settings { intra_zone: Some(IntraZone::Allow), ..Settings::default() };
    set(&bench.plant, &actor, &name, &inside, false).await.unwrap();
    assert_eq!(
        bench.read::<GoldenHead>(GOLDEN.to_owned()).await.n,
        golden,
        "nobody is judged otherwise by that"
    );
}

#[tokio::test]
async fn another_name_constraint_comes_with_the_next_authorities() {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let settings = Settings { name_constraint: Some(NameConstraint::NonCritical), ..Settings::default() };
    change(&bench, settings).await.unwrap();
    let states = zone::authorities(&bench.plant, &Scope::Plant).await.unwrap();
    let prepared = states.iter().filter(|view| view.record.state == AuthorityState::Prepared);
    assert_eq!(prepared.count(), 2, "both roles");
    let off = Settings { name_constraint: Some(NameConstraint::Off), ..Settings::default() };
    let text = refused!(change(&bench, off).await, Conflict);
    assert!(text.contains("are prepared already"), "{text}");

    let actor = bench.actor(Act::ApplyGraph).await;
    let seen = graph::view(&bench.plant, &Scope::Plant).await.unwrap().document;
    let text = seen.replace("name_constraint = \"non-critical\"", "name_constraint = \"off\"");
    let why = graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, false).await;
    assert!(refused!(why, Conflict).contains("are prepared already"), "by a file as well");
    let text = seen.replace("software_keys = \"refuse\"", "software_keys = \"allow\"");
    let why = graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, false).await;
    assert!(refused!(why, Conflict).contains("keeps it for life"));
}

#[tokio::test]
async fn what_is_exported_edited_and_applied_is_what_is_exported_then() {
    let bench = Bench::new().await;
    bench.zone(&enforcing("cell-3")).await;
    let actor = bench.actor(Act::ApplyGraph).await;
    let seen = graph::view(&bench.plant, &Scope::Plant).await.unwrap().document;
    let edits = [
        ("reattest_every = \"15m\"", "reattest_every = \"1m\""),
        ("outlive_broker = \"8h\"", "outlive_broker = \"4h\""),
        ("silent_after = \"45m\"", "silent_after = \"10m\""),
        ("intra_zone = \"deny\"", "intra_zone = \"allow\""),
        ("products = [\"edge-box\"]", "products = [\"edge-box\", \"plc\"]"),
        ("token_admits = false", "token_admits = true"),
        ("two_person = false", "function = \"control\"\nsubnets = [\"10.1.3.0/24\"]\ntwo_person = false"),
        ("name_constraint = \"critical\"", "name_constraint = \"off\""),
        ("hardware = \"affirming\"", "hardware = \"warning\""),
    ];
    let mut text = seen.clone();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}: {text}");
        text = text.replacen(from, to, 1);
    }
    let planned = graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, false).await.unwrap();
    let fields: Vec<&str> =
        planned.fields[0].1.iter().filter_map(|field| Some(field.split_once(':')?.0)).collect();
    let all = [
        "function",
        "intra_zone",
        "least",
        "name_constraint",
        "outlive_broker",
        "products",
        "reattest_every",
        "silent_after",
        "subnets",
        "token_admits",
    ];
    assert_eq!(fields, all);
    let now = graph::view(&bench.plant, &Scope::Plant).await.unwrap().document;
    let (stands, said) = (policy::zone::document::parse(&now), policy::zone::document::parse(&text));
    assert_eq!(stands.unwrap(), said.unwrap());
    let again = graph::plan(&bench.plant, &Scope::Plant, &now).await.unwrap();
    assert!(again.difference.is_empty());
}

#[tokio::test]
async fn the_security_administrator_of_the_zone_changes_its_numbers_and_two_people_where_it_says_so() {
    let office = Office::new().await;
    let request = |zone: &str, seconds| v1::SetZoneRequest {
        name: zone.to_owned(),
        outlive_broker_seconds: seconds,
        ..v1::SetZoneRequest::default()
    };
    let vic = office.administrator("vic", AdminRole::Security, Some(&["cell-4"])).await;
    let answer = office.service.set_zone(by(&vic, request("cell-4", 14_400))).await.unwrap().into_inner();
    assert_eq!(answer.changed, ["outlive_broker: \"8h\" -> \"4h\""]);
    let (_, text) = refusal(office.service.set_zone(by(&vic, request("cell-3", 14_400))).await);
    assert!(text.contains("cell-3"), "another zone: {text}");
    let olga = office.administrator("olga", AdminRole::Operator, None).await;
    let (_, text) = refusal(office.service.set_zone(by(&olga, request("cell-4", 7_200))).await);
    assert!(text.contains("security"), "{text}");
    let id = waits(office.service.set_zone(by(&office.ada, request("cell-3", 14_400))).await);
    let known = crate::trust::segmentation(&office.plant).await.unwrap();
    let outlive = |known: &policy::zone::Segmentation| {
        known.zone(&"cell-3".parse().unwrap()).map(|zone: &Zone| zone.timing.outlive_broker())
    };
    assert_eq!(outlive(&known), Some(28_800), "it waits");
    office.approve(&office.bob, &id).await.unwrap();
    let known = crate::trust::segmentation(&office.plant).await.unwrap();
    assert_eq!(outlive(&known), Some(14_400));
    authorize(&office.plant, &vic, Act::SetZone).await.unwrap();
}
