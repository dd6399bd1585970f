//! What devices, clocks, restores and administrators may do to a rollout: it never goes on over it.

use policy::reference::state::ReleaseState;
use policy::rollout::Budget;
use policy::zone::Zone;

use super::roster;
use super::tests::{Fleet, product, release};
use crate::admin::golden::want::want;
use crate::admin::rollout::{Request, halt, list, resume, rollback, start};
use crate::admin::status::status;
use crate::admin::tests::{NOW, enforcing, refused};
use crate::admin::{Act, Seen, authorize, reach::Scope};
use crate::record::device::{Decision, Device, device_key};
use crate::record::plant::AdminRole;
use crate::record::rollout::{Rollout, RolloutState, TellRecord, rollout_key, told_key};
use crate::record::stored;
use crate::record::zone::zone_key;
use crate::store::Txn;

async fn halted(fleet: &Fleet) -> String {
    match fleet.state().await {
        RolloutState::Halted { reason } => reason,
        other => panic!("it is not halted: {other:?}"),
    }
}

impl Fleet {
    /// Lets the zone accept a second product, as one with gateways does.
    async fn two_products(&self) {
        let mut zone: Zone = enforcing("cell-3");
        zone.products.insert("gateway".parse().unwrap());
        let txn = Txn::new().put(zone_key(&zone.name), stored(&zone).unwrap());
        self.0.plant.store.transact(txn).await.unwrap();
    }
}

#[tokio::test]
async fn a_device_that_boots_something_unknown_counts_where_several_products_are_accepted() {
    let fleet = Fleet::new().await;
    fleet.two_products().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "1.0", "1.0", "1.0"]);
    fleet
        .attested("press-1", |attested| {
            (attested.decision, attested.running) = (Decision::Refused, Some(Vec::new()));
        })
        .await;
    fleet.settle().await;
    assert!(halted(&fleet).await.ends_with(": press-1"));
    assert_eq!(fleet.wanted().await[0], "2.0", "it is still told, though it proves no product");
}

#[tokio::test]
async fn another_product_or_fallen_counters_are_no_way_out_of_the_budget() {
    let fleet = Fleet::new().await;
    fleet.two_products().await;
    fleet.start(&["100%"], 2).await.unwrap();
    fleet.settle().await;
    fleet.attested("press-1", |attested| attested.clone_alarm = true).await;
    let other = vec!["gateway@1.0".parse().unwrap()];
    fleet.attested("press-2", |attested| attested.running = Some(other)).await;
    fleet.settle().await;
    assert_eq!(fleet.state().await, RolloutState::Running, "press-2 has until its deadline");
    fleet.0.clock.set(NOW.plus(3_600));
    fleet.settle().await;
    assert!(halted(&fleet).await.ends_with(": press-1, press-2"));
}

#[tokio::test]
async fn an_updater_that_gives_the_release_up_counts() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    fleet.runs("press-1", "2.0").await;
    fleet.settle().await;
    assert_eq!(fleet.wanted().await[1], "2.0");
    fleet.runs("press-1", "1.0").await;
    fleet.settle().await;
    assert!(halted(&fleet).await.ends_with("went back from it: press-1"));
}

#[tokio::test]
async fn devices_of_another_product_keep_their_peers_up() {
    let fleet = Fleet::new().await;
    let mut zone = enforcing("gates");
    zone.products = ["gateway".parse().unwrap()].into();
    fleet.0.zone(&zone).await;
    let gate = fleet.0.device("gate-1", &["gates"]).await;
    fleet.0.attest(&gate, "boot-a", Decision::Refused).await;
    fleet.depends("gate-1", "cooling").await;
    fleet.depends("press-1", "cooling").await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["1.0", "2.0", "1.0", "1.0"], "the other on cooling is down");
    let views = list(&fleet.0.plant, &Scope::Plant, None).await.unwrap();
    assert_eq!(views[0].devices.len(), 4, "gate-1 is in no wave");
    assert_eq!(views[0].devices[0].held_by, [gate]);
}

