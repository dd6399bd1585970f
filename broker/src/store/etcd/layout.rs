//! What the store keeps in etcd, key by key.
//!
//! Below the plant's prefix: `generation` names the content that counts, `data/<generation>/<key>` is the content,
//! `position` is the store's revision with what its last transactions changed, `writer/<broker>` is where the audit
//! chain of each broker stands, `health/<broker>` is for its probe,
//! `blob/<digest>` is for blobs.

use super::super::{
    BrokerId, Digest, Revision, Versioned,
    commit::Position,
    record::{self, DecodeError, Record},
};
use proto::etcd::{KeyValue, TxnResponse, response_op::Response};
use serde::{Deserialize, Serialize};

/// Bytes of the version in front of a stored value.
const VERSION_BYTES: usize = size_of::<u64>();

/// First byte after all those of keys; ends a range.
const AFTER_KEYS: &str = "\x7f";

/// Where the store stands: of all brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tip {
    /// The revision of the last transaction.
    pub(super) revision: Revision,
    /// The keys that each of the last transactions changed, up to that revision. None after a restore.
    pub(super) changes: Vec<Vec<String>>,
}

impl Record for Tip {
    const VERSION: u32 = 1;
    const KIND: &'static str = "etcd store position";
}

/// Where a broker's audit chain stands, and which of its processes writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Writer {
    /// The process, by a random name: a broker has one at a time.
    pub(super) process: String,
    /// Commits of this process.
    pub(super) commits: u64,
    /// The content that the chain is in.
    pub(super) generation: String,
    /// Its start and head.
    pub(super) position: Position,
}

impl Record for Writer {
    const VERSION: u32 = 1;
    const KIND: &'static str = "etcd store writer";
}

/// The names of the store's keys.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    prefix: String,
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn generation(&self) -> String {
        format!("{}/generation", self.prefix)
    }

    pub(super) fn position(&self) -> String {
        format!("{}/position", self.prefix)
    }

    pub(super) fn writer(&self, broker: &BrokerId) -> String {
        format!("{}/writer/{broker}", self.prefix)
    }

    /// What the keys of all writers begin with.
    pub(super) fn writers(&self) -> String {
        format!("{}/writer/", self.prefix)
    }

    pub(super) fn health(&self, broker: &BrokerId) -> String {
        format!("{}/health/{broker}", self.prefix)
    }

    /// What the keys of all blobs begin with.
    pub(super) fn blobs(&self) -> String {
        format!("{}/blob/", self.prefix)
    }

    pub(super) fn blob(&self, digest: &Digest) -> String {
        format!("{}/blob/{}", self.prefix, digest.hex())
    }

    pub(super) fn blob_part(&self, digest: &Digest, number: u32) -> String {
        format!("{}/blob/{}/{number:04}", self.prefix, digest.hex())
    }

    /// What the keys of all generations begin with.
    pub(super) fn all_data(&self) -> String {
        format!("{}/data/", self.prefix)
    }

    /// What the keys of a generation begin with.
    pub(super) fn data(&self, generation: &str) -> String {
        format!("{}/data/{generation}/", self.prefix)
    }
}

/// The end of the range of keys that begin with `prefix`; all keys are ASCII.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    format!("{prefix}{AFTER_KEYS}").into_bytes()
}

/// The generation after `generation`, filled by `process`.
pub(super) fn generation_after(generation: &str, process: &str) -> String {
    format!("{}-{process}", number_of(generation).saturating_add(1))
}

/// The number of a generation: it counts restores.
pub(super) fn number_of(generation: &str) -> u64 {
    let number = generation.split('-').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

/// A value as it is stored: its version, big-endian, then the value.
pub(super) fn stored(version: Revision, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VERSION_BYTES.saturating_add(value.len()));
    bytes.extend_from_slice(&version.0.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// What [`stored`] was given.
pub(super) fn versioned(bytes: &[u8]) -> Result<Versioned, String> {
    let (version, value) =
        bytes.split_first_chunk::<VERSION_BYTES>().ok_or_else(|| "a stored value is cut short".to_owned())?;
    Ok(Versioned { version: Revision(u64::from_be_bytes(*version)), value: value.to_vec() })
}

/// The record stored in `found` under `key`.
pub(super) fn decode<R: Record>(key: &str, found: &KeyValue) -> Result<R, DecodeError> {
    record::decode(key, &found.value)
}

/// The keys and values that each read of a transaction found.
pub(super) fn pages(answer: TxnResponse) -> impl Iterator<Item = Vec<KeyValue>> {
    answer.responses.into_iter().filter_map(|one| match one.response {
        Some(Response::ResponseRange(range)) => Some(range.kvs),
        _ => None,
    })
}
