//! From [`Evidence`] to [`VerifiedEvidence`]: fresh, signed by the attestation key, explained by its
//! log.
//!
//! What this does not promise: that the attestation key lives in a real TPM (that is what
//! [`HardwareProof`] says), or that what was booted is good.

use std::collections::BTreeMap;

use super::flaw::Flaw;
use super::grammar;
use super::linux::{Continuation, EventOrigin, LinuxLogError, LinuxLogs};
use super::secure_boot::SecureBootState;
use super::{Evidence, HardwareProof};
use crate::eventlog::event::describe;
use crate::eventlog::ima::state::{Boot, ImaState};
use crate::eventlog::ima::verify::{self as ima, ImaError, ImaPart, VerifiedIma};
use crate::eventlog::replay::{Replay, ReplayError, replay, reset_value};
use crate::eventlog::tcg::{Event, EventLog, EventLogError};
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::attest::{Attest, AttestError, QuoteInfo, QuotedSelection};
use crate::tpm::clock::ClockInfo;
use crate::tpm::pcr::{PcrIndex, PcrSelection, PcrValues};
use crate::tpm::public::AttestationKey;
use crate::tpm::signature::{Signature, SignatureError};

pub use super::grammar::GrammarError;

/// PCRs that Linux goes on extending after the firmware's log ends: systemd's NvPCRs (9), IMA (10),
/// boot phases (11), measured images (13), volume keys and machine id (15) (UAPI Linux TPM PCR
/// registry). Their quoted value is the firmware's events and then others, logged or not. PCRs 0 to 7,
/// 12 and 14 get a separator at most, and are not excused when no log tells it.
const CONTINUED_BY_LINUX: [u8; 5] = [9, 10, 11, 13, 15];

/// What the broker asked for, and of whom.
#[derive(Debug, Clone, Copy)]
pub struct Challenged<'a> {
    /// The attestation key that must have signed.
    pub ak: &'a AttestationKey,
    /// The qualifying data of the challenge and the statement ([`super::qualifying_data`]).
    pub qualifying_data: [u8; 32],
    /// The PCRs that must be quoted, of one bank.
    pub selection: PcrSelection,
    /// What the endorsement step found out about the key's TPM.
    pub hardware: HardwareProof,
    /// How far this device's IMA list was accepted before.
    pub ima: Option<&'a ImaState>,
}

/// Evidence was refused. The order of the variants is the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The challenge names a bank that proves nothing.
    #[error("{0} PCRs prove nothing; quote sha256, sha384 or sha512")]
    WeakBank(HashAlg),
    /// Not a quote.
    #[error("the quote cannot be read as a TPM quote")]
    Quote(#[source] AttestError),
    /// Not signed by the attestation key.
    #[error("the quote is not signed by the device's attestation key")]
    Signature(#[source] SignatureError),
    /// Made for another challenge, another statement or another use.
    #[error(
        "the quote answers another challenge or another statement; ask for a new challenge and attest again"
    )]
    QualifyingData,
    /// Another set of PCRs than was asked for.
    #[error("the quote covers {found:?}, the challenge asked for {expected:?}; quote exactly that")]
    Selection {
        /// What was asked for.
        expected: PcrSelection,
        /// What was quoted.
        found: Vec<QuotedSelection>,
    },
    /// A value that the quote does not cover, or none for one that it does.
    #[error("the PCR values sent are not those of the selection {0:?}; send one value for each quoted PCR")]
    Values(PcrSelection),
    /// The values are not those that the TPM hashed.
    #[error("the PCR values do not hash to the quote's digest; read the PCRs again and quote again")]
    PcrDigest,
    /// The log cannot be read.
    #[error("the firmware log cannot be read")]
    Log(#[source] EventLogError),
    /// The log does not replay strictly.
    #[error("the firmware log does not replay")]
    Replay(#[source] ReplayError),
    /// A log that Linux wrote cannot be believed.
    #[error("a log of the operating system's measurements was refused")]
    Linux(#[source] LinuxLogError),
    /// The log explains another value than was quoted.
    #[error(
        "the firmware log explains PCR {pcr} as {replayed}, the TPM quoted {quoted}; the log was changed, cut, or is of another boot"
    )]
    LogMismatch {
        /// The PCR.
        pcr: PcrIndex,
        /// The value that the TPM signed.
        quoted: Box<HashValue>,
        /// The value that the log gives.
        replayed: Box<HashValue>,
    },
    /// The log replays and is not built as firmware builds it.
    #[error("the firmware log is not what firmware writes")]
    Grammar(#[source] GrammarError),
    /// The IMA list is not that of the quote.
    #[error("the IMA list is not confirmed by the quote")]
    Ima(#[source] ImaError),
}

/// An event whose digest a quote confirms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEvent {
    /// Place in the log, its header being 0.
    pub position: usize,
    /// The PCR.
    pub pcr: PcrIndex,
    /// The type as the log tells it: PCRs 0 to 7 hold only types that belong there, elsewhere
    /// nothing binds it.
    pub event_type: u32,
    /// What was extended.
    pub digest: HashValue,
    /// What the event says about itself. Decoration for people; never an input to a decision.
    pub description: Option<String>,
    /// Which log tells it, with what the digest binds.
    pub origin: EventOrigin,
}

/// What a device proved that it booted. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub struct VerifiedEvidence {
    pcrs: PcrValues,
    events: BTreeMap<PcrIndex, Vec<VerifiedEvent>>,
    unexplained: Vec<PcrIndex>,
    clock: ClockInfo,
    firmware_version: u64,
    secure_boot: SecureBootState,
    hardware: HardwareProof,
    ima: Option<VerifiedIma>,
    flaws: Vec<Flaw>,
}

