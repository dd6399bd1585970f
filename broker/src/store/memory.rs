//! A store in memory, for tests: the same semantics as the durable ones, and nothing is kept.

use super::{
    BrokerId, Content, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch,
    commit::{Journal, Position},
    feed::Feed,
    limit::{LimitError, MAX_SCAN, bounded_key, bounded_prefix},
};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Records = BTreeMap<String, Versioned>;

#[derive(Debug, Default, Clone)]
struct Held {
    records: Records,
    position: Position,
}

/// What a [`MemoryStore`] writes to; it outlives the store, so that a test can restart a broker.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Held>>);

impl MemoryDisk {
    /// Another disk with the same content.
    #[must_use]
    pub fn copied(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    journal: Mutex<Journal>,
    feed: Feed,
}

impl MemoryStore {
    /// Opens what is on `disk` as a new start of `broker`. One store at a time uses a disk.
    pub fn open(disk: &MemoryDisk, broker: BrokerId) -> Self {
        let journal = Journal::open(broker, disk.lock().position.clone());
        let feed = Feed::new(journal.position().revision);
        Self { disk: disk.clone(), journal: Mutex::new(journal), feed }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        let key = bounded_key(key).map_err(ReadError::Limit)?;
        Ok(self.disk.lock().records.get(key).cloned())
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        let prefix = bounded_prefix(prefix).map_err(ReadError::Limit)?;
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let held = self.disk.lock();
        let found = held.records.range::<str, _>((first, Bound::Unbounded));
        let page = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit.min(MAX_SCAN));
        Ok(page.map(|(key, record)| (key.clone(), record.clone())).collect())
    }

    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError> {
        let txn = txn.bounded().map_err(TxnError::Limit)?;
        let mut journal = self.journal();
        let mut held = self.disk.lock();
        let version_of = |key: &str| Ok(held.records.get(key).map(|record| record.version));
        let commit = journal.prepare(&txn, version_of)?;
        let version = commit.position.revision;
        let mut keys = Vec::new();
        for (key, value) in commit.writes {
            keys.push(key.clone());
            match value {
                Some(value) => held.records.insert(key, Versioned { version, value }),
                None => held.records.remove(&key),
            };
        }
        held.position = commit.position.clone();
        journal.adopt(commit.position);
        self.feed.publish(version, keys);
        Ok(version)
    }

    fn watch(&self, after: Revision) -> Watch {
        self.feed.watch(after)
    }

    fn revision(&self) -> Revision {
        self.feed.revision()
    }

    async fn replace_all(&self, content: Content, past: Revision) -> Result<Revision, ReplaceError> {
        let mut journal = self.journal();
        let mut replacement = journal.replace(past)?;
        let version = replacement.revision;
        let mut records = Records::new();
        for record in content {
            let (key, value) = record.map_err(ReplaceError::Source)?;
            replacement.note(&key, &value).map_err(ReplaceError::Limit)?;
            if records.insert(key.clone(), Versioned { version, value }).is_some() {
                return Err(ReplaceError::Limit(LimitError::WrittenTwice { key }));
            }
        }
        let position = journal.replaced(replacement);
        *self.disk.lock() = Held { records, position: position.clone() };
        journal.adopt(position);
        self.feed.reset(version);
        Ok(version)
    }

    async fn probe(&self) -> Result<(), ProbeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{Bench, broker, suite};

    impl Bench for MemoryDisk {
        fn open(&self) -> Arc<dyn Store> {
            Arc::new(MemoryStore::open(self, broker()))
        }
    }

    suite!(MemoryDisk::default());
}
