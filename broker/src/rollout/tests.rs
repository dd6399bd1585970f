//! Rollouts on a scripted fleet: what is stored is what decides.

use policy::id::ProductName;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::rollout::Budget;

use super::drive::settle;
use super::step::step;
use super::wanted::wanted;
use crate::admin::golden::apply::apply;
use crate::admin::golden::forecast::Outlook;
use crate::admin::golden::plan::{Subject, plan};
use crate::admin::golden::want::want;
use crate::admin::rollout::{Request, View, halt, list, resume, rollback, start};
use crate::admin::tests::{Bench, NOW, enforcing, golden, refused};
use crate::admin::{Act, device, reach::Scope};
use crate::record::device::{
    Attested, Decision, Inventory, InventoryValue, Source, attested_key, inventory_key,
};
use crate::record::golden::{ReleaseRecord, release_key};
use crate::record::rollout::{HealthRecord, HealthResult, Rollout, RolloutState, TellRecord, health_key};
use crate::record::rollout::{rollout_key, told_key};
use crate::record::stored;
use crate::session::Refusal;
use crate::store::Txn;

/// A plant with a fleet that runs edge-box@1.0, and 2.0 active beside it.
pub(super) struct Fleet(pub(super) Bench, Vec<Vec<u8>>);

const DEVICES: [&str; 4] = ["press-1", "press-2", "press-3", "press-4"];

pub(super) fn product() -> ProductName {
    "edge-box".parse().unwrap()
}

pub(super) fn release(version: &str) -> ReleaseId {
    format!("edge-box@{version}").parse().unwrap()
}

impl Fleet {
    pub(super) async fn new() -> Self {
        let bench = Bench::new().await;
        bench.zone(&enforcing("cell-3")).await;
        for name in DEVICES {
            let device = bench.device(name, &["cell-3"]).await;
            bench.attest(&device, "boot-a", Decision::Refused).await;
        }
        let mut fleet = Self(bench, Vec::new());
        for (n, version) in ["1.0", "2.0"].into_iter().enumerate() {
            fleet.1.push(golden::release(&fleet.0, "press-1", version).await);
            fleet.apply(n, ReleaseState::Active).await;
        }
        for name in DEVICES {
            fleet.runs(name, "1.0").await;
        }
        fleet.want("1.0").await.unwrap();
        fleet
    }

    /// Makes a release wanted of the whole product at once.
    pub(super) async fn want(&self, version: &str) -> Result<(), Refusal> {
        let (actor, version) = (self.0.actor(Act::WantRelease).await, version.parse().unwrap());
        want(&self.0.plant, &actor, &product(), Some(&version), None, false).await.map(drop)
    }

    /// Makes another release active.
    pub(super) async fn release(&mut self, version: &str) {
        self.1.push(golden::release(&self.0, "press-1", version).await);
        self.apply(self.1.len() - 1, ReleaseState::Active).await;
    }

    /// Gives a release a state.
    pub(super) async fn apply(&self, release: usize, state: ReleaseState) {
        let actor = self.0.actor(Act::ApplyRelease).await;
        apply(&self.0.plant, &actor, &self.1[release], &golden::terms(state, false)).await.unwrap();
    }

    /// Lets a device's last attestation say this.
    pub(super) async fn attested(&self, name: &str, change: impl FnOnce(&mut Attested)) {
        let key = attested_key(&name.parse().unwrap());
        let mut attested: Attested = self.0.read(key.clone()).await;
        attested.at = self.0.plant.now();
        change(&mut attested);
        self.0.plant.store.transact(Txn::new().put(key, stored(&attested).unwrap())).await.unwrap();
    }

    pub(super) async fn runs(&self, name: &str, version: &str) {
        let (decision, running) = (Decision::Trusted, Some(vec![release(version)]));
        self.attested(name, |attested| (attested.decision, attested.running) = (decision, running)).await;
    }

    pub(super) async fn loses_trust(&self, name: &str) {
        self.attested(name, |attested| attested.decision = Decision::Refused).await;
    }

