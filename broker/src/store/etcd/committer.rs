//! The one task of a broker that writes to etcd.
//!
//! It takes what is queued, reads what all of it expects together with the store's position, decides as every backend
//! does, and writes one transaction of etcd for the whole group. That transaction compares position, generation and
//! this broker's writer with what was read. So if any broker wrote meanwhile, nothing is written and the group is
//! decided anew; and sending it again after an answer was lost does no harm.

use super::{
    super::{
        BrokerId, Content, ProbeError, ReplaceError, Revision, TxnError,
        commit::{Journal, Position},
        feed::Feed,
        record,
        txn::BoundedTxn,
    },
    cluster::{Trouble, holds, read, unchanged},
    layout::{Tip, Writer, decode, pages, stored},
    view::{Snapshot, View},
};
use proto::etcd::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op::Request as Op};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

/// Jobs that may wait. Callers beyond it wait before they enter.
pub(super) const QUEUE: usize = 512;

/// Most keys of a group, read or written. etcd takes 128 operations by default, and position and writer are two.
const GROUP_KEYS: usize = 120;

/// How long a group is decided anew while other brokers write between its read and its write.
const PERSISTENCE: Duration = Duration::from_secs(6);

/// How long this broker's watchers may be behind before they are told to scan.
const LAG: Duration = Duration::from_millis(300);

/// Answer to a transaction.
type Answer = oneshot::Sender<Result<Revision, TxnError>>;

/// Work for the committer.
pub(super) enum Job {
    Transact { txn: BoundedTxn, answer: Answer },
    Replace { content: Content, past: Revision, answer: oneshot::Sender<Result<Revision, ReplaceError>> },
    Probe { answer: oneshot::Sender<Result<(), ProbeError>> },
}

/// The writer of this process.
pub(super) struct Committer {
    pub(super) view: Arc<View>,
    pub(super) feed: Arc<Feed>,
    pub(super) broker: BrokerId,
    /// This process, by a random name.
    pub(super) process: String,
    /// Commits that were sent.
    pub(super) commits: u64,
    /// The highest revision that was read or written.
    pub(super) seen: Revision,
    /// Why the store no longer writes.
    pub(super) poison: Option<String>,
}

/// What a group changes.
struct Group {
    outcomes: Vec<Result<Revision, TxnError>>,
    writes: BTreeMap<String, Option<Vec<u8>>>,
    changes: Vec<Vec<String>>,
    position: Position,
}

impl Committer {
    /// Serves jobs until every sender is gone.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut waiting = None;
        loop {
            let job = match waiting.take() {
                Some(job) => job,
                None => match jobs.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            match job {
                Job::Transact { txn, answer } => {
                    let mut group = vec![(txn, answer)];
                    waiting = gather(&mut group, &mut jobs);
                    self.serve(group).await;
                }
                // Callers may have gone; what was done stands all the same.
                Job::Replace { content, past, answer } => {
                    let _ = answer.send(self.replace(content, past).await);
                }
                Job::Probe { answer } => {
                    let _ = answer.send(self.probe().await);
                }
            }
        }
    }

    async fn serve(&mut self, group: Vec<(BoundedTxn, Answer)>) {
        let (txns, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcomes = self.commit(&txns).await;
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            let _ = answer.send(outcome);
        }
    }

    /// Decides and writes the group.
    async fn commit(&mut self, txns: &[BoundedTxn]) -> Vec<Result<Revision, TxnError>> {
        let all = |error: &dyn Fn() -> TxnError| txns.iter().map(|_| Err(error())).collect();
        let expected: BTreeSet<&str> = txns.iter().flat_map(BoundedTxn::expected).collect();
        let expected: Vec<&str> = expected.into_iter().collect();
        let end = Instant::now() + PERSISTENCE;
        loop {
            if let Some(why) = &self.poison {
                return all(&|| TxnError::Poisoned { why: why.clone() });
            }
            let snapshot = match self.snapshot(&expected).await {
                Ok(Some(snapshot)) => snapshot,
                Ok(None) => continue,
                Err(trouble) => return all(&|| TxnError::Away { why: trouble.to_string() }),
            };
            let group = self.decide(txns, &snapshot);
            if group.changes.is_empty() {
                return group.outcomes;
            }
            match self.write(&snapshot, &group).await {
                Ok(true) => {
                    self.tell(&snapshot, &group).await;
                    return group.outcomes;
                }
                Ok(false) if Instant::now() < end => {}
                Ok(false) => {
                    let why = "other brokers changed the store all the time".to_owned();
                    return all(&|| TxnError::Away { why: why.clone() });
                }
                Err(trouble) => return undecided(group.outcomes, &trouble),
            }
        }
    }

