//! The embedded store: sled 0.34.7, used only in the way that was shown to survive power cuts.
//!
//! For: one broker, one folder. One committer thread owns all writing; it drains a bounded queue, applies
//! each transaction as one atomic batch on one tree, and answers all of them after one `flush` and one
//! `fdatasync` of sled's file, because `flush` alone never reaches the disk. Reads are served beside it.
//!
//! Promises: what was answered is on disk; a batch is there whole or not at all; a reader sees the last
//! durable state only. When writing fails once, the store refuses every later write until the broker is
//! restarted: after a failed sync nobody knows what the disk holds.
//!
//! Costs: a stored value has 8 bytes more than the caller's. Readers need no copy of the store in memory:
//! only keys of the commit under way keep their former value until it is durable.
//!
//! Layout below the root: `db-<n>/` is sled's, `db.current` says which one counts. The folder of
//! [`super::blobs`] may share the root.

mod committer;
mod damage;
mod database;
mod open;
mod place;
mod view;
mod watermark;

#[cfg(test)]
mod tests;

use self::{committer::Job, damage::contained, view::SharedView};
use super::{
    Content, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch,
    feed::Feed,
    limit::{MAX_SCAN, bounded_key, bounded_prefix},
};
use async_trait::async_trait;
use std::{sync::Arc, thread::JoinHandle};
use tokio::sync::{mpsc, oneshot};

pub use open::OpenError;

/// The embedded store. Dropping it waits for what is queued, then frees the folder.
#[derive(Debug)]
pub struct SledStore {
    view: SharedView,
    feed: Arc<Feed>,
    /// `None` only while dropping.
    jobs: Option<mpsc::Sender<Job>>,
    committer: Option<JoinHandle<()>>,
}

/// The committer took no job, or gave no answer: it only ends with the store, or by a defect.
const GONE: &str = "the committer thread has ended";

enum Unanswered {
    NotTaken,
    NotAnswered,
}

impl SledStore {
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Unanswered> {
        let (sender, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(Unanswered::NotTaken)?;
        jobs.send(job(sender)).await.map_err(|_| Unanswered::NotTaken)?;
        answer.await.map_err(|_| Unanswered::NotAnswered)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(committer) = self.committer.take() {
            // A panic of the committer was answered to every caller already.
            let _ = committer.join();
        }
    }
}

#[async_trait]
impl Store for SledStore {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        let key = bounded_key(key).map_err(ReadError::Limit)?;
        contained(|| self.view.get(key)).map_err(|why| ReadError::Unreadable { key: key.to_owned(), why })
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        let prefix = bounded_prefix(prefix).map_err(ReadError::Limit)?;
        contained(|| self.view.scan(prefix, after, limit.min(MAX_SCAN)))
            .map_err(|why| ReadError::Unreadable { key: prefix.to_owned(), why })
    }

    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError> {
        let txn = txn.bounded().map_err(TxnError::Limit)?;
        match self.ask(|answer| Job::Transact { txn, answer }).await {
            Ok(outcome) => outcome,
            Err(Unanswered::NotTaken) => Err(TxnError::Poisoned { why: GONE.to_owned() }),
            Err(Unanswered::NotAnswered) => Err(TxnError::OutcomeUnknown { why: GONE.to_owned() }),
        }
    }

    fn watch(&self, after: Revision) -> Watch {
        self.feed.watch(after)
    }

    fn revision(&self) -> Revision {
        self.feed.revision()
    }

    async fn replace_all(&self, content: Content, past: Revision) -> Result<Revision, ReplaceError> {
        match self.ask(|answer| Job::Replace { content, past, answer }).await {
            Ok(outcome) => outcome,
            Err(Unanswered::NotTaken) => Err(ReplaceError::Poisoned { why: GONE.to_owned() }),
            Err(Unanswered::NotAnswered) => Err(ReplaceError::OutcomeUnknown { why: GONE.to_owned() }),
        }
    }

    async fn probe(&self) -> Result<(), ProbeError> {
        match self.ask(|answer| Job::Probe { answer }).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ProbeError { why: GONE.to_owned() }),
        }
    }
}
