//! What one attestation comes to: summed up, and kept with its evidence.
//!
//! Promises: what is summed up can be read back from blobs that are on disk. A proof that says what the one before it said
//! is not kept again: a blob costs a file and two syncs, and nearly every proof in a plant says the same as the last. One
//! with keys to certify is: the audit event of these certificates names it.

use std::collections::{BTreeMap, BTreeSet};

use policy::appraisal::AppraisalRecord;
use policy::digest::Digest;
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use policy::tpm::clock::ClockInfo;
use proto::v1;

use super::Refusal;
use super::kept::{self, Parts};
use super::proof::{Proven, ProvenBy};
use super::recorded::Results;
use super::ruling::Ruling;
use crate::plant::Plant;
use crate::record::device::{Attested, Decision, Device};

/// Everything that an attestation came to.
pub(super) struct Sum<'a> {
    pub(super) proven: &'a Proven,
    pub(super) device: &'a Device,
    pub(super) rulings: &'a [Ruling],
    /// Revision of the golden values.
    pub(super) golden: u64,
    pub(super) request: &'a v1::CompleteRequest,
    pub(super) now: UnixTime,
}

impl Sum<'_> {
    /// The summary, after its blobs are on disk; a record has to name them. `known` is that of the proof before, by the
    /// same AK.
    pub(super) async fn kept(&self, plant: &Plant, known: Option<&Attested>) -> Result<Attested, Refusal> {
        let zones: Vec<AppraisalRecord> = self.rulings.iter().map(|ruling| ruling.record.clone()).collect();
        let found = kept::found_digest(&zones)?;
        let results = Results { device: self.device.name.clone(), counter: self.device.counter, zones };
        let json = serde_json::to_vec(&results).map_err(Refusal::internal)?;
        let parts = Parts::of(self.request.clone(), json).map_err(Refusal::internal)?;
        let basis = match self.proven.by() {
            ProvenBy::Tpm(by) => Some(kept::basis(self.request, parts.logs(), by.evidence())?),
            ProvenBy::Key(_) => None,
        };
        let logs = Some(parts.logs().clone());
        let nonce = kept::nonce(self.request).map(Into::into);
        let summary = Attested { logs, basis, found: Some(found), nonce, ..self.summary(plant) };
        let certifies = !(self.proven.keys().is_empty() && self.proven.software_keys().is_empty());
        let same = known.filter(|known| !certifies && says_the_same(known, &summary));
        let same = same.map(|known| known.evidence);
        let evidence = parts.keep(&plant.blobs, same).await.map_err(Refusal::internal)?;
        Ok(Attested { result: evidence, evidence, ..summary })
    }

    /// What needs no blob.
    fn summary(&self, plant: &Plant) -> Attested {
        let measured = Measured::of(self.proven.by());
        let worst = self.rulings.iter().max_by_key(|ruling| severity(ruling.decision()));
        let none = Digest([0; 32]);
        Attested {
            at: self.now,
            decision: worst.map_or(Decision::Refused, Ruling::decision),
            verdict: worst.map_or_else(String::new, |ruling| ruling.record.verdict.to_string()),
            release: worst
                .and_then(|ruling| ruling.record.release.as_ref().or(ruling.record.closest.as_ref()))
                .map(ToString::to_string),
            result: none,
            evidence: none,
            logs: None,
            basis: None,
            found: None,
            nonce: None,
            vouched: Some(plant.vouching()),
            golden: self.golden,
            reset_count: measured.clock.reset_count,
            restart_count: measured.clock.restart_count,
            clock: measured.clock.clock_ms,
            clock_safe: Some(measured.clock.safe),
            clone_alarm: false,
            firmware_version: measured.firmware_version,
            running: Some(running(self.rulings)),
            failing_hooks: self.proven.statement().failing_hooks.clone(),
            two_sided: self.proven.statement().two_sided.clone(),
            lost: None,
            silent: BTreeMap::new(),
        }
    }
}

/// Whether the evidence of `known` is as good as that of `now`: the same was measured in the same boot, and the zones found
/// the same in it. Of a device without a TPM nothing was measured.
fn says_the_same(known: &Attested, now: &Attested) -> bool {
    now.basis.is_some()
        && (known.basis, known.found) == (now.basis, now.found)
        && (&known.logs, known.reset_count) == (&now.logs, now.reset_count)
        && known.result == known.evidence
}

/// What a TPM counts.
struct Measured {
    clock: ClockInfo,
    firmware_version: u64,
}

impl Measured {
    fn of(by: &ProvenBy) -> Self {
        match by {
            ProvenBy::Tpm(by) => {
                Self { clock: by.evidence().clock(), firmware_version: by.evidence().firmware_version() }
            }
            ProvenBy::Key(_) => {
                let clock = ClockInfo { clock_ms: 0, reset_count: 0, restart_count: 0, safe: false };
                Self { clock, firmware_version: 0 }
            }
        }
    }
}

/// The releases that the evidence was found to be of.
fn running(rulings: &[Ruling]) -> Vec<ReleaseId> {
    let proven: BTreeSet<&ReleaseId> =
        rulings.iter().filter_map(|ruling| ruling.record.release.as_ref()).collect();
    proven.into_iter().cloned().collect()
}

const fn severity(decision: Decision) -> u8 {
    match decision {
        Decision::Trusted => 0,
        Decision::WouldRefuse => 1,
        Decision::Silent => 2,
        Decision::Refused => 3,
    }
}
