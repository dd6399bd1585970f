//! The audit chain: every entry names the digest of the one before it.
//!
//! For: one chain for each broker. Each start writes as `<broker>.<start>`, its records are stored under
//! `audit/<writer>/<sequence>`, and its first record names the last one of the start before.
//! Promises: a record that was changed, removed or moved inside a chain is found by [`policy::audit::Trail`].
//! Does not promise: to find a cut tail, or a last record that was changed. Both need a seal of the head
//! that was kept elsewhere.

use super::{
    Digest,
    record::{self, EncodeError, Record},
};
use policy::audit::{AuditRecord, ChainHead};
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

impl Record for AuditRecord {
    const VERSION: u32 = policy::audit::record::VERSION;
    const KIND: &'static str = "audit";
}

/// The writer of a broker's chain of one start.
pub(super) fn writer(broker: &BrokerId, start: u64) -> String {
    format!("{broker}.{start}")
}

/// Where the record of `writer` with this number is stored.
pub fn audit_key(writer: &str, sequence: u64) -> String {
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
    let record = AuditRecord::after(head, writer, entry);
    let value = record::encode(&record)?;
    Ok(Appended { key: audit_key(writer, record.sequence), head: record.head(&value), value })
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
