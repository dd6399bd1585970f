//! The Attestation Result, and its harmless twins: the record of one and the forecast of one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::finding::Finding;
use super::policy::ZonePolicy;
use crate::eventlog::ima::state::ImaState;
use crate::id::ZoneName;
use crate::reference::release::ReleaseId;
use crate::time::UnixTime;

/// The appraisal in one word; never better than the worst claim (draft-ietf-rats-ear, `ear_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// An accepted release approves everything that must be approved.
    Affirming,
    /// An accepted release matches, but it leaves out what a release must constrain.
    Warning,
    /// No accepted release matches, a withdrawn one does, or nothing vouches for the TPM.
    Contraindicated,
    /// There is nothing to compare with.
    Unappraised,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
            Self::Unappraised => "unappraised",
        })
    }
}

/// What an appraisal found: to be stored, printed and read back. It proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppraisalRecord {
    /// The zone whose policy was applied.
    pub zone: ZoneName,
    /// When.
    pub at: UnixTime,
    /// The verdict.
    pub verdict: Verdict,
    /// The AR4SI vector.
    pub claims: Claims,
    /// The release that the device runs, if one matches; it may be a withdrawn one.
    pub release: Option<ReleaseId>,
    /// The closest release, if none matches; the findings are against it.
    pub closest: Option<ReleaseId>,
    /// The reasons, at most [`MAX_FINDINGS`](super::finding::MAX_FINDINGS).
    pub findings: Vec<Finding>,
    /// How many more reasons there were.
    pub findings_left_out: usize,
    /// Quoted PCRs that the release leaves free.
    pub not_appraised: Vec<u8>,
}

/// What a device proves itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prover {
    /// A TPM.
    Tpm,
    /// A key in software.
    Key,
}

/// The result of appraising fresh, verified evidence. Only [`appraise`](super::appraise) and
/// [`appraise_without_tpm`](super::appraise_without_tpm) make one.
#[derive(Clone, Debug)]
pub struct AttestationResult {
    pub(super) record: AppraisalRecord,
    pub(super) policy: ZonePolicy,
    pub(super) ima: Option<ImaState>,
    pub(super) prover: Prover,
}

impl AttestationResult {
    #[cfg(test)]
    pub(crate) const fn for_tests(record: AppraisalRecord, policy: ZonePolicy) -> Self {
        Self { record, policy, ima: None, prover: Prover::Tpm }
    }

    #[cfg(test)]
    pub(crate) const fn bend(&mut self) -> &mut AppraisalRecord {
        &mut self.record
    }

    /// What was found.
    #[must_use]
    pub const fn record(&self) -> &AppraisalRecord {
        &self.record
    }

    /// The policy that was applied.
    #[must_use]
    pub const fn policy(&self) -> &ZonePolicy {
        &self.policy
    }

    /// What the device proved itself with.
    #[must_use]
    pub const fn prover(&self) -> Prover {
        self.prover
    }

    /// How far the device's IMA list is verified and under which releases it is approved: to be kept, so
    /// that the next evidence sends only what is new.
    #[must_use]
    pub const fn ima(&self) -> Option<&ImaState> {
        self.ima.as_ref()
    }
}

/// What an appraisal of recorded evidence would find. It has no way to a grant: nothing says that the
/// device still is what it was.
#[derive(Clone, Debug)]
pub struct Forecast {
    pub(super) record: AppraisalRecord,
    pub(super) policy: ZonePolicy,
}

impl Forecast {
    /// What would be found.
    #[must_use]
    pub const fn record(&self) -> &AppraisalRecord {
        &self.record
    }

    /// The policy that was applied.
    #[must_use]
    pub const fn policy(&self) -> &ZonePolicy {
        &self.policy
    }
}