    async fn health(&self, name: &str, codes: &[u8]) {
        let mut record = HealthRecord::default();
        codes.iter().for_each(|code| record.push(HealthResult { at: NOW, exit_code: Some(*code) }));
        let key = health_key(&name.parse().unwrap());
        self.0.plant.store.transact(Txn::new().put(key, stored(&record).unwrap())).await.unwrap();
    }

    pub(super) async fn depends(&self, name: &str, on: &str) {
        let value = InventoryValue { value: on.to_owned(), source: Source::Vouched, at: NOW };
        let inventory = Inventory { values: [("depends_on".to_owned(), value)].into() };
        let key = inventory_key(&name.parse().unwrap());
        self.0.plant.store.transact(Txn::new().put(key, stored(&inventory).unwrap())).await.unwrap();
    }

    pub(super) async fn start(&self, waves: &[&str], budget: u32) -> Result<View, Refusal> {
        self.start_to("2.0", waves, budget).await
    }

    pub(super) async fn start_to(&self, version: &str, waves: &[&str], budget: u32) -> Result<View, Refusal> {
        let request = Request {
            to: release(version),
            waves: waves.iter().map(|wave| wave.parse().unwrap()).collect(),
            budget: Budget { trust: budget, health: budget },
            hold: 0,
            deadline: 3_600,
        };
        start(&self.0.plant, &self.0.actor(Act::StartRollout).await, &request, false).await
    }

    /// Lets the broker do all there is to do, as a new one each time would.
    pub(super) async fn settle(&self) {
        settle(&self.0.plant, &product()).await.unwrap();
        let revision = self.0.revision();
        assert!(!step(&self.0.plant, &product()).await.unwrap(), "there is more to do");
        assert_eq!(self.0.revision(), revision, "nothing to do writes nothing");
    }

    pub(super) async fn state(&self) -> RolloutState {
        self.0.read::<Rollout>(rollout_key(&product())).await.state
    }

    /// The version that is wanted of each device.
    pub(super) async fn wanted(&self) -> [String; 4] {
        let mut all = Vec::new();
        for name in DEVICES {
            let wanted = wanted(&self.0.plant, &name.parse().unwrap()).await.unwrap();
            all.push(wanted.map(|wanted| wanted.version).unwrap_or_default());
        }
        all.try_into().unwrap()
    }
}

#[tokio::test]
async fn devices_are_told_one_after_the_other_as_they_prove_the_release() {
    let fleet = Fleet::new().await;
    assert_eq!(fleet.wanted().await, ["1.0", "1.0", "1.0", "1.0"]);
    let view = fleet.start(&["100%"], 1).await.unwrap();
    assert_eq!((view.devices.len(), view.rollout.from), (4, Some(release("1.0"))));
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "1.0", "1.0", "1.0"]);
    let text = refused!(fleet.want("2.0").await, Conflict);
    assert!(text.contains("rollout edge-box/1 to edge-box@2.0 is running"), "no way around it: {text}");
    let text = refused!(fleet.want("1.0").await, Conflict);
    assert!(text.contains("is running"), "what was wanted before is no answer while it is left: {text}");
    fleet.0.clock.set(NOW.plus(600));
    fleet.settle().await;
    for (n, name) in DEVICES.iter().enumerate() {
        let told: TellRecord = fleet.0.read(told_key(&product(), &name.parse().unwrap())).await;
        assert_eq!((told.release, told.told.proven), (release("2.0"), None));
        fleet.runs(name, "2.0").await;
        fleet.settle().await;
        let expected: Vec<_> = (0..4).map(|m| if m <= n + 1 { "2.0" } else { "1.0" }).collect();
        assert_eq!(fleet.wanted().await.to_vec(), expected);
    }
    assert_eq!(fleet.state().await, RolloutState::Finished { at: NOW.plus(600) });
    fleet.want("1.0").await.unwrap();
    assert_eq!(fleet.wanted().await, ["1.0", "1.0", "1.0", "1.0"], "what is over holds nobody back");
    fleet.want("2.0").await.unwrap();
    let text = refused!(fleet.start(&["100%"], 1).await, Conflict);
    assert!(text.contains("is wanted of every device of edge-box already"), "{text}");
}