impl VerifiedEvidence {
    /// The quoted values: exactly the PCRs that were asked for.
    #[must_use]
    pub const fn pcrs(&self) -> &PcrValues {
        &self.pcrs
    }

    /// The events that explain the quoted value of `pcr`, in the log's order; empty if it is
    /// unexplained or was never extended.
    #[must_use]
    pub fn events(&self, pcr: PcrIndex) -> &[VerifiedEvent] {
        self.events.get(&pcr).map_or(&[], Vec::as_slice)
    }

    /// PCRs that were extended and whose value no log explains, lowest first: 10 where IMA's list was not
    /// sent, others what Linux measured after the logs ended. None of 0 to 7.
    #[must_use]
    pub fn unexplained(&self) -> &[PcrIndex] {
        &self.unexplained
    }

    /// The TPM's clock at the quote.
    #[must_use]
    pub const fn clock(&self) -> ClockInfo {
        self.clock
    }

    /// The TPM's firmware version, as its vendor counts.
    #[must_use]
    pub const fn firmware_version(&self) -> u64 {
        self.firmware_version
    }

    /// The quoted bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.pcrs.bank()
    }

    /// What PCR 7 says about Secure Boot, from data that the confirmed digests cover.
    #[must_use]
    pub const fn secure_boot(&self) -> &SecureBootState {
        &self.secure_boot
    }

    /// How far it is proven that a real TPM signed.
    #[must_use]
    pub const fn hardware(&self) -> HardwareProof {
        self.hardware
    }

    /// The confirmed records of the IMA list, if one was sent.
    #[must_use]
    pub const fn ima(&self) -> Option<&VerifiedIma> {
        self.ima.as_ref()
    }

    /// The evidence with what is known against its TPM ([`super::flaw::flaws`]).
    #[must_use]
    pub fn with_flaws(self, flaws: Vec<Flaw>) -> Self {
        Self { flaws, ..self }
    }

    /// What is known against its TPM; empty until [`Self::with_flaws`] says it.
    #[must_use]
    pub fn flaws(&self) -> &[Flaw] {
        &self.flaws
    }
}

/// Verifies evidence against what was asked for (checklist rows 1, 2, 9, 10, 12 to 24, 26 and 27).
pub fn verify(evidence: &Evidence, challenged: &Challenged<'_>) -> Result<VerifiedEvidence, EvidenceError> {
    if challenged.selection.bank == HashAlg::Sha1 {
        return Err(EvidenceError::WeakBank(HashAlg::Sha1));
    }
    let attest = Attest::parse(&evidence.quote.attest).map_err(EvidenceError::Quote)?;
    let quote = attest.quote().map_err(EvidenceError::Quote)?;
    Signature::parse(&evidence.quote.signature)
        .and_then(|signature| signature.verify(challenged.ak, &evidence.quote.attest))
        .map_err(EvidenceError::Signature)?;
    if attest.extra_data != challenged.qualifying_data {
        return Err(EvidenceError::QualifyingData);
    }
    quoted_values(&evidence.pcrs, quote, challenged)?;
    let measured = Measured {
        pcrs: &evidence.pcrs,
        firmware_log: &evidence.firmware_log,
        linux: evidence.linux_logs(),
        ima: evidence.ima.as_ref(),
        boot: attest.clock.into(),
        accepted: challenged.ima,
    };
    let Explained { events, unexplained, secure_boot, ima } = explain(&measured)?;
    Ok(VerifiedEvidence {
        events,
        pcrs: evidence.pcrs.clone(),
        unexplained,
        clock: attest.clock,
        firmware_version: attest.firmware_version,
        secure_boot,
        hardware: challenged.hardware,
        ima,
        flaws: Vec::new(),
    })
}

