//! The broker's store, which stops at any operation: before it, or after it and before anybody heard.

use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use broker::store::memory::{MemoryDisk, MemoryStore};
use broker::store::{
    BrokerId, Content, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch,
};

/// Where in an operation the broker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Nothing of it was done.
    Before,
    /// All of it was done, and nobody hears of it.
    After,
}

/// What the world knows and decides about a store.
#[derive(Debug)]
pub struct Lever {
    /// Operations until the broker stops; none: it does not.
    fuse: AtomicI64,
    moment: Mutex<Moment>,
    stopped: AtomicBool,
    parked: AtomicBool,
}

impl Default for Lever {
    fn default() -> Self {
        Self {
            fuse: AtomicI64::new(i64::MAX),
            moment: Mutex::new(Moment::Before),
            stopped: AtomicBool::new(false),
            parked: AtomicBool::new(false),
        }
    }
}

impl Lever {
    /// The broker stops at this operation from now.
    pub fn light(&self, operations: u32, moment: Moment) {
        *self.moment.lock().expect("a moment") = moment;
        self.fuse.store(operations.into(), Ordering::Relaxed);
    }

    /// Lets nothing stop it until [`Lever::resume`]: the world looks at the store itself.
    #[must_use]
    pub fn hold(&self) -> i64 {
        self.fuse.swap(i64::MAX, Ordering::Relaxed)
    }

    /// Goes on as before [`Lever::hold`].
    pub fn resume(&self, fuse: i64) {
        self.fuse.store(fuse, Ordering::Relaxed);
    }

    /// Whether it stopped.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether the work that was polled waits for its write.
    #[must_use]
    pub fn take_parked(&self) -> bool {
        self.parked.swap(false, Ordering::Relaxed)
    }

    /// Never returns once the broker has stopped, or stops here.
    async fn pass(&self, moment: Moment) {
        let chosen = *self.moment.lock().expect("a moment") == moment;
        if chosen && self.fuse.fetch_sub(1, Ordering::Relaxed) <= 1 {
            self.stopped.store(true, Ordering::Relaxed);
        }
        if self.has_stopped() {
            pending::<()>().await;
        }
    }

    /// A write waits until its work is polled again: others may write first.
    async fn park(&self) {
        let mut parked = false;
        poll_fn(|_| match std::mem::replace(&mut parked, true) {
            true => Poll::Ready(()),
            false => {
                self.parked.store(true, Ordering::Relaxed);
                Poll::Pending
            }
        })
        .await;
    }
}

/// The store.
#[derive(Debug)]
pub struct Shaky {
    inner: MemoryStore,
    lever: Arc<Lever>,
}

impl Shaky {
    /// Opens what is on `disk`.
    #[must_use]
    pub fn open(disk: &MemoryDisk, broker: BrokerId, lever: &Arc<Lever>) -> Self {
        Self { inner: MemoryStore::open(disk, broker), lever: Arc::clone(lever) }
    }
}

#[async_trait]
impl Store for Shaky {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        self.lever.pass(Moment::Before).await;
        self.inner.get(key).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        self.lever.pass(Moment::Before).await;
        self.inner.scan(prefix, after, limit).await
    }

    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError> {
        self.lever.park().await;
        self.lever.pass(Moment::Before).await;
        let done = self.inner.transact(txn).await;
        self.lever.pass(Moment::After).await;
        done
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
