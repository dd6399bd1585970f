//! Appraisal of a folder: what [`OfflineEvidence`] says against releases that a person names.
//!
//! Neither the device nor its TPM is claimed: no credential was activated, so nothing ties the quote's
//! key to a TPM, not even to the one whose EK certificate lies beside it. Claims and verdict speak of
//! what was booted and how.
//!
//! [`OfflineResult`] has no way to a grant: admission takes an
//! [`AttestationResult`](super::AttestationResult), which only fresh evidence of a device gives.

use super::appraise::examine;
use super::claims::{Claim, ClaimValue, Claims};
use super::finding::{Finding, FindingKind};
use super::matching::claim_of;
use super::result::{AppraisalRecord, Verdict};
use crate::cause::chain;
use crate::evidence::endorsement::EndorsementError;
use crate::evidence::offline::{OfflineEvidence, QuoteError, RefutedError};
use crate::evidence::verify::EvidenceError;
use crate::reference::by_hand::ReferenceByHand;
use crate::reference::hash_text::HashText;
use crate::time::UnixTime;

/// The claims that evidence of a device is there to give; they fall with it.
const RESTS_ON_EVIDENCE: [Claim; 4] =
    [Claim::InstanceIdentity, Claim::Configuration, Claim::Executables, Claim::Hardware];

/// What an appraisal of a folder found. It proves nothing to anybody but whoever brought the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineResult {
    record: AppraisalRecord,
    pcrs_proven: bool,
}

impl OfflineResult {
    /// Verdict, claims and reasons. Its zone is a placeholder: none was asked.
    #[must_use]
    pub const fn record(&self) -> &AppraisalRecord {
        &self.record
    }

    /// Whether a verified quote proves the PCR values.
    #[must_use]
    pub const fn pcrs_proven(&self) -> bool {
        self.pcrs_proven
    }

    /// Holds it against the folder that its EK certificate does not chain to a trusted root.
    #[must_use]
    pub fn with_refused_ek(mut self, why: &EndorsementError) -> Self {
        self.record.verdict = Verdict::Contraindicated;
        self.record.claims.lower_to(Claim::Hardware, ClaimValue::NOT_RECOGNISED);
        let sentence = format!("no manufacturer vouches for the EK certificate: {}", chain(why));
        self.record.findings.push(Finding::new(FindingKind::HardwareUnproven, Claim::Hardware, sentence));
        self
    }
}

/// Appraises what a folder tells.
#[must_use]
pub fn appraise_offline(
    evidence: &OfflineEvidence,
    reference: &ReferenceByHand,
    now: UnixTime,
) -> OfflineResult {
    let seen = evidence.measurements();
    let (mut record, _) = examine(&seen, reference.values(), reference.policy(), now);
    let pcrs_proven = evidence.quote().is_some();
    if !pcrs_proven {
        record.findings.push(Finding::new(
            FindingKind::PcrsUnproven,
            Claim::Hardware,
            "the PCR values are unproven: no quote signs them, so they are what the folder says; add quote.bin, quote.sig, ak.pub and nonce.bin".to_owned(),
        ));
    }
    OfflineResult { record, pcrs_proven }
}

/// The result of a folder whose files contradict each other: the evidence failed cryptographic
/// validation, and nothing is compared with a release.
#[must_use]
pub fn refute(error: &RefutedError, reference: &ReferenceByHand, now: UnixTime) -> OfflineResult {
    let mut claims = Claims::default();
    for claim in RESTS_ON_EVIDENCE {
        claims.lower_to(claim, ClaimValue::CRYPTO_FAILED);
    }
    let record = AppraisalRecord {
        zone: reference.policy().zone.clone(),
        at: now,
        verdict: Verdict::Contraindicated,
        claims,
        release: None,
        closest: None,
        findings: vec![finding(error)],
        findings_left_out: 0,
        not_appraised: Vec::new(),
    };
    OfflineResult { record, pcrs_proven: matches!(error, RefutedError::Log { pcrs_proven: true, .. }) }
}

fn finding(error: &RefutedError) -> Finding {
    match error {
        RefutedError::Log { error: EvidenceError::LogMismatch { pcr, quoted, replayed }, .. } => {
            let sentence = format!(
                "PCR {pcr} holds {quoted} and the log replays to {replayed}; the log was changed, cut, or is of another boot"
            );
            let mut finding = Finding::new(FindingKind::LogContradicts, claim_of(*pcr), sentence);
            finding.pcr = Some(pcr.number());
            finding.expected = vec![HashText(**quoted)];
            finding.seen = Some(HashText(**replayed));
            finding
        }
        RefutedError::Log { error, .. } => {
            Finding::new(FindingKind::LogContradicts, Claim::Executables, chain(error))
        }
        RefutedError::Quote(error) => {
            let mut finding = Finding::new(FindingKind::NotAuthentic, Claim::Executables, chain(error));
            if let QuoteError::PcrDigest { computed, .. } = error {
                finding.seen = Some(HashText(**computed));
            }
            finding
        }
    }
}
