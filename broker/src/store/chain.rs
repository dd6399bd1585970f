//! The audit chain: every entry names the digest of the one before it.
//!
//! For: one chain for each broker and start. The writer of a chain is `<broker>.<start>`, its records are
//! stored under `audit/<writer>/<sequence>`, and its first record names the head of the chain before.
//! Promises: a record that was changed, removed or moved inside a chain is found by [`verify_chain`].
//! Does not promise: to find a cut tail, or a last record that was changed. Both need a seal of the head
//! that was kept elsewhere.

use super::{
    Digest,
    record::{self, DecodeError, EncodeError, Record},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Where audit records are stored; only the store writes below it.
pub const AUDIT_PREFIX: &str = "audit/";

/// Longest broker id: one DNS label as everywhere else.
const MAX_BROKER_ID: usize = 40;

/// The name of a broker in its audit chains: 1 to 40 of `a-z`, `0-9` and `-`. Two brokers of a plant never
/// share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerId(String);

/// Text that is no broker id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a broker id; write 1 to 40 of a-z, 0-9 and -")]
pub struct BrokerIdError {
    text: String,
}

impl FromStr for BrokerId {
    type Err = BrokerIdError;

    fn from_str(text: &str) -> Result<Self, BrokerIdError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=MAX_BROKER_ID).contains(&text.len()) && text.bytes().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(BrokerIdError { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last record of a chain: what the next one follows, and what a seal seals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// `<broker>.<start>`.
    pub writer: String,
    /// Number of the record in its chain, from 1.
    pub sequence: u64,
    /// SHA-256 of the record as stored.
    pub digest: Digest,
}

/// A stored audit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// `<broker>.<start>`.
    pub writer: String,
    /// Number of the record in its chain, from 1.
    pub sequence: u64,
    /// The record before; for the first of a chain, the head of the chain that this broker wrote before, if
    /// there was one.
    pub follows: Option<ChainHead>,
    /// The entry as it was given to the transaction.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub entry: Vec<u8>,
}

impl Record for AuditRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "audit";
}

fn to_base64<S: Serializer>(entry: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(entry))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The writer of a broker's chain of one start.
pub(super) fn writer(broker: &BrokerId, start: u64) -> String {
    format!("{broker}.{start}")
}

fn audit_key(writer: &str, sequence: u64) -> String {
    format!("{AUDIT_PREFIX}{writer}/{sequence:020}")
}

/// The start and head of a chain of `broker` as far as the record `value` under `key` shows it.
pub(super) fn head_at(broker: &BrokerId, key: &str, value: &[u8]) -> Option<(u64, ChainHead)> {
    let (writer, sequence) = key.strip_prefix(AUDIT_PREFIX)?.split_once('/')?;
    let (id, start) = writer.rsplit_once('.')?;
    let head =
        ChainHead { writer: writer.to_owned(), sequence: sequence.parse().ok()?, digest: Digest::of(value) };
    Some((start.parse().ok()?, head)).filter(|_| id == broker.0)
}

/// A record that is ready to be stored, and the head it makes.
pub(super) struct Appended {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) head: ChainHead,
}

/// The record that carries `entry` in the chain of `writer`, after `head`.
pub(super) fn append(writer: &str, head: Option<&ChainHead>, entry: &[u8]) -> Result<Appended, EncodeError> {
    let sequence = match head {
        Some(head) if head.writer == writer => head.sequence.saturating_add(1),
        _ => 1,
    };
    let writer = writer.to_owned();
    let key = audit_key(&writer, sequence);
    let entry = entry.to_vec();
    let value =
        record::encode(&AuditRecord { writer: writer.clone(), sequence, follows: head.cloned(), entry })?;
    let digest = Digest::of(&value);
    Ok(Appended { key, value, head: ChainHead { writer, sequence, digest } })
}

/// Verifies a chain record by record, in constant memory.
#[derive(Debug, Default)]
pub struct ChainVerifier {
    head: Option<ChainHead>,
    begins_after: Option<ChainHead>,
}

impl ChainVerifier {
    /// Begins at the first record of a chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on after `head`, verified before: for a chain whose older records are in an archive.
    pub fn after(head: ChainHead) -> Self {
        Self { head: Some(head), begins_after: None }
    }

    /// Takes the next record, in the order of keys, as [`super::Store::scan`] gives them.
    pub fn follow(&mut self, key: &str, value: &[u8]) -> Result<AuditRecord, ChainError> {
        let record: AuditRecord = record::decode(key, value).map_err(ChainError::Unreadable)?;
        if key != audit_key(&record.writer, record.sequence) {
            return Err(ChainError::Misplaced { key: key.to_owned() });
        }
        match &self.head {
            Some(head) => follows(head, &record)?,
            None if record.sequence != 1 => {
                return Err(ChainError::Missing { key: audit_key(&record.writer, 1) });
            }
            None => self.begins_after.clone_from(&record.follows),
        }
        self.head = Some(ChainHead {
            writer: record.writer.clone(),
            sequence: record.sequence,
            digest: Digest::of(value),
        });
        Ok(record)
    }

    /// The last record so far.
    pub fn head(&self) -> Option<&ChainHead> {
        self.head.as_ref()
    }

    /// The head of the chain before, as the first record names it: compare it with the head of that chain.
    pub fn begins_after(&self) -> Option<&ChainHead> {
        self.begins_after.as_ref()
    }
}

fn follows(head: &ChainHead, record: &AuditRecord) -> Result<(), ChainError> {
    let key = audit_key(&record.writer, record.sequence);
    if record.writer != head.writer {
        return Err(ChainError::OtherWriter { key, writer: head.writer.clone() });
    }
    let sequence = head.sequence.saturating_add(1);
    if record.sequence != sequence {
        return Err(ChainError::Missing { key: audit_key(&record.writer, sequence) });
    }
    if record.follows.as_ref() != Some(head) {
        let altered = audit_key(&head.writer, head.sequence);
        return Err(ChainError::Altered { key: altered, successor: key });
    }
    Ok(())
}

/// Verifies one whole chain, given its records in the order of keys.
pub fn verify_chain<'a>(
    records: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<ChainHead, ChainError> {
    let mut verifier = ChainVerifier::new();
    for (key, value) in records {
        verifier.follow(key, value)?;
    }
    verifier.head.ok_or(ChainError::Empty)
}

/// Where a chain is broken: the first record that is wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There is no record.
    #[error("the audit chain has no records; name an existing writer")]
    Empty,
    /// A record does not decode.
    #[error(transparent)]
    Unreadable(DecodeError),
    /// A record claims another place than the one it was found at.
    #[error(
        "audit record {key:?} claims another writer or number: it was moved; keep the store for evidence"
    )]
    Misplaced {
        /// Where it was found.
        key: String,
    },
    /// A record of another chain.
    #[error("audit record {key:?} is not of the chain {writer:?}; verify one chain at a time")]
    OtherWriter {
        /// The record.
        key: String,
        /// The chain that is verified.
        writer: String,
    },
    /// A record is not there, but later ones are.
    #[error("audit record {key:?} is missing: it was removed or archived; verify with the archive")]
    Missing {
        /// The first record that is not there.
        key: String,
    },
    /// The next record does not name this one's digest.
    #[error(
        "audit record {key:?} was altered, or else the link to it in {successor:?}; keep the store for evidence"
    )]
    Altered {
        /// The record.
        key: String,
        /// The record after it.
        successor: String,
    },
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
