//! Calls to whichever node of etcd answers.
//!
//! Promises: every call ends within [`PATIENCE`]; a node that fails, or has no leader, is left for the next one.
//! A transaction may be sent more than once, so each must be one that a second time does nothing: it compares what
//! it changes.

use super::dial::{EtcdOptions, OptionsError, channels};
use proto::etcd::{
    Compare, RangeRequest, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
    WatchResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    kv_client::KvClient,
    request_op::Request as Op,
    watch_client::WatchClient,
    watch_request::RequestUnion,
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataValue, transport::Channel};

/// How long a call may take over all nodes. A cluster of three that lost its leader has another within 3 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);

/// How long one node has to answer. A call takes about a millisecond; a slow disk's sync takes some hundred.
const ATTEMPT: Duration = Duration::from_millis(1500);

/// Pause before the next node is asked, so that nodes that refuse are not asked in a spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Largest answer: a scan of a thousand records.
const MAX_ANSWER: usize = 8 << 20;

/// No node answered as it should.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// No node answered in time. What was asked may have been done.
    #[error("no node of etcd answered within {} s, the last was {node}: {why}", PATIENCE.as_secs())]
    Unanswered {
        /// The node that was asked last.
        node: String,
        /// What it said.
        why: String,
    },
    /// etcd refused. Nothing was done.
    #[error("etcd at {node} refused: {why}")]
    Refused {
        /// The node.
        node: String,
        /// What it said.
        why: String,
    },
    /// The plant's keys are not there.
    #[error(
        "etcd no longer holds this plant's store: it was emptied or replaced; restore the last backup into it"
    )]
    Lost,
    /// What is stored cannot be read.
    #[error("{why}")]
    Damaged {
        /// Why.
        why: String,
    },
}

/// The nodes of etcd.
#[derive(Debug)]
pub(super) struct Cluster {
    first: (String, Channel),
    others: Vec<(String, Channel)>,
    /// The node that is asked first.
    current: AtomicUsize,
}

impl Cluster {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, OptionsError> {
        let mut nodes = channels(options)?.into_iter();
        let first = nodes.next().ok_or(OptionsError::NoEndpoint)?;
        Ok(Self { first, others: nodes.collect(), current: AtomicUsize::new(0) })
    }

    fn node(&self) -> (usize, &str, Channel) {
        let current = self.current.load(Ordering::Relaxed);
        let at = current.checked_rem(self.others.len().saturating_add(1)).unwrap_or(0);
        let other = at.checked_sub(1).and_then(|at| self.others.get(at));
        let (name, channel) = other.unwrap_or(&self.first);
        (current, name, channel.clone())
    }

    /// Leaves the node that was `current` for the next.
    fn leave(&self, current: usize) {
        let next = current.wrapping_add(1);
        // Somebody else may have left it before.
        let _ = self.current.compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Does `txn`, which must do nothing when it is sent a second time.
    pub(super) async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (current, name, channel) = self.node();
            let mut client = KvClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            let status = match timeout(ATTEMPT, client.txn(led(txn.clone()))).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("it does not answer"),
            };
            if is_refusal(&status) {
                return Err(Trouble::Refused { node: name.to_owned(), why: said(&status) });
            }
            self.leave(current);
            if Instant::now() + PAUSE > deadline {
                return Err(Trouble::Unanswered { node: name.to_owned(), why: said(&status) });
            }
            tracing::debug!(node = name, why = said(&status), "a node of etcd did not answer");
            sleep(PAUSE).await;
        }
    }

    /// The changes of `key` from etcd's revision `start` on, as one node tells them.
    pub(super) async fn watch(&self, key: &[u8], start: i64) -> Result<Changes<'_>, Status> {
        let (current, _, channel) = self.node();
        let (keep, requests) = mpsc::channel(1);
        let create =
            WatchCreateRequest { key: key.to_vec(), start_revision: start, ..WatchCreateRequest::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let opened = async {
            let _ = keep.send(request).await;
            WatchClient::new(channel)
                .max_decoding_message_size(MAX_ANSWER)
                .watch(led(ReceiverStream::new(requests)))
                .await
        };
        let opened = timeout(ATTEMPT, opened).await;
        let opened = opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer")));
        let stream = opened.inspect_err(|_| self.leave(current))?.into_inner();
        Ok(Changes { stream, _keep: keep, cluster: self, current })
    }
}

/// A stream of changes from one node.
pub(super) struct Changes<'a> {
    stream: Streaming<WatchResponse>,
    /// The stream lives as long as its requests do.
    _keep: mpsc::Sender<WatchRequest>,
    cluster: &'a Cluster,
    current: usize,
}

impl Changes<'_> {
    /// The next changes; waits for some.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, Status> {
        match self.stream.message().await {
            Ok(Some(changes)) => Ok(changes),
            Ok(None) => Err(Status::unavailable("it ended the watch")),
            Err(status) => Err(status),
        }
    }

    /// Asks another node the next time.
    pub(super) fn leave(self) {
        self.cluster.leave(self.current);
    }
}

/// A request that a node without a leader refuses at once, and whose watch it ends.
fn led<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

/// Whether every node would say the same, and nothing was done.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::ResourceExhausted
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::OutOfRange
    )
}

/// What a node, or the way to it, said; with the cause that the connection names.
fn said(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    if status.code() == Code::ResourceExhausted && text.contains("space") {
        text.push_str("; free its space: `etcdctl compact`, `etcdctl defrag`, `etcdctl alarm disarm`");
    }
    text
}

/// `key` as a message has it.
pub(super) fn compare(
    key: &str,
    result: CompareResult,
    target: CompareTarget,
    union: TargetUnion,
) -> Compare {
    Compare {
        result: result.into(),
        target: target.into(),
        key: key.as_bytes().to_vec(),
        target_union: Some(union),
    }
}

/// That `key` was last changed by etcd's revision `revision`; zero for a key that is not there.
pub(super) fn unchanged(key: &str, revision: i64) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

/// That there is no `key`.
pub(super) fn absent(key: &str) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Create, TargetUnion::CreateRevision(0))
}

/// That `key` has this value.
pub(super) fn holds(key: &str, value: &[u8]) -> Compare {
    compare(key, CompareResult::Equal, CompareTarget::Value, TargetUnion::Value(value.to_vec()))
}

/// Reads one key.
pub(super) fn read(key: &str) -> RequestOp {
    ranged(RangeRequest { key: key.as_bytes().to_vec(), ..RangeRequest::default() })
}

/// Reads a range of keys.
pub(super) fn ranged(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Op::RequestRange(range)) }
}