#[tokio::test]
async fn a_wave_that_is_meant_for_somebody_is_not_nobody_s() {
    let fleet = Fleet::new().await;
    let text = refused!(fleet.start(&["zone=stagin", "100%"], 1).await, NotFound);
    assert!(text.contains("there is no zone stagin"), "{text}");
    let text = refused!(fleet.start(&["label=depends_on=cooling", "100%"], 1).await, Conflict);
    assert!(text.contains("no device of edge-box has `cooling` as its inventory value depends_on"), "{text}");
    fleet.depends("press-2", "cooling").await;
    let view = fleet.start(&["label=depends_on=cooling", "100%"], 1).await.unwrap();
    assert_eq!(view.devices.iter().filter(|line| line.wave == 0).count(), 1);
}

#[tokio::test]
async fn lost_trust_halts_and_only_a_person_goes_on() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 2).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "2.0", "1.0", "1.0"]);
    fleet.loses_trust("press-1").await;
    fleet.loses_trust("press-2").await;
    fleet.settle().await;
    let RolloutState::Halted { reason } = fleet.state().await else { panic!("{:?}", fleet.state().await) };
    assert!(
        reason.contains(
            "2 lost trust, did not prove the release in time or went back from it: press-1, press-2"
        ),
        "{reason}"
    );
    assert_eq!(fleet.wanted().await, ["2.0", "2.0", "1.0", "1.0"]);
    let text = refused!(fleet.start(&["100%"], 1).await, Conflict);
    assert!(text.contains("rollout edge-box/1 to edge-box@2.0 is halted"), "{text}");

    let actor = fleet.0.actor(Act::ResumeRollout).await;
    resume(&fleet.0.plant, &actor, (&product(), None), (None, None), false).await.unwrap();
    fleet.settle().await;
    assert!(matches!(fleet.state().await, RolloutState::Halted { .. }), "the budget is still used up");
    resume(&fleet.0.plant, &actor, (&product(), None), (Some(3), None), false).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "2.0", "2.0", "1.0"]);
    let actor = fleet.0.actor(Act::HaltRollout).await;
    halt(&fleet.0.plant, &actor, &product(), "smoke", false).await.unwrap();
    fleet.runs("press-3", "2.0").await;
    fleet.settle().await;
    assert_eq!(fleet.state().await, RolloutState::Halted { reason: "ada says: smoke".to_owned() });
    assert_eq!(fleet.wanted().await, ["2.0", "2.0", "2.0", "1.0"]);
    refused!(halt(&fleet.0.plant, &actor, &product(), "again", false).await, Conflict);
}

#[tokio::test]
async fn health_is_held_against_what_the_device_itself_said_before() {
    let fleet = Fleet::new().await;
    fleet.health("press-1", &[1, 1, 1]).await;
    fleet.health("press-2", &[0, 0, 0]).await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    fleet.runs("press-1", "2.0").await;
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "2.0", "1.0", "1.0"], "press-1 failed before");
    fleet.health("press-2", &[0, 0, 1]).await;
    fleet.runs("press-2", "2.0").await;
    fleet.settle().await;
    assert_eq!(fleet.state().await, RolloutState::Running, "once is a start that is not over");
    fleet.health("press-2", &[0, 1, 1]).await;
    fleet.settle().await;
    let RolloutState::Halted { reason } = fleet.state().await else { panic!("{:?}", fleet.state().await) };
    assert!(reason.ends_with("which did not fail before: press-2"), "{reason}");
}

#[tokio::test]
async fn devices_that_share_a_dependency_wait_for_each_other() {
    let fleet = Fleet::new().await;
    fleet.depends("press-1", "cooling, power").await;
    fleet.depends("press-2", "cooling").await;
    fleet.depends("press-3", "press-1").await;
    fleet.start(&["100%"], 4).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "1.0", "1.0", "2.0"]);
    let views = list(&fleet.0.plant, &Scope::Plant, None).await.unwrap();
    let held = &views[0].devices[1];
    assert_eq!(
        (held.device.as_str(), held.held_by.as_slice()),
        ("press-2", &["press-1".parse().unwrap()][..])
    );
    fleet.runs("press-1", "2.0").await;
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "2.0", "2.0", "2.0"]);
}