#[tokio::test]
async fn what_a_device_says_of_its_dependencies_while_it_updates_frees_nobody() {
    let fleet = Fleet::new().await;
    fleet.depends("press-1", "cooling").await;
    fleet.depends("press-2", "cooling").await;
    fleet.start(&["100%"], 4).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "1.0", "2.0", "2.0"]);
    fleet.depends("press-1", "nothing").await;
    fleet.settle().await;
    assert_eq!(fleet.wanted().await[1], "1.0", "press-1 is not back");
    fleet.runs("press-1", "2.0").await;
    fleet.settle().await;
    assert_eq!(fleet.wanted().await[1], "2.0");
}

#[tokio::test]
async fn a_rollout_that_leads_nowhere_is_given_up_for_another_release() {
    let mut fleet = Fleet::new().await;
    fleet.release("3.0").await;
    fleet.depends("press-2", "press-1").await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    fleet.loses_trust("press-1").await;
    fleet.settle().await;
    halted(&fleet).await;
    fleet.apply(0, ReleaseState::Withdrawn).await;
    let actor = fleet.0.actor(Act::Rollback).await;
    let text = refused!(rollback(&fleet.0.plant, &actor, &product(), None, false).await, Conflict);
    assert!(text.contains("edge-box@1.0 is not accepted any more"), "{text}");
    let text = refused!(fleet.start(&["100%"], 1).await, Conflict);
    assert!(text.contains("or roll out another release"), "{text}");

    fleet.start_to("3.0", &["100%"], 2).await.unwrap();
    fleet.settle().await;
    // What rollout 1 told press-1 holds, and press-2 is not touched before that is proven.
    assert_eq!(fleet.wanted().await, ["2.0", "", "3.0", "3.0"]);
    fleet.runs("press-1", "2.0").await;
    fleet.settle().await;
    assert_eq!(fleet.wanted().await[0], "2.0", "two are in flight");
    fleet.runs("press-3", "3.0").await;
    fleet.settle().await;
    assert_eq!(fleet.wanted().await[..2], ["3.0", ""]);
    let rollout: Rollout = fleet.0.read(rollout_key(&product())).await;
    assert_eq!((rollout.plan.id().number, rollout.speaks_for()), (2, 1..=2));
}

#[tokio::test]
async fn a_rollback_undoes_nothing_that_somebody_wanted_since() {
    let mut fleet = Fleet::new().await;
    fleet.release("3.0").await;
    fleet.start(&["100%"], 4).await.unwrap();
    fleet.settle().await;
    for name in ["press-1", "press-2", "press-3", "press-4"] {
        fleet.runs(name, "2.0").await;
    }
    fleet.settle().await;
    assert_eq!(fleet.state().await, RolloutState::Finished { at: NOW });
    let actor = fleet.0.actor(Act::WantRelease).await;
    let version = "3.0".parse().unwrap();
    want(&fleet.0.plant, &actor, &product(), Some(&version), None, false).await.unwrap();
    let actor = fleet.0.actor(Act::Rollback).await;
    let text = refused!(rollback(&fleet.0.plant, &actor, &product(), None, false).await, Conflict);
    assert!(text.contains("edge-box@3.0 was made wanted after rollout edge-box/1 had ended"), "{text}");
}

#[tokio::test]
async fn whoever_lost_trust_is_told_the_way_back_though_it_cannot_watch() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    fleet.loses_trust("press-1").await;
    fleet.attested("press-1", |attested| attested.running = Some(Vec::new())).await;
    fleet.settle().await;
    halted(&fleet).await;
    let actor = fleet.0.actor(Act::Rollback).await;
    rollback(&fleet.0.plant, &actor, &product(), None, false).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["1.0"; 4]);
    assert_eq!(fleet.state().await, RolloutState::RolledBack { at: NOW }, "nobody proves 2.0");
}

#[tokio::test]
async fn a_device_whose_record_was_lost_is_not_sent_back_while_the_rollout_goes_on() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    fleet.runs("press-1", "2.0").await;
    fleet.settle().await;
    // As after a restore from a backup that was made before it was told.
    let key = told_key(&product(), &"press-1".parse().unwrap());
    let _: TellRecord = fleet.0.read(key.clone()).await;
    fleet.0.plant.store.transact(Txn::new().delete(key)).await.unwrap();
    assert_eq!(fleet.wanted().await[..2], ["2.0", "2.0"]);
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "2.0", "1.0", "1.0"], "it is told again, and is there already");
}

