//! The store on etcd (3.4 or later), for several brokers at one plant, any of which may die.
//!
//! For: one cluster of etcd, each broker with an id of its own. One task of each broker writes, group by group; what
//! is read is as new as everything that any broker was told is kept.
//!
//! Promises: what the port does. Two brokers never both have a transaction that expected the same; an answer that was
//! lost is found out, or said to be unknown; every call ends within seconds, and an etcd that is away is named. A
//! second process with the same broker's id takes over, and the first writes nothing from then on.
//!
//! Does not promise: to notice at its start that etcd was set back to an older state (a running broker does); to keep
//! the history of etcd short (run it with `--auto-compaction-retention`).
//!
//! Costs: two round trips for each group of transactions, one for each group of values that are read, and for a scan.

mod blobs;
mod cluster;
mod committer;
mod dial;
mod follower;
mod layout;
mod reader;
mod restore;
mod view;

#[cfg(test)]
pub(crate) mod node;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod three_tests;

use self::{
    cluster::{Cluster, Trouble, absent, read},
    committer::{Committer, Job, QUEUE, encoded, put},
    follower::Follower,
    layout::{Layout, Tip, pages},
    reader::{Asked, Unread},
    view::View,
};
use super::{
    BrokerId, Content, ProbeError, ReadError, ReplaceError, Revision, Store, Txn, TxnError, Versioned, Watch,
    feed::Feed,
    limit::{MAX_SCAN, bounded_key, bounded_prefix},
};
use crate::ports::{Entropy, EntropyError, random};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use proto::etcd::TxnRequest;
use std::sync::Arc;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub(super) use blobs::EtcdBlobs;
pub use dial::{EtcdOptions, EtcdTls, OptionsError};

/// The generation of a store that was never restored.
const FIRST_GENERATION: &str = "1";

/// The committer or the reader took no job, or gave no answer: it only ends with the store, or by a defect.
const GONE: &str = "the task that reads or writes has ended";

/// The store on etcd.
#[derive(Debug)]
pub struct EtcdStore {
    view: Arc<View>,
    feed: Arc<Feed>,
    jobs: mpsc::Sender<Job>,
    reads: mpsc::Sender<Asked>,
    follower: JoinHandle<()>,
}

/// The store could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EtcdOpenError {
    /// The options.
    #[error(transparent)]
    Options(OptionsError),
    /// etcd.
    #[error(
        "the store on etcd cannot be opened ({why}); check that etcd runs and that this machine reaches it"
    )]
    Away {
        /// What etcd said.
        why: String,
    },
    /// Another broker writes to it.
    #[error(
        "there is a plant on this etcd already, of broker {others}: to add a broker to it, run `touchstone-broker another` \
         on that broker's host; to make another plant, choose another prefix"
    )]
    Others {
        /// Their ids.
        others: String,
    },
    /// No random name for this process.
    #[error(transparent)]
    Entropy(EntropyError),
}

impl From<Trouble> for EtcdOpenError {
    fn from(trouble: Trouble) -> Self {
        Self::Away { why: trouble.to_string() }
    }
}

impl EtcdStore {
    /// Opens the store as its only `broker`, and makes it if it is not there. An earlier process of that broker
    /// writes nothing from then on; a store of another one is refused.
    pub async fn open(
        options: &EtcdOptions,
        broker: BrokerId,
        entropy: &dyn Entropy,
    ) -> Result<Self, EtcdOpenError> {
        let view = view(options).await?;
        let others: Vec<_> =
            view.writers().await?.into_iter().filter(|id| *id != broker.to_string()).collect();
        if !others.is_empty() {
            return Err(EtcdOpenError::Others { others: others.join(", ") });
        }
        Self::begin(view, broker, entropy).await
    }

    /// Opens the store as `broker`, one of several.
    pub async fn join(
        options: &EtcdOptions,
        broker: BrokerId,
        entropy: &dyn Entropy,
    ) -> Result<Self, EtcdOpenError> {
        Self::begin(view(options).await?, broker, entropy).await
    }

