//! Audit records as they are stored and hashed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::digest::Digest;

/// Version of the stored form.
pub const VERSION: u32 = 1;
/// Largest stored record in bytes: what the store takes as one value.
pub const MAX_RECORD: usize = 4096;

/// A record of a chain: what the next one follows, and what a seal names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// `<broker>.<start>`: each start of a broker writes under a name of its own.
    pub writer: String,
    /// Number of the record among those of its writer, from 1.
    pub sequence: u64,
    /// SHA-256 of the record as stored.
    pub digest: Digest,
}

impl ChainHead {
    /// The broker and which of its starts wrote the record.
    #[must_use]
    pub fn place(&self) -> Option<(&str, u64)> {
        place(&self.writer)
    }
}

fn place(writer: &str) -> Option<(&str, u64)> {
    let (broker, start) = writer.rsplit_once('.')?;
    Some((broker, start.parse().ok()?))
}

/// A stored audit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// `<broker>.<start>`.
    pub writer: String,
    /// Number of the record among those of its writer, from 1.
    pub sequence: u64,
    /// The record that this broker wrote before, if there was one.
    pub follows: Option<ChainHead>,
    /// The entry as it was given to the transaction.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub entry: Vec<u8>,
}

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    d: &'a AuditRecord,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    v: u32,
    d: AuditRecord,
}

/// Bytes are no audit record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More bytes than a record has.
    #[error("it has {0} bytes, a record has at most {MAX_RECORD}")]
    TooLarge(usize),
    /// Not the JSON of a record.
    #[error("it cannot be read as an audit record ({0})")]
    Unreadable(String),
    /// A later broker wrote it.
    #[error("it has version {0}, this program reads {VERSION}: use the version of the broker that wrote it")]
    Version(u32),
    /// Its writer is no broker and start.
    #[error("`{0}` is no writer; writers are called BROKER.START")]
    Writer(String),
}

impl AuditRecord {
    /// The record in these stored bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        let read: Read =
            serde_json::from_slice(bytes).map_err(|error| RecordError::Unreadable(error.to_string()))?;
        if read.v != VERSION {
            return Err(RecordError::Version(read.v));
        }
        match place(&read.d.writer) {
            Some(_) => Ok(read.d),
            None => Err(RecordError::Writer(read.d.writer.chars().take(80).collect())),
        }
    }

    /// The bytes that are stored and hashed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        serde_json::to_vec(&Written { v: VERSION, d: self }).unwrap_or_default()
    }

    /// The record that carries `entry` under the name `writer`, after `head`.
    #[must_use]
    pub fn after(head: Option<&ChainHead>, writer: &str, entry: &[u8]) -> Self {
        let sequence = match head {
            Some(head) if head.writer == writer => head.sequence.saturating_add(1),
            _ => 1,
        };
        Self { writer: writer.to_owned(), sequence, follows: head.cloned(), entry: entry.to_vec() }
    }

    /// The broker and which of its starts wrote the record.
    #[must_use]
    pub fn place(&self) -> Option<(&str, u64)> {
        place(&self.writer)
    }

    /// What the next record follows, if this one is stored as `bytes`.
    #[must_use]
    pub fn head(&self, bytes: &[u8]) -> ChainHead {
        ChainHead { writer: self.writer.clone(), sequence: self.sequence, digest: Digest::of(bytes) }
    }
}

fn to_base64<S: Serializer>(entry: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(entry))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_refused_by_its_reason() {
        let record = AuditRecord::after(None, "b1.1", b"entry");
        assert_eq!(AuditRecord::parse(&record.encode()), Ok(record.clone()));
        let text = String::from_utf8(record.encode()).unwrap();
        let refused = |text: String| AuditRecord::parse(text.as_bytes()).unwrap_err();
        assert_eq!(refused(text.replace("\"v\":1", "\"v\":2")), RecordError::Version(2));
        assert_eq!(refused(text.replace("b1.1", "b1")), RecordError::Writer("b1".to_owned()));
        assert!(matches!(refused(text.replace("\"d\"", "\"e\"")), RecordError::Unreadable(_)));
        assert_eq!(refused(" ".repeat(MAX_RECORD + 1)), RecordError::TooLarge(MAX_RECORD + 1));
    }
}
