//! The one thread that writes.
//!
//! It takes what is queued, applies transaction after transaction, makes all of them durable with one
//! sync, shows them to readers and watchers, and only then answers. Refusals are answered after the sync
//! too, because they speak of what the group wrote before them.

use super::{
    damage::contained,
    database::{Database, Fault, POSITION, encoded},
    place::Place,
    view::{SharedView, read, stored},
    watermark::Watermark,
};
use crate::store::{
    Content, ProbeError, ReadError, ReplaceError, Revision, TxnError,
    commit::{Commit, Journal, Position, Replacement},
    feed::Feed,
    limit::LimitError,
    txn::BoundedTxn,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait, and the most that share one sync: about 20 ms of work on a slow disk. Callers beyond
/// it wait before they enter.
pub(super) const QUEUE: usize = 512;

/// Bytes of writes after which no further transaction joins the sync. With the largest transaction on top and
/// sled writing about four times what it is given, that stays below half a segment of its log.
pub(super) const GROUP_BYTES: usize = 256 << 10;

/// The health record, out of every reader's sight.
const HEALTH: &str = "\0health";

/// Work for the committer.
pub(super) enum Job {
    Transact { txn: BoundedTxn, answer: oneshot::Sender<Result<Revision, TxnError>> },
    Replace { content: Content, past: Revision, answer: oneshot::Sender<Result<Revision, ReplaceError>> },
    Probe { answer: oneshot::Sender<Result<(), ProbeError>> },
}

impl Job {
    /// Bytes it writes before the sync of its group.
    fn bytes(&self) -> usize {
        match self {
            Self::Transact { txn, .. } => txn.bytes(),
            Self::Replace { .. } | Self::Probe { .. } => 0,
        }
    }
}

/// What waits for the sync of its group.
enum Pending {
    Applied { revision: Revision, keys: Vec<String>, answer: oneshot::Sender<Result<Revision, TxnError>> },
    Refused { error: TxnError, answer: oneshot::Sender<Result<Revision, TxnError>> },
    Probed { answer: oneshot::Sender<Result<(), ProbeError>> },
}

/// The writer of the store.
pub(super) struct Committer {
    pub(super) place: Place,
    pub(super) database: Database,
    pub(super) watermark: Watermark,
    pub(super) journal: Journal,
    pub(super) view: SharedView,
    pub(super) feed: Arc<Feed>,
    /// Groups that were made durable: the content of the health record.
    pub(super) syncs: u64,
    /// Why the store no longer writes.
    pub(super) poison: Option<String>,
}

impl Committer {
    /// Serves jobs until every sender is gone.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut bytes = first.bytes();
            let mut group = vec![first];
            while group.len() < QUEUE
                && bytes < GROUP_BYTES
                && let Ok(job) = jobs.try_recv()
            {
                bytes = bytes.saturating_add(job.bytes());
                group.push(job);
            }
            self.serve(group);
        }
    }

    fn serve(&mut self, group: Vec<Job>) {
        let mut pending = Vec::with_capacity(group.len());
        for job in group {
            match job {
                Job::Transact { txn, answer } => pending.push(match self.apply(&txn) {
                    Ok((revision, keys)) => Pending::Applied { revision, keys, answer },
                    Err(error) => Pending::Refused { error, answer },
                }),
                Job::Probe { answer } => {
                    self.touch_health();
                    pending.push(Pending::Probed { answer });
                }
                Job::Replace { content, past, answer } => {
                    self.settle(std::mem::take(&mut pending));
                    // The caller may have gone; the restore stands all the same.
                    let _ = answer.send(self.replace(content, past));
                }
            }
        }
        self.settle(pending);
    }

    /// Applies a transaction. It is not durable yet, and no reader sees it.
    fn apply(&mut self, txn: &BoundedTxn) -> Result<(Revision, Vec<String>), TxnError> {
        if let Some(why) = &self.poison {
            return Err(TxnError::Poisoned { why: why.clone() });
        }
        let commit = self.journal.prepare(txn, |key| Ok(self.read(key)?.map(|record| record.version)))?;
        let revision = commit.position.revision;
        let keys = commit.writes.iter().map(|(key, _)| key.clone()).collect();
        let position = commit.position.clone();
        if let Err(why) = self.write(commit) {
            self.poison = Some(why.clone());
            return Err(TxnError::OutcomeUnknown { why });
        }
        self.journal.adopt(position);
        Ok((revision, keys))
    }

    fn read(&self, key: &str) -> Result<Option<crate::store::Versioned>, ReadError> {
        contained(|| read(&self.database.tree, key))
            .map_err(|why| ReadError::Unreadable { key: key.to_owned(), why })
    }

    fn write(&self, commit: Commit) -> Result<(), String> {
        let mut former = Vec::with_capacity(commit.writes.len());
        let mut batch = ::sled::Batch::default();
        for (key, value) in commit.writes {
            match value {
                Some(value) => batch.insert(key.as_str(), stored(commit.position.revision, &value)),
                None => batch.remove(key.as_str()),
            }
            let record = self.read(&key).map_err(|error| error.to_string())?;
            former.push((key, record));
        }
        batch.insert(POSITION, encoded(&commit.position)?);
        self.view.shield(former);
        contained(|| self.database.tree.apply_batch(batch))
    }

    /// Makes the group durable, shows it, and answers.
    fn settle(&mut self, pending: Vec<Pending>) {
        let wrote = pending.iter().any(|one| !matches!(one, Pending::Refused { .. }));
        if wrote && self.poison.is_none() {
            self.make_durable();
        }
        if self.poison.is_none() {
            self.view.settle();
        }
        for one in pending {
            self.answer(one);
        }
        self.syncs = self.syncs.saturating_add(1);
    }

    /// Answers one caller; after a failure, with the failure. Callers that have gone are no error.
    fn answer(&self, pending: Pending) {
        match (pending, &self.poison) {
            (Pending::Applied { revision, keys, answer }, None) => {
                self.feed.publish(revision, keys);
                let _ = answer.send(Ok(revision));
            }
            (Pending::Applied { answer, .. }, Some(why)) => {
                let _ = answer.send(Err(TxnError::OutcomeUnknown { why: why.clone() }));
            }
            // A conflict with a change that is not durable is no conflict yet.
            (Pending::Refused { error: TxnError::Conflict { .. }, answer }, Some(why)) => {
                let _ = answer.send(Err(TxnError::Poisoned { why: why.clone() }));
            }
            (Pending::Refused { error, answer }, _) => {
                let _ = answer.send(Err(error));
            }
            (Pending::Probed { answer }, None) => {
                let _ = answer.send(self.read_health());
            }
            (Pending::Probed { answer }, Some(why)) => {
                let _ = answer.send(Err(ProbeError { why: why.clone() }));
            }
        }
    }

    /// The sync that stands between applying and answering.
    fn make_durable(&mut self) {
        let synced = contained(&mut self.database.sync);
        if let Err(why) = synced.and_then(|()| self.note(self.journal.position().revision)) {
            self.poison = Some(why);
        }
    }

    /// Writes down what is about to be acknowledged.
    fn note(&self, revision: Revision) -> Result<(), String> {
        self.watermark.raise(self.place.number(), revision).map_err(|error| error.to_string())
    }

    fn touch_health(&mut self) {
        if self.poison.is_some() {
            return;
        }
        if let Err(why) = contained(|| self.database.tree.insert(HEALTH, &self.syncs.to_be_bytes())) {
            self.poison = Some(why);
        }
    }

    fn read_health(&self) -> Result<(), ProbeError> {
        match contained(|| self.database.tree.get(HEALTH)) {
            Ok(Some(found)) if *found == self.syncs.to_be_bytes() => Ok(()),
            Ok(_) => Err(ProbeError { why: "the health record was written but is not there".to_owned() }),
            Err(why) => Err(ProbeError { why }),
        }
    }

    /// Replaces the content: a new database is durable before the pointer to it is, and the old one is
    /// removed at the next open. Nothing of the old one is touched, because sled does not survive a power
    /// cut while it drops or writes much at once.
    fn replace(&mut self, content: Content, past: Revision) -> Result<Revision, ReplaceError> {
        if let Some(why) = &self.poison {
            return Err(ReplaceError::Poisoned { why: why.clone() });
        }
        let mut replacement = self.journal.replace(past)?;
        let (place, database) = self.fill(content, &mut replacement)?;
        let revision = replacement.revision;
        let position = self.journal.replaced(replacement);
        if let Err(why) = self.turn_to(place, database, &position) {
            self.poison = Some(why.clone());
            return Err(ReplaceError::OutcomeUnknown { why });
        }
        self.journal.adopt(position);
        self.view.show(self.database.tree.clone());
        self.feed.reset(revision);
        Ok(revision)
    }

    /// A new database with the content.
    fn fill(
        &self,
        content: Content,
        replacement: &mut Replacement,
    ) -> Result<(Place, Database), ReplaceError> {
        let unwritten = |why| ReplaceError::Unwritten { why };
        let place = self.place.next().map_err(|error| unwritten(error.to_string()))?;
        let database = Database::open(&place.folder()).map_err(|fault| {
            unwritten(match fault {
                Fault::Taken => "another process uses the new folder".to_owned(),
                Fault::Io(error) => error.to_string(),
                Fault::Damaged(why) => why,
            })
        })?;
        contained(|| insert_all(&database.tree, content, replacement)).map_err(unwritten)??;
        Ok((place, database))
    }

    fn turn_to(
        &mut self,
        mut place: Place,
        mut database: Database,
        position: &Position,
    ) -> Result<(), String> {
        database.seal(position)?;
        place.point().map_err(|error| error.to_string())?;
        self.place = place;
        self.database = database;
        self.note(position.revision)
    }
}

/// Inserts the content; the outer error is sled's, the inner one a fault of the content.
fn insert_all(
    tree: &::sled::Tree,
    content: Content,
    replacement: &mut Replacement,
) -> Result<Result<(), ReplaceError>, ::sled::Error> {
    for record in content {
        let (key, value) = match record {
            Ok(record) => record,
            Err(error) => return Ok(Err(ReplaceError::Source(error))),
        };
        if let Err(error) = replacement.note(&key, &value) {
            return Ok(Err(ReplaceError::Limit(error)));
        }
        if tree.insert(key.as_str(), stored(replacement.revision, &value))?.is_some() {
            return Ok(Err(ReplaceError::Limit(LimitError::WrittenTwice { key })));
        }
    }
    Ok(Ok(()))
}
