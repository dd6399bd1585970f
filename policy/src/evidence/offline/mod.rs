//! Evidence out of a folder of files, without a broker that asked for it and without a TPM at hand.
//!
//! [`Parsed::parse`] says whether the files can be used at all, [`Parsed::verify`] whether they agree: a
//! quote with its key, nonce and PCR values, and the log with the PCR values. What remains is
//! [`OfflineEvidence`].
//!
//! What this does not promise: freshness (the nonce lies in the same folder), that the key lives in a
//! TPM (nothing activates a credential offline), or, without a quote, that any TPM held the values.
//! Whoever brings the folder vouches for that. So it ends in
//! [`OfflineResult`](crate::appraisal::offline::OfflineResult), which has no way to a grant.

mod later;
mod pcr_text;
mod quote;
mod signer;

use self::later::{WholeList, whole_list};
use super::linux::LinuxLogs;
use super::recorded::{RecordedEvidence, StoredLogs};
use super::verify::EvidenceError;
use crate::appraisal::measurements::{Measurements, Origin};
use crate::eventlog::ima::list::ImaListError;
use crate::eventlog::replay::{ReplayError, replay};
use crate::eventlog::sequence::SequenceError;
use crate::eventlog::tcg::{EventLog, EventLogError};
use crate::eventlog::userspace::UserspaceLog;
use crate::tpm::alg::HashAlg;
use crate::tpm::pcr::{PcrSelection, PcrValues};

pub use later::Later;
pub use pcr_text::{MAX_PCR_TEXT, PcrTable, PcrTextError};
pub use quote::{MAX_NONCE, ProvenQuote, QuoteError, QuoteParseError};
pub use signer::{SignedError, SignerError};

/// The files of a folder as they were read; untrusted.
#[derive(Debug, Clone, Copy)]
pub struct Folder<'a> {
    /// The firmware event log.
    pub firmware_log: &'a [u8],
    /// PCR values, lines `bank:index:hex`.
    pub pcrs: &'a [u8],
    /// systemd's measurement log; none if nobody sent one.
    pub userspace: Option<&'a [u8]>,
    /// The whole IMA list since boot; none if nobody sent one.
    pub ima: Option<&'a [u8]>,
    /// The quote with all that it takes to verify it; none if nobody quoted.
    pub quote: Option<QuoteFiles<'a>>,
}

/// A quote and what it is verified with; untrusted. Every field is demanded.
#[derive(Debug, Clone, Copy)]
pub struct QuoteFiles<'a> {
    /// `TPMS_ATTEST` or `TPM2B_ATTEST`.
    pub attest: &'a [u8],
    /// `TPMT_SIGNATURE`
    pub signature: &'a [u8],
    /// The attestation key: `TPM2B_PUBLIC`, `TPMT_PUBLIC`, or SubjectPublicKeyInfo in PEM or DER.
    pub ak: &'a [u8],
    /// The qualifying data that was asked for, raw.
    pub nonce: &'a [u8],
}

/// The files cannot be used: nothing follows from them, for or against the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableError {
    /// The PCR values.
    #[error("the PCR values cannot be read")]
    Pcrs(#[source] PcrTextError),
    /// The log.
    #[error("the firmware log cannot be read")]
    Log(#[source] EventLogError),
    /// systemd's measurement log.
    #[error("systemd's measurement log cannot be read")]
    Userspace(#[source] SequenceError),
    /// The IMA list.
    #[error("the IMA list cannot be read")]
    Ima(#[source] ImaListError),
    /// The quote.
    #[error("the quote cannot be used")]
    Quote(#[source] QuoteParseError),
    /// Values, log and quote are all there in SHA-1 only (checklist row 15).
    #[error("SHA-1 PCRs prove nothing; collect sha256, sha384 or sha512 values, and quote that bank")]
    WeakBank,
    /// No bank is in all of them.
    #[error(
        "no strong bank is in both the PCR values and every event of the log; collect the bank that the firmware logs"
    )]
    NoBank,
    /// The log does not carry the bank that the quote covers.
    #[error(
        "the quote covers {0} PCRs and the log does not carry that bank in every event; quote a bank that the firmware logs"
    )]
    QuotedBank(HashAlg),
    /// None of PCRs 0 to 15.
    #[error("the {0} values are of PCRs 16 and above only, which software can reset; collect PCRs 0 to 15")]
    NoPcr(HashAlg),
}

/// The files can be read and contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefutedError {
    /// The quote does not prove the PCR values.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// A log contradicts the PCR values or itself.
    #[error("the logs do not hold")]
    Log {
        /// How.
        #[source]
        error: EvidenceError,
        /// Whether a verified quote proves the PCR values, so that the log is what is wrong.
        pcrs_proven: bool,
    },
}

