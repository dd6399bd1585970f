//! Event records in a JSON text sequence (RFC 7464), shaped like the TCG's CEL-JSON (Canonical Event Log
//! Format 1.0): what systemd and the attestor write about measurements made by running software.
//!
//! A record's number is its place. A `recnum` is written by whoever wrote the log, so it is held
//! against the place and never orders anything (checklist row 24). A last record without its line end
//! was being written when the log was read, or its writer died: it is left out, as RFC 7464, 2.4 has it.
//! What this module does not promise: that anything of a record was ever extended.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::budget::{MAX_BANKS, MAX_RECORD_BYTES, MAX_RECORDS, MAX_SEQUENCE_BYTES};
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// The byte before each record (RFC 7464, 2.2).
pub(super) const RECORD_SEPARATOR: u8 = 0x1e;

/// A log of this form cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// More bytes than are read.
    #[error("the log has {0} bytes, at most {MAX_SEQUENCE_BYTES} are read; reboot to begin a new one")]
    TooLarge(usize),
    /// More records than are read.
    #[error("the log has more than {MAX_RECORDS} records; reboot to begin a new one")]
    TooManyRecords,
    /// Bytes before the first record.
    #[error("the log does not begin with a record separator (0x1e); send it as it was written")]
    NotASequence,
    /// A record that is too long.
    #[error("record {position} has {found} bytes, at most {MAX_RECORD_BYTES} are read")]
    RecordTooLarge {
        /// Its place, from 0.
        position: usize,
        /// Its length in bytes.
        found: usize,
    },
    /// A record that is no JSON object of the right shape.
    #[error(
        "record {position} is no event record, at line {line} column {column}; send the log as it was written"
    )]
    Record {
        /// Its place.
        position: usize,
        /// Line within the record, from 1.
        line: usize,
        /// Column within the line.
        column: usize,
    },
    /// A record of another writer.
    #[error("record {position} has another content type than {wanted}; send each log in its own field")]
    ContentType {
        /// Its place.
        position: usize,
        /// The content type of this log.
        wanted: &'static str,
    },
    /// A record that names no register, two, or one that does not exist.
    #[error("record {position} extends neither one PCR from 0 to 23 nor one NV index")]
    Register {
        /// Its place.
        position: usize,
    },
    /// A digest that is not one of its algorithm.
    #[error("record {position} has a digest that is not one of {alg}")]
    Digest {
        /// Its place.
        position: usize,
        /// The algorithm.
        alg: HashAlg,
    },
    /// Two digests of one bank, or more digests than a TPM has banks.
    #[error("record {position} has two digests of one bank, or more than {MAX_BANKS}")]
    SurplusDigest {
        /// Its place.
        position: usize,
    },
    /// Numbers with a gap or a repetition, or only some records with one.
    #[error("record {position} is not numbered as its place says; records were removed, added or moved")]
    Number {
        /// Its place.
        position: usize,
    },
}

/// What a record says was extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// A PCR.
    Pcr(PcrIndex),
    /// An NV index of type `TPM_NT_EXTEND`; it is no PCR and never counts as one.
    Nv(u32),
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr(pcr) => write!(f, "PCR {pcr}"),
            Self::Nv(index) => write!(f, "NV index {index:#010x}"),
        }
    }
}

/// Digests of one event, at most one of each bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests([Option<HashValue>; HashAlg::ALL.len()]);

impl Digests {
    /// The digest of `bank`, if there is one.
    #[must_use]
    pub fn of(&self, bank: HashAlg) -> Option<HashValue> {
        self.iter().find(|digest| digest.alg() == bank)
    }

    /// The digests, weakest bank first.
    pub fn iter(&self) -> impl Iterator<Item = HashValue> + '_ {
        self.0.iter().flatten().copied()
    }

    /// Takes a digest; `None` if there is one of its bank already.
    fn with(mut self, digest: HashValue) -> Option<Self> {
        let slot = HashAlg::ALL.iter().zip(&mut self.0).find(|(alg, _)| **alg == digest.alg())?.1;
        slot.replace(digest).is_none().then_some(self)
    }
}

