//! What others do between the moment when a step is decided and the moment when it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use policy::reference::state::ReleaseState;
use policy::rollout::Budget;
use policy::zone::Override;
use tokio::sync::Notify;

use super::step::step;
use super::tests::{Fleet, product, release};
use crate::admin::rollout::{Request, halt, start};
use crate::admin::tests::{Bench, NOW, refused};
use crate::admin::{Act, device};
use crate::record::device::{Device, device_key};
use crate::record::overriding::{OverrideRecord, override_key};
use crate::record::rollout::RolloutState;
use crate::record::stored;
use crate::session::Refusal;
use crate::store::{
    Content, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch,
};

/// A store that holds back the first transaction until it is told to go on.
struct Gate {
    store: Arc<dyn Store>,
    closed: AtomicBool,
    arrived: Notify,
    open: Notify,
}

#[async_trait]
impl Store for Gate {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        self.store.get(key).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        self.store.scan(prefix, after, limit).await
    }

    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError> {
        if self.closed.swap(false, Ordering::Relaxed) {
            self.arrived.notify_one();
            self.open.notified().await;
        }
        self.store.transact(txn).await
    }

    fn watch(&self, after: Revision) -> Watch {
        self.store.watch(after)
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }

    async fn replace_all(&self, content: Content, past: Revision) -> Result<Revision, ReplaceError> {
        self.store.replace_all(content, past).await
    }

    async fn probe(&self) -> Result<(), ProbeError> {
        self.store.probe().await
    }
}

/// Holds back what `late` writes first until `meanwhile` is done.
async fn between<T>(
    fleet: &mut Fleet,
    late: impl AsyncFnOnce(&Fleet) -> T,
    meanwhile: impl AsyncFnOnce(&Fleet),
) -> T {
    let store = Arc::clone(&fleet.0.plant.store);
    let (arrived, open) = (Notify::new(), Notify::new());
    let gate = Arc::new(Gate { store, closed: AtomicBool::new(true), arrived, open });
    fleet.0.plant.store = Arc::<Gate>::clone(&gate);
    let fleet = &*fleet;
    let other = async {
        gate.arrived.notified().await;
        meanwhile(fleet).await;
        gate.open.notify_one();
    };
    tokio::join!(late(fleet), other).0
}

/// A rollout to 2.0, one device at a time, that has told nobody yet.
async fn started() -> Fleet {
    let fleet = Fleet::new().await;
    fleet.start(&["100%"], 1).await.unwrap();
    fleet
}

async fn stepped(fleet: &Fleet) -> Result<bool, Refusal> {
    step(&fleet.0.plant, &product()).await
}

async fn request_to(bench: &Bench, version: &str) -> Result<(), Refusal> {
    let request = Request {
        to: release(version),
        waves: vec!["100%".parse().unwrap()],
        budget: Budget { trust: 1, health: 1 },
        hold: 0,
        deadline: 3_600,
    };
    start(&bench.plant, &bench.actor(Act::StartRollout).await, &request, false).await.map(drop)
}

#[tokio::test]
async fn a_withdrawal_is_not_overtaken_by_a_step_that_tells_somebody() {
    let mut fleet = started().await;
    let late = between(&mut fleet, stepped, async |fleet: &Fleet| {
        fleet.apply(1, ReleaseState::Withdrawn).await;
    });
    let text = refused!(late.await, MustReattest);
    assert!(text.contains("was changed at the same moment"), "{text}");
    fleet.settle().await;
    let reason = "edge-box@2.0 is not accepted any more".to_owned();
    assert_eq!(fleet.state().await, RolloutState::Halted { reason });
    assert_eq!(fleet.wanted().await, ["1.0"; 4], "nobody was told");
}

#[tokio::test]
async fn a_person_who_halts_is_not_overtaken() {
    let mut fleet = started().await;
    let late = between(&mut fleet, stepped, async |fleet: &Fleet| {
        let actor = fleet.0.actor(Act::HaltRollout).await;
        halt(&fleet.0.plant, &actor, &product(), "smoke", false).await.unwrap();
    });
    refused!(late.await, MustReattest);
    fleet.settle().await;
    assert_eq!(fleet.state().await, RolloutState::Halted { reason: "ada says: smoke".to_owned() });
    assert_eq!(fleet.wanted().await, ["1.0"; 4], "nobody was told");
}

#[tokio::test]
async fn a_device_that_is_quarantined_as_it_is_told_leaves_the_rollout() {
    let mut fleet = started().await;
    let late = between(&mut fleet, stepped, async |fleet: &Fleet| {
        let actor = fleet.0.actor(Act::QuarantineDevice).await;
        let press = "press-1".parse().unwrap();
        device::stop::quarantine(&fleet.0.plant, &actor, &press, "burnt").await.unwrap();
    });
    assert!(late.await.unwrap(), "to be told changes no trust");
    fleet.settle().await;
    assert_eq!(fleet.state().await, RolloutState::Running);
    assert_eq!(fleet.wanted().await[1..], ["2.0", "1.0", "1.0"], "it takes nobody's place");
    let press: Device = fleet.0.read(device_key(&"press-1".parse().unwrap())).await;
    assert_eq!(press.answered, press.asked);
}

#[tokio::test]
async fn an_override_of_a_device_that_is_told_changes_nothing_of_the_rollout() {
    let mut fleet = started().await;
    let late = between(&mut fleet, stepped, async |fleet: &Fleet| {
        let name: policy::id::DeviceName = "press-1".parse().unwrap();
        let record = OverrideRecord {
            device: name.clone(),
            zones: vec!["cell-3".parse().unwrap()],
            excused: Override { mismatches: [].into(), until: NOW.plus(3_600) },
            at: NOW,
            by: "olga".to_owned(),
            approved_by: "sam".to_owned(),
            reason: "line stands".to_owned(),
        };
        let mut device: Device = fleet.0.read(device_key(&name)).await;
        device.asked += 1;
        let txn = Txn::new()
            .put(device_key(&name), stored(&device).unwrap())
            .put(override_key(&name), stored(&record).unwrap());
        fleet.0.plant.store.transact(txn).await.unwrap();
    });
    assert!(late.await.unwrap());
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "1.0", "1.0", "1.0"]);
    fleet.loses_trust("press-1").await;
    fleet.settle().await;
    assert!(matches!(fleet.state().await, RolloutState::Halted { .. }), "it counts all the same");
}

#[tokio::test]
async fn of_two_rollouts_of_a_product_that_begin_at_once_one_begins() {
    let mut fleet = Fleet::new().await;
    fleet.release("3.0").await;
    let late = between(
        &mut fleet,
        async |fleet: &Fleet| request_to(&fleet.0, "3.0").await,
        async |fleet: &Fleet| request_to(&fleet.0, "2.0").await.unwrap(),
    );
    let text = refused!(late.await, Conflict);
    assert!(text.contains("rollout edge-box/1 to edge-box@2.0 is running"), "{text}");
    fleet.settle().await;
    assert_eq!(fleet.wanted().await, ["2.0", "1.0", "1.0", "1.0"]);
}

#[tokio::test]
async fn a_second_rollout_does_not_begin_under_a_step() {
    let mut fleet = started().await;
    fleet.release("3.0").await;
    let late = between(&mut fleet, stepped, async |fleet: &Fleet| {
        let text = refused!(request_to(&fleet.0, "3.0").await, Conflict);
        assert!(text.contains("rollout edge-box/1 to edge-box@2.0 is running"), "{text}");
    });
    assert!(late.await.unwrap());
    assert_eq!(fleet.wanted().await, ["2.0", "1.0", "1.0", "1.0"]);
}
