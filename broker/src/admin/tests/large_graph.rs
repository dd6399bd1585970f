//! Files that change more than one transaction takes.

use policy::zone::difference::Difference;
use policy::zone::document::{parse, render};
use policy::zone::{Conduit, Segmentation, Zone};
use proto::v1;
use proto::v1::admin_server::Admin;

use super::office::{Office, by, refusal};
use super::{Bench, NOW, observing, refused};
use crate::admin::conduit::Unoffered;
use crate::admin::reach::Scope;
use crate::admin::{Act, Actor, graph, token};
use crate::audit::Event;
use crate::trust;

/// Zones of the plant, and conduits of each to its ten neighbours: 200.
const ZONES: usize = 20;

fn ring(change: impl Fn(Conduit) -> Conduit) -> Segmentation {
    let zones: Vec<Zone> = (0..ZONES).map(|n| observing(&format!("cell-{n}"))).collect();
    let ends = (0..ZONES).flat_map(|from| (1..=10).map(move |by| (from, (from + by) % ZONES)));
    let conduit = |(from, to): (usize, usize)| Conduit {
        from: format!("cell-{from}").parse().unwrap(),
        to: format!("cell-{to}").parse().unwrap(),
        service: "opcua".parse().unwrap(),
        schedule: None,
        expires: None,
        accept_observed: false,
    };
    Segmentation::new(zones, ends.map(conduit).map(change).collect()).unwrap()
}

async fn document(bench: &Bench) -> String {
    graph::view(&bench.plant, &Scope::Plant).await.unwrap().document
}

async fn apply(bench: &Bench, actor: &Actor, text: &str) -> graph::Planned {
    let seen = document(bench).await;
    graph::apply(&bench.plant, actor, text, &seen, Unoffered::Refuse, false).await.unwrap()
}

#[tokio::test]
async fn two_hundred_conduits_change_and_go_with_one_file() {
    let bench = Bench::new().await;
    let actor = bench.actor(Act::ApplyGraph).await;
    assert_eq!(apply(&bench, &actor, &render(&ring(|one| one))).await.steps, 1, "what is new is staged");
    let later = render(&ring(|one| Conduit { expires: Some(NOW.plus(3_600)), ..one }));
    let planned = graph::plan(&bench.plant, &Scope::Plant, &later).await.unwrap();
    assert_eq!((planned.difference.conduits_changed.len(), planned.steps), (200, 5), "the plan says it");

    let (seen, before) = (document(&bench).await, bench.revision());
    graph::apply(&bench.plant, &actor, &later, &seen, Unoffered::Refuse, true).await.unwrap();
    assert_eq!(bench.revision(), before, "a dry run writes nothing");
    assert_eq!(apply(&bench, &actor, &later).await.steps, 5);
    let known = trust::segmentation(&bench.plant).await.unwrap();
    assert_eq!(Difference::between(&known, &parse(&later).unwrap()), Difference::default());
    let ended = |event: &&Event| event.text.starts_with("open until");
    assert_eq!(bench.events(None, 1_000).await.iter().filter(ended).count(), 200, "each is on record");

    let none = render(&Segmentation::new(known.zones().cloned().collect(), Vec::new()).unwrap());
    assert_eq!(apply(&bench, &actor, &none).await.steps, 5);
    assert_eq!(trust::segmentation(&bench.plant).await.unwrap().conduits(), []);
    let rules = none.replace("token_admits = false", "token_admits = true");
    assert_eq!(apply(&bench, &actor, &rules).await.fields.len(), ZONES);
}

#[tokio::test]
async fn whoever_saw_another_graph_changes_nothing_of_a_large_file() {
    let bench = Bench::new().await;
    let actor = bench.actor(Act::ApplyGraph).await;
    apply(&bench, &actor, &render(&ring(|one| one))).await;
    let (seen, before) =
        (render(&ring(|one| Conduit { expires: Some(NOW.plus(9)), ..one })), bench.revision());
    let later = render(&ring(|one| Conduit { expires: Some(NOW.plus(3_600)), ..one }));
    let text =
        refused!(graph::apply(&bench.plant, &actor, &later, &seen, Unoffered::Refuse, false).await, Conflict);
    assert!(text.contains("were changed since you looked"), "{text}");
    assert_eq!(bench.revision(), before);
}

#[tokio::test]
async fn what_two_people_change_is_one_step_and_the_plan_says_so_first() {
    let bench = Bench::new().await;
    let actor = bench.actor(Act::ApplyGraph).await;
    apply(&bench, &actor, &render(&ring(|one| one))).await;
    let office = Office::of(bench).await;
    office.two_person(&office.ada, "cell-3", true).await.unwrap();
    let seen = graph::view(&office.plant, &Scope::Plant).await.unwrap().document;
    let known = parse(&seen).unwrap();
    let none = render(&Segmentation::new(known.zones().cloned().collect(), Vec::new()).unwrap());
    let plan = v1::PlanGraphRequest { document: none.clone() };
    let (_, text) = refusal(office.service.plan_graph(by(&office.ada, plan)).await);
    let why = "takes 5 steps, and a change that two people make is one step: at most 43 conduits";
    assert!(text.contains(why), "{text}");
    let request = v1::ApplyGraphRequest { document: none, before: seen, ..v1::ApplyGraphRequest::default() };
    let (_, text) = refusal(office.service.apply_graph(by(&office.ada, request)).await);
    assert!(text.contains(why), "{text}");
    assert_eq!(trust::segmentation(&office.plant).await.unwrap().conduits().len(), 200);
}

#[tokio::test]
async fn a_step_without_room_is_refused_before_the_first_is_made() {
    let bench = Bench::new().await;
    let actor = bench.actor(Act::ApplyGraph).await;
    apply(&bench, &actor, &render(&ring(|one| one))).await;
    // What an earlier zone of the name left behind ends with the step that makes it anew.
    bench.zone(&observing("again")).await;
    let into = token::Request {
        zones: vec!["again".parse().unwrap()],
        ek: None,
        device: None,
        lifetime: 0,
        without_tpm: false,
    };
    let inviting = bench.actor(Act::CreateToken).await;
    for _ in 0..40 {
        token::create(&bench.plant, &inviting, &into).await.unwrap();
    }
    bench.without_zone("again").await;
    let later = ring(|one| Conduit { expires: Some(NOW.plus(3_600)), ..one });
    let zones = later.zones().cloned().chain([observing("again")]).collect();
    let text = render(&Segmentation::new(zones, later.conduits().to_vec()).unwrap());
    let (seen, before) = (document(&bench).await, bench.revision());
    let why = "makes zones anew with more left of earlier ones, than fit into one step";
    let told = refused!(graph::plan(&bench.plant, &Scope::Plant, &text).await, Malformed);
    assert!(told.contains(why), "{told}");
    for dry_run in [true, false] {
        let tried = graph::apply(&bench.plant, &actor, &text, &seen, Unoffered::Refuse, dry_run).await;
        let told = refused!(tried, Malformed);
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(bench.revision(), before, "no step was made");
}
