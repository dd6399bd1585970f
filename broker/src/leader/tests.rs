use super::*;
use crate::admin::tests::Bench;
use crate::session::complete::commit;
use crate::store::fence::{Fenced, within};
use crate::store::memory::{MemoryDisk, MemoryStore};

/// A plant with two brokers.
async fn two() -> (Bench, Lead, Lead) {
    let store = Fenced(MemoryStore::open(&MemoryDisk::default(), "test".parse().unwrap()));
    let bench = Bench::on_store(Arc::new(store)).await;
    (bench, Lead::new("one".to_owned()), Lead::new("two".to_owned()))
}

#[tokio::test]
async fn a_leader_that_lives_leads_on() {
    let (bench, one, two) = two().await;
    let mut now = Instant::now();
    let term = one.turn(&bench.plant, now).await.unwrap();
    for _ in 0..3 {
        assert_eq!(two.turn(&bench.plant, now).await, None);
        now += SILENT;
        assert_eq!(one.turn(&bench.plant, now).await, Some(term), "a beat is a sign of life");
    }
    assert_eq!(two.turn(&bench.plant, now).await, None);
}

#[tokio::test]
async fn the_work_moves_on_and_a_late_leader_changes_nothing() {
    let (bench, one, two) = two().await;
    let work = || Txn::new().put("zone/done-by-test", "{}");
    let now = Instant::now();
    let former = one.turn(&bench.plant, now).await.unwrap();
    within(former, commit(&bench.plant, work())).await.unwrap();

    assert_eq!(
        two.turn(&bench.plant, now).await,
        None,
        "it does not know yet for how long the leader is silent"
    );
    let present = two.turn(&bench.plant, now + SILENT).await.unwrap();
    let late = within(former, bench.plant.store.transact(work())).await;
    assert!(matches!(late, Err(TxnError::Fenced)), "{late:?}");
    within(present, commit(&bench.plant, work())).await.unwrap();

    assert_eq!(one.turn(&bench.plant, now).await, None, "it is told that another leads");
    assert_eq!(one.turn(&bench.plant, now).await, None);
    assert_eq!(two.turn(&bench.plant, now).await, Some(present));
}

#[tokio::test]
async fn nobody_waits_for_a_leader_that_stopped() {
    let (bench, one, two) = two().await;
    let now = Instant::now();
    assert!(one.turn(&bench.plant, now).await.is_some());
    assert_eq!(two.turn(&bench.plant, now).await, None);
    one.resign(&bench.plant).await;
    assert_eq!(one.turn(&bench.plant, now).await, None, "it is about to end");
    assert!(two.turn(&bench.plant, now).await.is_some());
}