/// PCR values and the logs that shall explain them.
pub(super) struct Measured<'a> {
    pub(super) pcrs: &'a PcrValues,
    pub(super) firmware_log: &'a [u8],
    pub(super) linux: LinuxLogs<'a>,
    pub(super) ima: Option<&'a ImaPart>,
    pub(super) boot: Boot,
    pub(super) accepted: Option<&'a ImaState>,
}

/// What a log says about PCR values. It proves nothing about who measured them.
pub(super) struct Explained {
    /// The events of each PCR that the log explains.
    pub(super) events: BTreeMap<PcrIndex, Vec<VerifiedEvent>>,
    /// PCRs that were extended and that the log does not explain.
    pub(super) unexplained: Vec<PcrIndex>,
    /// The records of the IMA list that the values confirm.
    pub(super) ima: Option<VerifiedIma>,
    /// What PCR 7 says about Secure Boot.
    pub(super) secure_boot: SecureBootState,
}

/// Replays the logs strictly against the values (checklist rows 16 to 24, 26 and 27).
pub(super) fn explain(measured: &Measured<'_>) -> Result<Explained, EvidenceError> {
    let pcrs = measured.pcrs;
    let log = EventLog::parse(measured.firmware_log).map_err(EvidenceError::Log)?;
    let replay = replay(&log, pcrs.bank()).map_err(EvidenceError::Replay)?;
    let linux = Continuation::parse(&measured.linux).map_err(EvidenceError::Linux)?;
    let (events, mut unexplained) = confirm(pcrs, &replay, &linux)?;
    let secure_boot = grammar::verify(&replay).map_err(EvidenceError::Grammar)?;
    let (firmware, boot, accepted) = (replay.values(), measured.boot, measured.accepted);
    let quoted = ima::Quoted { pcrs, firmware, boot, accepted };
    let list = measured.ima.map(|part| ima::verify(part, &quoted)).transpose().map_err(EvidenceError::Ima)?;
    if list.is_some() {
        unexplained.retain(|pcr| *pcr != PcrIndex::IMA);
    }
    Ok(Explained { events, unexplained, ima: list, secure_boot })
}

/// The values sent are those that the TPM signed, no more and no less (checklist rows 13 and 14).
fn quoted_values(
    values: &PcrValues,
    quote: &QuoteInfo<'_>,
    challenged: &Challenged<'_>,
) -> Result<(), EvidenceError> {
    let selection = challenged.selection;
    if quote.selections != [QuotedSelection::of(&selection)] {
        return Err(EvidenceError::Selection { expected: selection, found: quote.selections.clone() });
    }
    if values.iter().any(|(pcr, _)| !selection.contains(pcr)) {
        return Err(EvidenceError::Values(selection));
    }
    let digest = values.quote_digest(&selection, challenged.ak.hash());
    let digest = digest.ok_or(EvidenceError::Values(selection))?;
    (digest.as_bytes() == quote.pcr_digest).then_some(()).ok_or(EvidenceError::PcrDigest)
}

/// The events of each PCR, in the order in which they were extended.
type Events = BTreeMap<PcrIndex, Vec<VerifiedEvent>>;

/// Compares every quoted value with what the logs explain; returns the events of the PCRs that they do,
/// and the PCRs that they do not.
///
/// A difference in a PCR that Linux continues is no contradiction: the events may be a beginning. It
/// explains nothing either, so the PCR's events do not count. Leaving them out of the log would give
/// an attacker the same.
fn confirm(
    quoted: &PcrValues,
    replay: &Replay<'_, '_>,
    linux: &Continuation,
) -> Result<(Events, Vec<PcrIndex>), EvidenceError> {
    let (mut events, mut unexplained) = (Events::new(), Vec::new());
    for (pcr, value) in quoted.iter() {
        let reset = reset_value(value.alg(), pcr, 0);
        let firmware = replay.values().value(pcr);
        let replayed = *firmware.unwrap_or(&reset);
        if let Some(later) = linux.confirmed(pcr, replayed, value).map_err(EvidenceError::Linux)? {
            let of_firmware = replay.events(pcr).iter().filter_map(|event| verified(event, pcr, value.alg()));
            events.insert(pcr, of_firmware.chain(later).collect());
        } else if *value != reset && (firmware.is_none() || CONTINUED_BY_LINUX.contains(&pcr.number())) {
            unexplained.push(pcr);
        } else {
            let (quoted, replayed) = (Box::new(*value), Box::new(replayed));
            return Err(EvidenceError::LogMismatch { pcr, quoted, replayed });
        }
    }
    Ok((events, unexplained))
}

fn verified(event: &Event<'_>, pcr: PcrIndex, bank: HashAlg) -> Option<VerifiedEvent> {
    Some(VerifiedEvent {
        position: event.position,
        pcr,
        event_type: event.event_type.0,
        digest: event.digest(bank)?,
        description: describe(event),
        origin: EventOrigin::Firmware,
    })
}