#[tokio::test]
async fn a_device_that_does_not_come_back_counts_and_one_that_is_stopped_leaves() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    fleet.0.clock.set(NOW.plus(3_600));
    for name in &DEVICES[1..] {
        fleet.runs(name, "1.0").await;
    }
    fleet.settle().await;
    assert!(matches!(fleet.state().await, RolloutState::Halted { .. }));
    let actor = fleet.0.actor(Act::QuarantineDevice).await;
    device::stop::quarantine(&fleet.0.plant, &actor, &"press-1".parse().unwrap(), "burnt").await.unwrap();
    let actor = fleet.0.actor(Act::ResumeRollout).await;
    resume(&fleet.0.plant, &actor, (&product(), None), (None, None), false).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await[1], "2.0", "another one may be told");
}

#[tokio::test]
async fn the_way_back_ends_when_the_last_device_has_left() {
    let fleet = Fleet::new().await;
    fleet.depends("press-2", "press-1").await;
    fleet.start(&["100%"], 3).await.unwrap();
    fleet.settle().await;
    fleet.runs("press-1", "2.0").await;
    fleet.settle().await;
    fleet.runs("press-2", "2.0").await;
    fleet.settle().await;
    let actor = fleet.0.actor(Act::Rollback).await;
    let then = Some(ReleaseState::Retired);
    rollback(&fleet.0.plant, &actor, &product(), then, true).await.unwrap();
    assert_eq!(fleet.state().await, RolloutState::Running, "a dry run changes nothing");
    rollback(&fleet.0.plant, &actor, &product(), then, false).await.unwrap();
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["1.0", "2.0", "1.0", "1.0"], "press-2 waits for press-1");
    fleet.runs("press-1", "1.0").await;
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["1.0", "1.0", "1.0", "1.0"]);
    let state = || fleet.0.read::<ReleaseRecord>(release_key(&product(), "2.0"));
    assert_eq!(state().await.state, ReleaseState::Active, "press-2 still runs it");
    fleet.runs("press-2", "1.0").await;
    fleet.settle().await;
    assert_eq!(fleet.state().await, RolloutState::RolledBack { at: NOW });
    assert_eq!(state().await.state, ReleaseState::Retired);
    refused!(rollback(&fleet.0.plant, &actor, &product(), None, false).await, Conflict);
}

#[tokio::test]
async fn a_release_that_is_withdrawn_is_told_to_nobody() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    fleet.apply(1, ReleaseState::Withdrawn).await;
    fleet.settle().await;
    let reason = "edge-box@2.0 is not accepted any more".to_owned();
    assert_eq!(fleet.state().await, RolloutState::Halted { reason });
    assert_eq!(fleet.wanted().await, ["", "1.0", "1.0", "1.0"]);
    let actor = fleet.0.actor(Act::Rollback).await;
    rollback(&fleet.0.plant, &actor, &product(), None, false).await.unwrap();
    fleet.settle().await;
    let text = refused!(fleet.start(&["100%"], 1).await, Conflict);
    assert!(text.contains("edge-box@2.0 is withdrawn"), "{text}");
}

#[tokio::test]
async fn a_plan_does_not_know_what_a_device_runs_that_is_being_updated() {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet.settle().await;
    let unknown = async || {
        let actor = fleet.0.actor(Act::ReadReleases).await;
        let plan = plan(&fleet.0.plant, &actor, &Subject::Known(release("1.0")), None, None).await.unwrap();
        let unknown = plan.lines.into_iter().filter(|line| line.after == Outlook::Unknown);
        unknown.map(|line| (line.device.to_string(), line.reason.to_string())).collect::<Vec<_>>()
    };
    let why = "a rollout told it to install a release that it has not proved yet".to_owned();
    assert_eq!(unknown().await, [("press-1".to_owned(), why)]);
    fleet.runs("press-1", "2.0").await;
    assert_eq!(unknown().await, [], "it is there");
}
