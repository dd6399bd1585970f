//! Overrides: mismatches of one device, named to the digest, that its zones accept for a time.
//!
//! For the night on which a machine must run and its release is not signed yet. Promises: only a mismatch that was
//! named counts, so another kernel or file is refused as before; what was left out of a result, a withdrawn
//! release, and everything about authenticity or the TPM is never excused. The appraisal stays what it is: an
//! override changes what a zone makes of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::appraisal::finding::{Finding, FindingKind};
use crate::reference::event_type::EventType;
use crate::reference::hash_text::HashText;
use crate::time::UnixTime;

/// Most mismatches of one override: whoever accepts more does not know what they accept, and the broker keeps
/// them in one record of 4 KiB.
pub const MAX_OVERRIDDEN: usize = 8;
/// Longest name that identifies a mismatch, in bytes; a file with a longer path cannot be overridden.
const MAX_NAME: usize = 96;

/// A mismatch, by everything that tells it from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedMismatch {
    /// What kind of mismatch.
    pub kind: FindingKind,
    /// Its PCR.
    pub pcr: Option<u8>,
    /// The type of its event.
    #[serde(rename = "type")]
    pub event_type: Option<EventType>,
    /// What the release, or the device's list, calls it.
    pub name: Option<String>,
    /// The digest that was there.
    pub seen: HashText,
}

impl NamedMismatch {
    /// The name of what `finding` is about, if it can be overridden: something was there, by its digest, that a
    /// release does not list.
    #[must_use]
    pub fn of(finding: &Finding) -> Option<Self> {
        let seen = finding.seen?;
        let short = finding.name.as_ref().is_none_or(|name| name.len() <= MAX_NAME);
        (is_about_content(finding.kind) && short).then(|| Self {
            kind: finding.kind,
            pcr: finding.pcr,
            event_type: finding.event.as_ref().map(|event| event.event_type),
            name: finding.name.clone(),
            seen,
        })
    }
}

/// Whether a kind of reason says what was booted, measured or configured, and not how much is known of it.
const fn is_about_content(kind: FindingKind) -> bool {
    match kind {
        FindingKind::PcrValue
        | FindingKind::EventDigest
        | FindingKind::UnexpectedEvent
        | FindingKind::ForbiddenEvent
        | FindingKind::EarlyApplication
        | FindingKind::UnknownFile
        | FindingKind::SecureBootState
        | FindingKind::Authority
        | FindingKind::UnknownImage => true,
        FindingKind::PcrNotQuoted
        | FindingKind::OtherBank
        | FindingKind::Unexplained
        | FindingKind::MissingEvent
        | FindingKind::FileViolation
        | FindingKind::NoFileList
        | FindingKind::FileListIncomplete
        | FindingKind::FilesNotAppraised
        | FindingKind::MissingImage
        | FindingKind::NotConstrained
        | FindingKind::NoRelease
        | FindingKind::NotAccepted
        | FindingKind::Withdrawn
        | FindingKind::WithdrawnButAccepted
        | FindingKind::Deprecated
        | FindingKind::HardwareUnproven
        | FindingKind::NotAuthentic
        | FindingKind::LogContradicts
        | FindingKind::PcrsUnproven
        | FindingKind::TpmNotice
        | FindingKind::TpmVulnerable
        | FindingKind::TpmBroken
        | FindingKind::NotClaimed => false,
    }
}

/// What is accepted of one device, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What is accepted; at most [`MAX_OVERRIDDEN`].
    pub mismatches: BTreeSet<NamedMismatch>,
    /// From then on nothing is.
    pub until: UnixTime,
}

impl Override {
    /// Whether `finding` is excused at `now`.
    #[must_use]
    pub fn excuses(&self, finding: &Finding, now: UnixTime) -> bool {
        now < self.until && NamedMismatch::of(finding).is_some_and(|named| self.mismatches.contains(&named))
    }
}