    async fn begin(view: Arc<View>, broker: BrokerId, entropy: &dyn Entropy) -> Result<Self, EtcdOpenError> {
        let (cluster, layout) = (view.cluster.clone(), view.layout.clone());
        let process = hex::encode(random::<8>(entropy).map_err(EtcdOpenError::Entropy)?);
        let mut committer = Committer {
            view: view.clone(),
            feed: Arc::new(Feed::new(Revision::default())),
            broker,
            process,
            commits: 0,
            seen: Revision::default(),
            poison: None,
        };
        let snapshot = loop {
            let snapshot = view.snapshot(&committer.broker, &[]).await?;
            if committer.begin(&snapshot).await? {
                break snapshot;
            }
        };
        if let Err(trouble) = committer.sweep().await {
            tracing::warn!(%trouble, "replaced contents stay in etcd until a broker starts");
        }
        let feed = Arc::new(Feed::new(snapshot.tip.revision));
        committer.seen = snapshot.tip.revision;
        committer.feed = feed.clone();
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(committer.run(queue));
        let (reads, asked) = mpsc::channel(reader::QUEUE);
        tokio::spawn(reader::run(view.clone(), asked));
        let next = snapshot.tip_at.saturating_add(1);
        let follower = tokio::spawn(Follower { cluster, layout, feed: feed.clone(), next }.run());
        Ok(Self { view, feed, jobs, reads, follower })
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Unanswered> {
        let (sender, answer) = oneshot::channel();
        self.jobs.send(job(sender)).await.map_err(|_| Unanswered::NotTaken)?;
        answer.await.map_err(|_| Unanswered::NotAnswered)
    }
}

enum Unanswered {
    NotTaken,
    NotAnswered,
}

/// The content of the store, which is made if it is not there.
async fn view(options: &EtcdOptions) -> Result<Arc<View>, EtcdOpenError> {
    let cluster = Arc::new(Cluster::new(options).map_err(EtcdOpenError::Options)?);
    let layout = Layout::new(&options.prefix);
    let generation = ArcSwap::from_pointee(make(&cluster, &layout).await?);
    Ok(Arc::new(View { cluster, layout, generation }))
}

/// Makes the store if it is not there; the answer is the generation that counts.
async fn make(cluster: &Cluster, layout: &Layout) -> Result<String, Trouble> {
    let pointer = layout.generation();
    let txn = TxnRequest {
        compare: vec![absent(&pointer), absent(&layout.position())],
        success: vec![
            put(&pointer, FIRST_GENERATION.as_bytes().to_vec()),
            put(&layout.position(), encoded(&Tip::default())?),
            read(&pointer),
        ],
        failure: vec![read(&pointer)],
    };
    let found = pages(cluster.txn(txn).await?).flatten().next().ok_or(Trouble::Lost)?;
    String::from_utf8(found.value).map_err(|_| Trouble::Lost)
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        // The committer ends once its queue is empty.
        self.follower.abort();
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError> {
        let key = bounded_key(key).map_err(ReadError::Limit)?.to_owned();
        let (answer, found) = oneshot::channel();
        let asked = self.reads.send(Asked { key: key.clone(), answer }).await;
        let found = match asked {
            Ok(()) => found.await.unwrap_or_else(|_| Err(Unread::Away(GONE.to_owned()))),
            Err(_) => Err(Unread::Away(GONE.to_owned())),
        };
        found.map_err(|unread| match unread {
            Unread::Away(why) => ReadError::Away { key, why },
            Unread::Unreadable(why) => ReadError::Unreadable { key, why },
        })
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError> {
        let prefix = bounded_prefix(prefix).map_err(ReadError::Limit)?;
        self.view.scan(prefix, after, limit.min(MAX_SCAN)).await
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
