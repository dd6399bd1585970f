//! Changes that lose a race, and a store that is read while others write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::{Bench, observing, refused};
use crate::admin::Act;
use crate::admin::backup::snapshot;
use crate::admin::change::{Draft, commit};
use crate::store::{
    Content, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch,
};

/// Adds one to the number under `n`, while somebody else is faster `lost` times.
async fn add_one(bench: &Bench, lost: usize) -> Result<usize, crate::session::Refusal> {
    let (store, attempts) = (&bench.plant.store, &AtomicUsize::new(0));
    store.transact(Txn::new().put("n", "0")).await.unwrap();
    let reach = &bench.reach(Act::Backup).await;
    commit(&bench.plant, || async move {
        let version = store.get("n").await?.unwrap().version;
        let attempt = attempts.fetch_add(1, Ordering::Relaxed);
        if attempt < lost {
            store.transact(Txn::new().put("n", "other")).await.unwrap();
        }
        Ok(Draft::write(
            attempt,
            Txn::new().unchanged("n", version).put("n", "mine"),
            reach.deed("n", "mine"),
        ))
    })
    .await
}

#[tokio::test]
async fn a_lost_race_is_decided_anew_and_not_for_ever() {
    let bench = Bench::new().await;
    assert_eq!(add_one(&bench, 0).await.unwrap(), 0);
    assert_eq!(add_one(&bench, 4).await.unwrap(), 4);
    let text = refused!(add_one(&bench, 5).await, TryLater);
    assert_eq!(text, "others change the same things at this moment; ask again in 2 s");
    assert_eq!(bench.plant.store.get("n").await.unwrap().unwrap().value, b"other");
}

/// A store in which somebody writes after each of the first pages was read.
struct Busy {
    inner: Arc<dyn Store>,
    writes: AtomicUsize,
}

#[async_trait]
impl Store for Busy {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        self.inner.get(key).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        // Pages of three, so that there are many.
        let page = self.inner.scan(prefix, after, limit.min(3)).await?;
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        if write < 4 {
            let txn = Txn::new()
                .put("aaa", write.to_string())
                .put(format!("b{write}"), "new")
                .put("zzz", write.to_string())
                .delete(format!("b{}", write.saturating_sub(1)))
                .audit("somebody was here");
            let txn = if write == 0 { Txn::new().put("b0", "new").put("zzz", "0") } else { txn };
            self.inner.transact(txn).await.unwrap();
        }
        Ok(page)
    }

    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError> {
        self.inner.transact(txn).await
    }

    fn watch(&self, after: Revision) -> Watch {
        self.inner.watch(after)
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    async fn replace_all(&self, content: Content, past: Revision) -> Result<Revision, ReplaceError> {
        self.inner.replace_all(content, past).await
    }

    async fn probe(&self) -> Result<(), ProbeError> {
        self.inner.probe().await
    }
}

#[tokio::test]
async fn a_snapshot_is_of_one_revision_although_others_write() {
    let mut bench = Bench::new().await;
    bench.zone(&observing("cell-3")).await;
    let inner = Arc::clone(&bench.plant.store);
    bench.plant.store = Arc::new(Busy { inner: Arc::clone(&inner), writes: AtomicUsize::new(0) });
    let snapshot = snapshot(&bench.plant).await.unwrap();
    assert_eq!(snapshot.revision, inner.revision());
    let all = inner.scan("", None, 1000).await.unwrap();
    let expected: Vec<_> = all.into_iter().filter(|(key, _)| !key.starts_with("audit/")).collect();
    let expected: Vec<_> = expected.into_iter().map(|(key, found)| (key, found.value)).collect();
    assert_eq!(snapshot.records.into_iter().collect::<Vec<_>>(), expected);
    assert!(expected.iter().any(|(key, value)| key == "aaa" && value == b"3"), "somebody wrote");
}
