//! One reason of an appraisal, with everything a technician needs to act on it.

use serde::{Deserialize, Serialize};

use super::claims::Claim;
use crate::reference::event_type::EventType;
use crate::reference::hash_text::HashText;
use crate::reference::release::ReleaseId;

/// Most findings of one result. A log of ten thousand unknown events needs no ten thousand reasons;
/// how many were left out is counted.
pub const MAX_FINDINGS: usize = 64;
/// Most expected digests that a finding lists.
pub const MAX_EXPECTED: usize = 8;

/// What kind of reason it is. Adding one must break every place that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The whole value of a PCR is not one of the release's.
    PcrValue,
    /// The release constrains a PCR that was not quoted.
    PcrNotQuoted,
    /// The release states the PCR in other banks than the quoted one only.
    OtherBank,
    /// The log does not explain the value of a PCR that the release constrains.
    Unexplained,
    /// An event is there, with a digest that the release does not list for it.
    EventDigest,
    /// An event that the release does not list.
    UnexpectedEvent,
    /// An event that the release asks for is not there.
    MissingEvent,
    /// An event that the release forbids is there.
    ForbiddenEvent,
    /// A file was measured that the release does not approve.
    UnknownFile,
    /// A file was written while it was measured.
    FileViolation,
    /// The release says which files may run, and no list of files was sent.
    NoFileList,
    /// Files that were measured before the list begins are not approved under the release.
    FileListIncomplete,
    /// A list of files was sent, and the release says nothing about files. Not held against the device.
    FilesNotAppraised,
    /// Secure Boot is off, has other keys, or is not understood whole.
    SecureBootState,
    /// Something vouched for an image that the release does not list.
    Authority,
    /// The release says nothing about a PCR that it must constrain to affirm the claim.
    NotConstrained,
    /// The zone's products have no release that is accepted now.
    NoRelease,
    /// The device runs a release that is not accepted: pending, retired, or past its date.
    NotAccepted,
    /// The device runs a withdrawn release.
    Withdrawn,
    /// The device runs a boot of a withdrawn release that a later release accepts. Not held against it.
    WithdrawnButAccepted,
    /// The device runs a deprecated release. Not held against it until its date.
    Deprecated,
    /// Nothing vouches for the TPM.
    HardwareUnproven,
    /// The quote is none, is not signed by the key, or is of other values: the evidence failed
    /// cryptographic validation.
    NotAuthentic,
    /// The firmware log contradicts the PCRs or itself.
    LogContradicts,
    /// No quote proves the PCR values that were appraised. Told of a folder without one; held against
    /// nobody, since whoever brings the folder vouches for it.
    PcrsUnproven,
    /// The zone asks for a claim that nobody made.
    NotClaimed,
}

impl FindingKind {
    /// Whether it is said for information and held against nobody.
    #[must_use]
    pub const fn is_notice(self) -> bool {
        match self {
            Self::Deprecated | Self::WithdrawnButAccepted | Self::FilesNotAppraised | Self::PcrsUnproven => {
                true
            }
            Self::PcrValue
            | Self::PcrNotQuoted
            | Self::OtherBank
            | Self::Unexplained
            | Self::EventDigest
            | Self::UnexpectedEvent
            | Self::MissingEvent
            | Self::ForbiddenEvent
            | Self::UnknownFile
            | Self::FileViolation
            | Self::NoFileList
            | Self::FileListIncomplete
            | Self::SecureBootState
            | Self::Authority
            | Self::NotConstrained
            | Self::NoRelease
            | Self::NotAccepted
            | Self::Withdrawn
            | Self::HardwareUnproven
            | Self::NotAuthentic
            | Self::LogContradicts
            | Self::NotClaimed => false,
        }
    }
}

/// Where an event is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPlace {
    /// Its place, from 0.
    pub position: usize,
    /// Its type, as the log says.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// What the log says about it: decoration, not bound by the digest.
    pub log_says: Option<String>,
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of reason it is.
    pub kind: FindingKind,
    /// The claim that it bears on.
    pub claim: Claim,
    /// The PCR.
    pub pcr: Option<u8>,
    /// The event.
    pub event: Option<EventPlace>,
    /// What the release calls it: `kernel`.
    pub name: Option<String>,
    /// Digests that would have been accepted, at most [`MAX_EXPECTED`].
    pub expected: Vec<HashText>,
    /// The digest that was there.
    pub seen: Option<HashText>,
    /// The release that it was compared with.
    pub release: Option<ReleaseId>,
    /// What is wrong and what to do, in a sentence for a technician.
    pub sentence: String,
}

impl Finding {
    /// A reason that names no PCR yet.
    pub(crate) const fn new(kind: FindingKind, claim: Claim, sentence: String) -> Self {
        Self {
            kind,
            claim,
            pcr: None,
            event: None,
            name: None,
            expected: Vec::new(),
            seen: None,
            release: None,
            sentence,
        }
    }

    pub(crate) fn with_release(mut self, release: &ReleaseId) -> Self {
        self.release = Some(release.clone());
        self
    }
}
