//! Follows what other brokers change: etcd's watch of the store's position, told to this broker's watchers.
//!
//! Promises: every change is told once and in order, or a Resync is; a node that stops telling is found out, because
//! the position is read anew when the watch was silent.

use super::{
    super::feed::Feed,
    cluster::{Changes, Cluster, Trouble, read},
    layout::{Layout, Tip, decode, pages},
};
use proto::etcd::{KeyValue, TxnRequest};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// How long a watch may be silent before the position is read to see whether it should have told something.
const SILENCE: Duration = Duration::from_secs(1);

/// How late a watch may be behind what a read shows.
const LAG: Duration = Duration::from_millis(500);

/// Pause before a watch is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// Tells the watchers what etcd tells.
pub(super) struct Follower {
    pub(super) cluster: Arc<Cluster>,
    pub(super) layout: Layout,
    pub(super) feed: Arc<Feed>,
    /// The first revision of etcd that was not told yet.
    pub(super) next: i64,
}

impl Follower {
    /// Follows until it is dropped.
    pub(super) async fn run(mut self) {
        let cluster = Arc::clone(&self.cluster);
        let key = self.layout.position();
        loop {
            match cluster.watch(key.as_bytes(), self.next).await {
                Ok(mut changes) => {
                    let why = self.follow(&mut changes).await;
                    tracing::warn!(why, "the watch of etcd ended, another node is asked");
                    changes.leave();
                }
                Err(status) => tracing::debug!(why = status.message(), "etcd cannot be watched"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Tells `changes`, until they end: the answer says why.
    async fn follow(&mut self, changes: &mut Changes<'_>) -> String {
        let mut late = false;
        loop {
            let wait = if late { LAG } else { SILENCE };
            match timeout(wait, changes.next()).await {
                Ok(Ok(told)) if told.canceled && told.compact_revision > 0 => match self.resync().await {
                    Ok(()) => return "its history was compacted".to_owned(),
                    Err(trouble) => return trouble.to_string(),
                },
                Ok(Ok(told)) if told.canceled => return told.cancel_reason,
                Ok(Ok(told)) => {
                    late = false;
                    for found in told.events.into_iter().filter_map(|event| event.kv) {
                        self.tell(&found);
                    }
                }
                Ok(Err(status)) => return status.message().to_owned(),
                Err(_) if late => return "it tells changes late".to_owned(),
                Err(_) => match self.position().await {
                    Ok(found) => late = found.is_some_and(|found| found.mod_revision >= self.next),
                    Err(trouble) => return trouble.to_string(),
                },
            }
        }
    }

    fn tell(&mut self, found: &KeyValue) {
        if found.mod_revision < self.next {
            return;
        }
        self.next = found.mod_revision.saturating_add(1);
        match decode::<Tip>(&self.layout.position(), found) {
            Ok(tip) => self.feed.follow(tip.revision, tip.changes),
            Err(error) => tracing::error!(%error, "a change in etcd cannot be read"),
        }
    }

    /// Goes on from the present position, for a watch whose history is gone.
    async fn resync(&mut self) -> Result<(), Trouble> {
        if let Some(found) = self.position().await? {
            if let Ok(tip) = decode::<Tip>(&self.layout.position(), &found) {
                self.feed.reset(tip.revision);
            }
            self.next = found.mod_revision.saturating_add(1);
        }
        Ok(())
    }

    async fn position(&self) -> Result<Option<KeyValue>, Trouble> {
        let txn = TxnRequest { success: vec![read(&self.layout.position())], ..TxnRequest::default() };
        Ok(pages(self.cluster.txn(txn).await?).flatten().next())
    }
}