    /// The store as it is, if this process may write to it. `None` if it had to begin a new chain first.
    pub(super) async fn snapshot(&mut self, keys: &[&str]) -> Result<Option<Snapshot>, Trouble> {
        let snapshot = self.view.snapshot(&self.broker, keys).await?;
        if snapshot.tip.revision < self.seen {
            self.poison = Some(format!(
                "etcd is at revision {} and was at {}: it lost what it had acknowledged; restore the last backup",
                snapshot.tip.revision, self.seen
            ));
            return Ok(None);
        }
        self.seen = snapshot.tip.revision;
        let Some(writer) = snapshot.writer.as_ref().filter(|writer| writer.process == self.process) else {
            self.poison = Some(format!(
                "another process writes as broker {}; end one of the two, and give each broker an id of its own",
                self.broker
            ));
            return Ok(None);
        };
        if writer.generation != *snapshot.generation {
            self.begin(&snapshot).await?;
            return Ok(None);
        }
        Ok(Some(snapshot))
    }

    fn decide(&self, txns: &[BoundedTxn], snapshot: &Snapshot) -> Group {
        let begun = snapshot.writer.as_ref().map(|writer| writer.position.clone()).unwrap_or_default();
        let position = Position { revision: snapshot.tip.revision, ..begun };
        let mut journal = Journal::resume(self.broker.clone(), position);
        let mut versions = snapshot.versions.clone();
        let (mut outcomes, mut changes) = (Vec::with_capacity(txns.len()), Vec::new());
        let mut writes = BTreeMap::new();
        for txn in txns {
            let commit = match journal.prepare(txn, |key| Ok(versions.get(key).copied())) {
                Ok(commit) => commit,
                Err(error) => {
                    outcomes.push(Err(error));
                    continue;
                }
            };
            let revision = commit.position.revision;
            journal.adopt(commit.position);
            let mut keys = Vec::with_capacity(commit.writes.len());
            for (key, value) in commit.writes {
                match value {
                    Some(_) => versions.insert(key.clone(), revision),
                    None => versions.remove(&key),
                };
                keys.push(key.clone());
                writes.insert(key, value.map(|value| stored(revision, &value)));
            }
            changes.push(keys);
            outcomes.push(Ok(revision));
        }
        Group { outcomes, writes, changes, position: journal.position().clone() }
    }

    /// Writes the group, if nothing changed since the snapshot: the answer says whether it is in the store.
    async fn write(&mut self, snapshot: &Snapshot, group: &Group) -> Result<bool, Trouble> {
        self.commits = self.commits.saturating_add(1);
        let data = self.view.layout.data(&snapshot.generation);
        let tip = Tip { revision: group.position.revision, changes: group.changes.clone() };
        let mut success = vec![
            put(&self.view.layout.position(), encoded(&tip)?),
            self.put_writer(&snapshot.generation, group.position.clone())?,
        ];
        success.extend(group.writes.iter().map(|(key, value)| {
            let key = format!("{data}{key}");
            match value {
                Some(value) => put(&key, value.clone()),
                None => remove(&key),
            }
        }));
        self.sent(snapshot, success).await
    }

    /// Does `success`, which puts this broker's writer, if nothing changed since the snapshot.
    pub(super) async fn sent(&self, snapshot: &Snapshot, success: Vec<RequestOp>) -> Result<bool, Trouble> {
        let writer = self.view.layout.writer(&self.broker);
        let txn = TxnRequest {
            compare: vec![
                unchanged(&self.view.layout.position(), snapshot.tip_at),
                unchanged(&writer, snapshot.writer_at),
                holds(&self.view.layout.generation(), snapshot.generation.as_bytes()),
            ],
            success,
            failure: vec![read(&writer)],
        };
        let answer = self.view.cluster.txn(txn).await?;
        if answer.succeeded {
            return Ok(true);
        }
        // An earlier copy of it may have been done, and its answer was lost.
        let found = pages(answer).flatten().next().and_then(|found| decode::<Writer>(&writer, &found).ok());
        Ok(found.is_some_and(|found| found.process == self.process && found.commits == self.commits))
    }

