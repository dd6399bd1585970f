//! Recent changes, for watchers: a bounded ring, and a Resync for whoever fell behind it.

use super::Revision;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Keys the ring remembers, over all changes: at most 4 MiB, and at a typical three keys the last 5,000
/// transactions.
pub(super) const RING_KEYS: usize = 16_384;

/// What one transaction changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The transaction.
    pub revision: Revision,
    /// The keys it wrote or removed, audit records among them.
    pub keys: Arc<[String]>,
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The next change.
    Change(Change),
    /// Changes up to `revision` are no longer known one by one, because the watcher fell behind, the store
    /// was reopened, or a restore replaced its content. Scan what you need; what is scanned is at least as
    /// new as `revision`, and later changes follow.
    Resync {
        /// Where the watcher continues from.
        revision: Revision,
    },
}

#[derive(Debug)]
struct Ring {
    changes: VecDeque<Change>,
    /// Keys in `changes`, each change counted as at least one.
    keys: usize,
    /// Changes after this revision are all in the ring.
    floor: Revision,
    /// Revision of the latest change.
    tip: Revision,
}

impl Ring {
    /// What comes after `seen`, if anything.
    fn after(&self, seen: Revision) -> Option<WatchEvent> {
        if seen == self.tip {
            return None;
        }
        if seen < self.floor || seen > self.tip {
            return Some(WatchEvent::Resync { revision: self.tip });
        }
        let next = self.changes.partition_point(|change| change.revision <= seen);
        self.changes.get(next).cloned().map(WatchEvent::Change)
    }

    fn push(&mut self, change: Change) {
        self.tip = change.revision;
        self.keys = self.keys.saturating_add(weight(&change));
        self.changes.push_back(change);
        while self.keys > RING_KEYS
            && let Some(oldest) = self.changes.pop_front()
        {
            self.keys = self.keys.saturating_sub(weight(&oldest));
            self.floor = oldest.revision;
        }
    }
}

fn weight(change: &Change) -> usize {
    change.keys.len().max(1)
}

/// The publishing end, held by a backend.
#[derive(Debug)]
pub(super) struct Feed {
    ring: Arc<Mutex<Ring>>,
    tip: watch::Sender<Revision>,
}

impl Feed {
    /// A feed that knows nothing of what happened up to `revision`.
    pub(super) fn new(revision: Revision) -> Self {
        let ring = Ring { changes: VecDeque::new(), keys: 0, floor: revision, tip: revision };
        Self { ring: Arc::new(Mutex::new(ring)), tip: watch::Sender::new(revision) }
    }

    /// Tells the watchers of a durable change.
    pub(super) fn publish(&self, revision: Revision, keys: impl IntoIterator<Item = String>) {
        lock(&self.ring).push(Change { revision, keys: keys.into_iter().collect() });
        self.tip.send_replace(revision);
    }

    /// Tells of the changes that lead to `revision`, as far as they are new: one list of keys for each of the last
    /// revisions. Whoever tells first is believed, and what is missing before them, or no list at all, is a reset.
    pub(super) fn follow(&self, revision: Revision, changes: Vec<Vec<String>>) {
        let mut ring = lock(&self.ring);
        if revision <= ring.tip {
            return;
        }
        let count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        let before = Revision(revision.0.saturating_sub(count));
        if changes.is_empty() || before > ring.tip {
            *ring = Ring { changes: VecDeque::new(), keys: 0, floor: revision, tip: revision };
        } else {
            let mut each = before;
            for keys in changes {
                each = each.next();
                if each > ring.tip {
                    ring.push(Change { revision: each, keys: keys.into() });
                }
            }
        }
        drop(ring);
        self.tip.send_replace(revision);
    }

    /// Forgets all changes: every watcher resyncs at `revision`.
    pub(super) fn reset(&self, revision: Revision) {
        *lock(&self.ring) = Ring { changes: VecDeque::new(), keys: 0, floor: revision, tip: revision };
        self.tip.send_replace(revision);
    }

