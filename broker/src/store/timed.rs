//! Any store, with a note of how long it takes.

use std::time::Instant;

use async_trait::async_trait;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Content, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch};

/// Labels of one series.
type Labels = [(&'static str, &'static str); 1];

/// How long reads and commits take. A commit is timed from the moment it is handed to the store until it is on disk,
/// so the wait for others is part of it.
#[derive(Debug, Clone)]
pub struct StoreTimes {
    all: Family<Labels, Histogram>,
    commit: Histogram,
    get: Histogram,
    scan: Histogram,
}

/// From 1 µs, a read from memory, to 4 s, a disk that is failing.
fn store_times() -> Histogram {
    Histogram::new(exponential_buckets(1e-6, 4.0, 12))
}

impl Default for StoreTimes {
    fn default() -> Self {
        let all = Family::<Labels, Histogram>::new_with_constructor(store_times);
        let of = |operation| all.get_or_create_owned(&[("operation", operation)]);
        Self { commit: of("commit"), get: of("get"), scan: of("scan"), all: all.clone() }
    }
}

impl StoreTimes {
    /// Puts them among other metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "store_seconds",
            "Time that the store took: get and scan read, commit ends when the change is on disk",
            self.all.clone(),
        );
    }
}

/// A store whose reads and commits are timed.
pub struct Timed {
    store: Box<dyn Store>,
    times: StoreTimes,
}

impl Timed {
    /// `store`, timed.
    #[must_use]
    pub fn new(store: Box<dyn Store>, times: &StoreTimes) -> Self {
        Self { store, times: times.clone() }
    }
}

/// Notes the time since it was made when it is dropped.
struct Watched<'a>(&'a Histogram, Instant);

impl<'a> Watched<'a> {
    fn begin(histogram: &'a Histogram) -> Self {
        Self(histogram, Instant::now())
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.observe(self.1.elapsed().as_secs_f64());
    }
}

#[async_trait]
impl Store for Timed {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        let _time = Watched::begin(&self.times.get);
        self.store.get(key).await
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        let _time = Watched::begin(&self.times.scan);
        self.store.scan(prefix, after, limit).await
    }

    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError> {
        let _time = Watched::begin(&self.times.commit);
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