    pub(super) fn put_writer(&self, generation: &str, position: Position) -> Result<RequestOp, Trouble> {
        let writer = Writer {
            process: self.process.clone(),
            commits: self.commits,
            generation: generation.to_owned(),
            position,
        };
        Ok(put(&self.view.layout.writer(&self.broker), encoded(&writer)?))
    }

    /// Takes over from the process that wrote for this broker before, or from the content before: a new chain.
    pub(super) async fn begin(&mut self, snapshot: &Snapshot) -> Result<bool, Trouble> {
        self.commits = self.commits.saturating_add(1);
        let same = snapshot.writer.as_ref().is_some_and(|writer| writer.generation == *snapshot.generation);
        let before = snapshot.writer.as_ref().map(|writer| writer.position.clone()).unwrap_or_default();
        let inherited = if same { None } else { self.inherited().await? };
        let position = before.succeeded(snapshot.tip.revision, inherited);
        let success = vec![self.put_writer(&snapshot.generation, position)?];
        self.sent(snapshot, success).await
    }

    /// Tells this broker's watchers of the group: after what other brokers did before it, if that comes soon.
    async fn tell(&mut self, snapshot: &Snapshot, group: &Group) {
        self.seen = group.position.revision;
        let Tip { revision, changes } = &snapshot.tip;
        let before = revision.0.saturating_sub(u64::try_from(changes.len()).unwrap_or(u64::MAX));
        if !changes.is_empty() && before <= self.feed.revision().0 {
            self.feed.follow(*revision, changes.clone());
        }
        let _ = timeout(LAG, self.feed.reached(snapshot.tip.revision)).await;
        self.feed.follow(group.position.revision, group.changes.clone());
    }

    /// Writes and reads back this broker's health record.
    async fn probe(&mut self) -> Result<(), ProbeError> {
        let failed = |why: String| ProbeError { why };
        if let Some(why) = &self.poison {
            return Err(failed(why.clone()));
        }
        self.commits = self.commits.saturating_add(1);
        let key = self.view.layout.health(&self.broker);
        let value = format!("{} {}", self.process, self.commits).into_bytes();
        let success = vec![put(&key, value.clone()), read(&key)];
        let answer = self.view.cluster.txn(TxnRequest { success, ..TxnRequest::default() }).await;
        let found = pages(answer.map_err(|trouble| failed(trouble.to_string()))?).flatten().next();
        match found {
            Some(found) if found.value == value => Ok(()),
            _ => Err(failed("the health record was written but is not there".to_owned())),
        }
    }
}

/// Adds to the group what is queued and fits; what does not fit is the answer.
fn gather(group: &mut Vec<(BoundedTxn, Answer)>, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    let mut keys: usize = group.iter().map(|(txn, _)| txn.keys()).sum();
    while let Ok(job) = jobs.try_recv() {
        match job {
            Job::Transact { txn, answer } if keys.saturating_add(txn.keys()) <= GROUP_KEYS => {
                keys = keys.saturating_add(txn.keys());
                group.push((txn, answer));
            }
            job => return Some(job),
        }
    }
    None
}

/// The outcomes of a group whose write got no answer: refusals stand.
fn undecided(
    outcomes: Vec<Result<Revision, TxnError>>,
    trouble: &Trouble,
) -> Vec<Result<Revision, TxnError>> {
    let why = trouble.to_string();
    let of = |outcome: Result<Revision, TxnError>| {
        outcome.and_then(|_| match trouble {
            Trouble::Unanswered { .. } => Err(TxnError::Undecided { why: why.clone() }),
            _ => Err(TxnError::Away { why: why.clone() }),
        })
    };
    outcomes.into_iter().map(of).collect()
}

pub(super) fn put(key: &str, value: Vec<u8>) -> RequestOp {
    let put = PutRequest { key: key.as_bytes().to_vec(), value, ..PutRequest::default() };
    RequestOp { request: Some(Op::RequestPut(put)) }
}

fn remove(key: &str) -> RequestOp {
    let remove = DeleteRangeRequest { key: key.as_bytes().to_vec(), range_end: Vec::new() };
    RequestOp { request: Some(Op::RequestDeleteRange(remove)) }
}

pub(super) fn encoded<R: record::Record>(record: &R) -> Result<Vec<u8>, Trouble> {
    record::encode(record).map_err(|error| Trouble::Damaged { why: error.to_string() })
}