    /// Waits until the watchers were told up to `revision`.
    pub(super) async fn reached(&self, revision: Revision) {
        // The sender is here, so the wait ends with the revision only.
        let _ = self.tip.subscribe().wait_for(|tip| *tip >= revision).await;
    }

    /// Revision of the last durable change.
    pub(super) fn revision(&self) -> Revision {
        lock(&self.ring).tip
    }

    /// A watcher that has seen everything up to `seen`.
    pub(super) fn watch(&self, seen: Revision) -> Watch {
        Watch { ring: Arc::clone(&self.ring), tip: self.tip.subscribe(), seen }
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    // Nothing panics while the ring is held, and a ring is whole between any two of its changes.
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watcher's place in the stream of changes.
#[derive(Debug)]
pub struct Watch {
    ring: Arc<Mutex<Ring>>,
    tip: watch::Receiver<Revision>,
    seen: Revision,
}

impl Watch {
    /// The next event; waits for one. `None` once the store is closed and everything was told.
    ///
    /// Safe to cancel: an event is only counted as told when it is returned.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            self.tip.mark_unchanged();
            let event = lock(&self.ring).after(self.seen);
            if let Some(event) = event {
                self.seen = match &event {
                    WatchEvent::Change(change) => change.revision,
                    WatchEvent::Resync { revision } => *revision,
                };
                return Some(event);
            }
            self.tip.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|number| number.to_string()).collect()
    }

    #[tokio::test]
    async fn events_come_in_order_and_end_with_the_store() {
        let feed = Feed::new(Revision(5));
        let mut watch = feed.watch(Revision(5));
        feed.publish(Revision(6), keys(1));
        feed.publish(Revision(7), keys(0));
        drop(feed);
        for revision in [6, 7] {
            let event = watch.next().await;
            assert!(
                matches!(event, Some(WatchEvent::Change(change)) if change.revision == Revision(revision))
            );
        }
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn past_future_and_overrun_watchers_resync() {
        let feed = Feed::new(Revision(5));
        let mut current = feed.watch(Revision(5));
        for seen in [0, 4, 9] {
            let event = feed.watch(Revision(seen)).next().await;
            assert_eq!(event, Some(WatchEvent::Resync { revision: Revision(5) }), "{seen}");
        }
        for revision in 6..=8 {
            feed.publish(Revision(revision), keys(RING_KEYS / 2));
        }
        assert_eq!(current.next().await, Some(WatchEvent::Resync { revision: Revision(8) }));
        let event = feed.watch(Revision(6)).next().await;
        assert!(matches!(event, Some(WatchEvent::Change(change)) if change.revision == Revision(7)));
    }

    #[tokio::test]
    async fn changes_that_two_tell_are_told_once() {
        let feed = Feed::new(Revision(5));
        let mut watch = feed.watch(Revision(5));
        feed.follow(Revision(7), vec![keys(1), keys(2)]);
        feed.follow(Revision(8), vec![keys(1), keys(2), keys(3)]);
        feed.follow(Revision(7), vec![keys(1), keys(2)]);
        for revision in [6, 7, 8] {
            let event = watch.next().await;
            assert!(
                matches!(event, Some(WatchEvent::Change(change)) if change.revision == Revision(revision))
            );
        }
        feed.follow(Revision(10), vec![keys(1)]);
        assert_eq!(watch.next().await, Some(WatchEvent::Resync { revision: Revision(10) }), "9 is missing");
        feed.follow(Revision(11), Vec::new());
        assert_eq!(watch.next().await, Some(WatchEvent::Resync { revision: Revision(11) }), "a restore");
        feed.reached(Revision(11)).await;
    }

    #[tokio::test]
    async fn empty_changes_do_not_grow_the_ring() {
        let feed = Feed::new(Revision(0));
        for revision in 1..=u64::try_from(RING_KEYS).unwrap() + 10 {
            feed.publish(Revision(revision), keys(0));
        }
        assert_eq!(lock(&feed.ring).changes.len(), RING_KEYS);
    }
}