#[tokio::test]
async fn who_resumes_knows_why_it_halted() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    let plant = &fleet.0.plant;
    let (stop, go) = (fleet.0.actor(Act::HaltRollout).await, fleet.0.actor(Act::ResumeRollout).await);
    halt(plant, &stop, &product(), "smoke", false).await.unwrap();
    let view = list(plant, &Scope::Plant, None).await.unwrap().remove(0);
    let seen = Seen { revision: view.revision, words: "halted: ada says: smoke".to_owned() };
    resume(plant, &go, (&product(), Some(&seen)), (None, None), false).await.unwrap();
    halt(plant, &stop, &product(), "fire", false).await.unwrap();
    let text = refused!(resume(plant, &go, (&product(), Some(&seen)), (None, None), false).await, Conflict);
    assert!(text.contains("you saw halted: ada says: smoke, it is now halted: ada says: fire"), "{text}");
}

#[tokio::test]
async fn what_devices_prove_while_it_is_halted_is_no_other_halt() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    let actor = fleet.0.actor(Act::HaltRollout).await;
    halt(&fleet.0.plant, &actor, &product(), "smoke", false).await.unwrap();
    let revision = async || list(&fleet.0.plant, &Scope::Plant, None).await.unwrap()[0].revision;
    let before = revision().await;
    fleet.runs("press-1", "2.0").await;
    fleet.settle().await;
    let told: TellRecord = fleet.0.read(told_key(&product(), &"press-1".parse().unwrap())).await;
    assert!(told.told.proven.is_some());
    assert_eq!(revision().await, before);
}

#[tokio::test]
async fn a_gateway_is_moved_only_by_who_reaches_all_its_zones() {
    let fleet = Fleet::new().await;
    let vault = Zone { products: ["safe".parse().unwrap()].into(), ..enforcing("vault") };
    fleet.0.zone(&vault).await;
    let key = device_key(&"press-4".parse().unwrap());
    let mut gateway: Device = fleet.0.read(key.clone()).await;
    gateway.zones.push(vault.name);
    fleet.0.plant.store.transact(Txn::new().put(key, stored(&gateway).unwrap())).await.unwrap();

    let eva = fleet.0.administrator("eva", AdminRole::Engineer, Some(&["cell-3"])).await;
    let plant = &fleet.0.plant;
    let request = Request {
        to: release("2.0"),
        waves: vec!["100%".parse().unwrap()],
        budget: Budget { trust: 1, health: 1 },
        hold: 0,
        deadline: 3_600,
    };
    let actor = authorize(plant, &eva, Act::StartRollout).await.unwrap();
    let text = refused!(start(plant, &actor, &request, false).await, NotPermitted);
    assert!(text.contains("rollout.start touches zone vault; eva is limited to cell-3"), "{text}");
    fleet.start(&["100%"], 1).await.unwrap();
    let actor = authorize(plant, &eva, Act::HaltRollout).await.unwrap();
    halt(plant, &actor, &product(), "smoke", false).await.unwrap();
    let actor = authorize(plant, &eva, Act::ResumeRollout).await.unwrap();
    let text = refused!(resume(plant, &actor, (&product(), None), (None, None), false).await, NotPermitted);
    assert!(text.contains("zone vault"), "{text}");
    let page = status(plant, &authorize(plant, &eva, Act::ReadStatus).await.unwrap()).await.unwrap();
    let first = &page.attention[0];
    assert!(
        first.message.contains("rollout edge-box/1 to edge-box@2.0 is halted, eva says: smoke"),
        "{first:?}"
    );
    assert_eq!(first.next_command, "touchstone golden rollout status edge-box");
}

#[tokio::test]
async fn the_roster_follows_whatever_changes() {
    let fleet = Fleet::new().await;
    let plant = &fleet.0.plant;
    let news = async || roster(plant).await.unwrap().news();
    let before = news().await;
    fleet.attested("press-1", |_| {}).await;
    assert_eq!(news().await, before, "to be heard once more is no news");
    fleet.loses_trust("press-1").await;
    assert_eq!(news().await, before + 1);
    let late = fleet.0.device("press-5", &["cell-3"]).await;
    assert_eq!(news().await, before + 2);
    assert!(roster(plant).await.unwrap().device(&late).is_some());
    fleet.0.plant.store.transact(Txn::new().delete(device_key(&late))).await.unwrap();
    assert!(roster(plant).await.unwrap().device(&late).is_none());
    assert_eq!(roster(plant).await.unwrap().devices().count(), 4);
}
