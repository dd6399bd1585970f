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

#[test]
fn clocks_that_differ_are_told_from_a_beat_that_is_old() {
    let now = UnixTime(1_000);
    for at in [994, 997, 1_000, 1_002] {
        assert_eq!(skew(UnixTime(at), 4, now), None, "{at}");
    }
    assert_eq!(skew(UnixTime(993), 4, now), Some(3));
    assert_eq!(skew(UnixTime(1_003), 4, now), Some(3));
}