/// A folder whose files can be read; nothing is proven.
#[derive(Debug)]
pub struct Parsed<'a> {
    firmware_log: &'a [u8],
    userspace: Option<&'a [u8]>,
    userspace_log: UserspaceLog,
    ima: Option<WholeList>,
    table: PcrTable,
    quote: Option<quote::ParsedQuote<'a>>,
    values: PcrValues,
}

impl<'a> Parsed<'a> {
    /// Reads every file whole and chooses the bank: the strongest quoted one, or without a quote the
    /// strongest that values and log both have.
    pub fn parse(folder: &Folder<'a>) -> Result<Self, UnusableError> {
        let table = PcrTable::parse(folder.pcrs).map_err(UnusableError::Pcrs)?;
        let log = EventLog::parse(folder.firmware_log).map_err(UnusableError::Log)?;
        let userspace_log = UserspaceLog::parse(folder.userspace.unwrap_or_default());
        let userspace_log = userspace_log.map_err(UnusableError::Userspace)?;
        let ima = folder.ima.map(whole_list).transpose()?;
        let quote = folder.quote.as_ref().map(quote::ParsedQuote::parse).transpose();
        let quote = quote.map_err(UnusableError::Quote)?;
        let quoted = quote.as_ref().map(quote::ParsedQuote::banks).unwrap_or_default();
        let bank = match quoted.first() {
            Some(HashAlg::Sha1) => return Err(UnusableError::WeakBank),
            Some(bank) if !is_whole(&log, *bank) => return Err(UnusableError::QuotedBank(*bank)),
            Some(bank) => *bank,
            None => strongest_bank(&table, &log)?,
        };
        let values = appraised_values(&table, bank);
        // A quoted bank without values is no fault of the files: the quote is then of something else.
        if quoted.is_empty() && values.iter().next().is_none() {
            return Err(UnusableError::NoPcr(bank));
        }
        let (firmware_log, userspace) = (folder.firmware_log, folder.userspace);
        Ok(Self { firmware_log, userspace, userspace_log, ima, table, quote, values })
    }

    /// Verifies the quote, if there is one, and replays the log against the PCR values as strictly as
    /// if a device had sent them.
    pub fn verify(self) -> Result<OfflineEvidence, RefutedError> {
        let quote = self.quote.map(|quote| quote.verify(&self.table)).transpose()?;
        let linux = LinuxLogs { userspace: self.userspace, images: None };
        let logs = StoredLogs { linux, ima: self.ima.as_ref().map(|list| &list.part) };
        let recorded = RecordedEvidence::replay_all(self.values, self.firmware_log, &logs, Origin::Folder)
            .map_err(|error| RefutedError::Log { error, pcrs_proven: quote.is_some() })?;
        let later = Later::of(&recorded.measurements(), self.ima.as_ref(), &self.userspace_log);
        Ok(OfflineEvidence { recorded, quote, later })
    }
}

/// What a folder tells: PCR values and the events that explain them. Only [`Parsed::verify`] makes it.
#[derive(Debug, Clone)]
pub struct OfflineEvidence {
    recorded: RecordedEvidence,
    quote: Option<ProvenQuote>,
    later: Later,
}

impl OfflineEvidence {
    /// What was measured, if the folder is what whoever brings it says.
    #[must_use]
    pub fn measurements(&self) -> Measurements<'_> {
        self.recorded.measurements()
    }

    /// The quote that proves the PCR values; none if nothing proves them.
    #[must_use]
    pub const fn quote(&self) -> Option<&ProvenQuote> {
        self.quote.as_ref()
    }

    /// What the logs tell beyond the PCR values.
    #[must_use]
    pub const fn later(&self) -> Later {
        self.later
    }
}

/// The strongest bank of which there are values, and which every event carries.
fn strongest_bank(table: &PcrTable, log: &EventLog<'_>) -> Result<HashAlg, UnusableError> {
    let both = |bank: &HashAlg| table.values(*bank).is_some() && is_whole(log, *bank);
    match HashAlg::ALL.into_iter().rev().find(both) {
        Some(HashAlg::Sha1) => Err(UnusableError::WeakBank),
        Some(bank) => Ok(bank),
        None => Err(UnusableError::NoBank),
    }
}

/// Whether every event that extends a PCR carries a digest of `bank`.
fn is_whole(log: &EventLog<'_>, bank: HashAlg) -> bool {
    !matches!(replay(log, bank), Err(ReplayError::NoBank(_) | ReplayError::NoDigest { .. }))
}

/// The values of PCRs 0 to 15, which is what a release can speak of; a quote may cover more.
fn appraised_values(table: &PcrTable, bank: HashAlg) -> PcrValues {
    let mut values = PcrValues::new(bank);
    let selection = PcrSelection::quoted(bank);
    for (pcr, value) in table.values(bank).into_iter().flat_map(PcrValues::iter) {
        if selection.contains(pcr) {
            values.set(pcr, *value);
        }
    }
    values
}