/// One record; `C` is what its content type makes of the content.
#[derive(Debug, Clone)]
pub(super) struct Record<C> {
    pub(super) position: usize,
    pub(super) register: Register,
    pub(super) digests: Digests,
    pub(super) content: C,
}

/// A record as JSON has it. Other fields are for people.
#[derive(Deserialize)]
struct Written<C> {
    recnum: Option<u64>,
    pcr: Option<u32>,
    #[serde(alias = "nvIndex")]
    nv_index: Option<u32>,
    digests: Vec<WrittenDigest>,
    content_type: String,
    content: C,
}

#[derive(Deserialize)]
struct WrittenDigest {
    #[serde(rename = "hashAlg")]
    alg: String,
    digest: String,
}

/// Parses a log whose records all have this content type. An empty log has no record.
pub(super) fn parse<C: DeserializeOwned>(
    bytes: &[u8],
    content_type: &'static str,
) -> Result<Vec<Record<C>>, SequenceError> {
    if bytes.len() > MAX_SEQUENCE_BYTES {
        return Err(SequenceError::TooLarge(bytes.len()));
    }
    let mut parts = bytes.split(|byte| *byte == RECORD_SEPARATOR);
    if parts.next().is_some_and(|before| !before.is_empty()) {
        return Err(SequenceError::NotASequence);
    }
    let mut records = Vec::new();
    let mut first_number = None;
    let mut parts = parts.enumerate().peekable();
    while let Some((position, text)) = parts.next() {
        let is_torn = parts.peek().is_none() && !text.ends_with(b"\n");
        if is_torn {
            break;
        }
        if position >= MAX_RECORDS {
            return Err(SequenceError::TooManyRecords);
        }
        let written: Written<C> = written(text, position)?;
        let first = *first_number.get_or_insert(written.recnum);
        let place = u64::try_from(position).unwrap_or(u64::MAX);
        if written.recnum != first.and_then(|first: u64| first.checked_add(place)) {
            return Err(SequenceError::Number { position });
        }
        records.push(record(written, position, content_type)?);
    }
    Ok(records)
}

fn written<C: DeserializeOwned>(text: &[u8], position: usize) -> Result<Written<C>, SequenceError> {
    if text.len() > MAX_RECORD_BYTES {
        return Err(SequenceError::RecordTooLarge { position, found: text.len() });
    }
    serde_json::from_slice(text).map_err(|error| SequenceError::Record {
        position,
        line: error.line(),
        column: error.column(),
    })
}

fn record<C>(
    written: Written<C>,
    position: usize,
    content_type: &'static str,
) -> Result<Record<C>, SequenceError> {
    if written.content_type != content_type {
        return Err(SequenceError::ContentType { position, wanted: content_type });
    }
    let register = match (written.pcr, written.nv_index) {
        (Some(pcr), None) => PcrIndex::new(pcr).map(Register::Pcr),
        (None, Some(index)) => Some(Register::Nv(index)),
        _ => None,
    };
    let register = register.ok_or(SequenceError::Register { position })?;
    if written.digests.len() > usize::try_from(MAX_BANKS).unwrap_or(usize::MAX) {
        return Err(SequenceError::SurplusDigest { position });
    }
    let mut digests = Digests::default();
    for digest in &written.digests {
        // A bank that is not known here is one that nobody quotes to us.
        let Ok(alg) = digest.alg.parse::<HashAlg>() else { continue };
        let value =
            HashValue::from_hex(alg, &digest.digest).ok_or(SequenceError::Digest { position, alg })?;
        digests = digests.with(value).ok_or(SequenceError::SurplusDigest { position })?;
    }
    Ok(Record { position, register, digests, content: written.content })
}
