//! From measurements to a verdict with reasons.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::claims::{Claim, ClaimValue, Claims, Tier};
use super::files::{self, Files};
use super::finding::{Finding, FindingKind, MAX_FINDINGS};
use super::matching::{Mismatch, mismatches};
use super::measurements::{Measurements, Origin};
use super::policy::ZonePolicy;
use super::result::{AppraisalRecord, AttestationResult, Forecast, Prover, Verdict};
use crate::evidence::HardwareProof;
use crate::evidence::device_key::KeyProof;
use crate::evidence::endorsement::Weight;
use crate::evidence::flaw::Flaw;
use crate::evidence::verify::VerifiedEvidence;
use crate::reference::manifest::Manifest;
use crate::reference::release::ReleaseId;
use crate::reference::state::Standing;
use crate::reference::supposed::Supposed;
use crate::reference::{ReferenceValues, Release};
use crate::time::UnixTime;
use crate::tpm::pcr::PcrIndex;
use crate::zone::without_tpm::claims_without_tpm;

/// PCRs that a release must constrain before it can affirm what was booted and how: firmware, option
/// ROMs, boot loader and kernel, Secure Boot.
pub const BOOT_PCRS: [u8; 4] = [0, 2, 4, 7];

/// Appraises fresh evidence under the policy of a zone.
#[must_use]
pub fn appraise(
    evidence: &VerifiedEvidence,
    reference: &ReferenceValues,
    policy: &ZonePolicy,
    now: UnixTime,
) -> AttestationResult {
    let (record, approving) = examine(&Measurements::from(evidence), reference, policy, now);
    let ima = evidence.ima().map(|list| list.state().approved_by(approving));
    AttestationResult { record, policy: policy.clone(), ima, prover: Prover::Tpm }
}

/// Appraises a device without a TPM, which proved who it is with `_proof` and can prove nothing else.
#[must_use]
pub fn appraise_without_tpm(_proof: &KeyProof, policy: &ZonePolicy, now: UnixTime) -> AttestationResult {
    let mut draft = Draft::new(policy, now);
    claim_key(&mut draft);
    AttestationResult { record: draft.finish(), policy: policy.clone(), ima: None, prover: Prover::Key }
}

/// Says what an appraisal of these measurements would find at `now`, which may lie ahead.
#[must_use]
pub fn forecast(
    measurements: &Measurements<'_>,
    reference: &ReferenceValues,
    policy: &ZonePolicy,
    now: UnixTime,
) -> Forecast {
    let (record, _) = examine(measurements, reference, policy, now);
    Forecast { record, policy: policy.clone() }
}

/// The same under values that are not in force.
#[must_use]
pub fn forecast_supposed(
    measurements: &Measurements<'_>,
    supposed: &Supposed,
    policy: &ZonePolicy,
    now: UnixTime,
) -> Forecast {
    forecast(measurements, supposed.values(), policy, now)
}

/// A release of one of the zone's products, compared.
struct Candidate<'a> {
    release: &'a Release,
    standing: Standing,
    mismatches: Vec<Mismatch<'a>>,
    files: Files<'a>,
}

impl<'a> Candidate<'a> {
    fn manifest(&self) -> &'a Manifest {
        self.release.signed().manifest()
    }

    fn matches(&self) -> bool {
        self.mismatches.is_empty() && self.files.count() == 0
    }

    /// Whether the device may run it: it matches, or nothing speaks against it but silence. A device that
    /// sends less, or extends junk where nothing is explained, must not pass for one that runs another.
    fn may_run(&self) -> bool {
        let whole_boot = unconstrained(self.manifest()).next().is_none();
        let silent = || self.mismatches.iter().all(Mismatch::is_silence) && self.files.is_silence();
        self.matches() || (whole_boot && silent())
    }

    fn is_accepted(&self) -> bool {
        matches!(self.standing, Standing::Accepted { .. })
    }

    fn is_deprecated(&self) -> bool {
        matches!(self.standing, Standing::Accepted { until: Some(_) })
    }

    /// Best first: fewest mismatches, fewest files that are not approved, most of the boot constrained, not
    /// deprecated, newest.
    fn order(&self) -> (usize, usize, usize, bool, Reverse<u64>) {
        let missing = unconstrained(self.manifest()).count();
        let newest_first = Reverse(self.manifest().counter());
        (self.mismatches.len(), self.files.count(), missing, self.is_deprecated(), newest_first)
    }
}

pub(super) fn examine(
    seen: &Measurements<'_>,
    reference: &ReferenceValues,
    policy: &ZonePolicy,
    now: UnixTime,
) -> (AppraisalRecord, BTreeSet<ReleaseId>) {
    let mut approving = BTreeSet::new();
    let mut draft = Draft::new(policy, now);
    match seen.origin() {
        Origin::Device(HardwareProof::Endorsed | HardwareProof::Registered) => {
            draft.claims.lower_to(Claim::InstanceIdentity, ClaimValue::APPROVED);
            draft.claims.lower_to(Claim::Hardware, ClaimValue::APPROVED);
            approving = judge(&mut draft, seen, &compare(seen, reference, policy, now));
            weigh_flaws(&mut draft, seen.flaws());
        }
        Origin::Device(HardwareProof::Unproven) => {
            draft.claims.lower_to(Claim::InstanceIdentity, ClaimValue::APPROVED);
            reject_hardware(&mut draft, seen);
        }
        Origin::WithoutTpm => claim_key(&mut draft),
        // Neither a device nor its TPM is claimed.
        Origin::Folder => approving = judge(&mut draft, seen, &compare(seen, reference, policy, now)),
    }
    (draft.finish(), approving)
}

/// Judges the boot, and returns the releases that approve all of it.
fn judge(
    draft: &mut Draft<'_>,
    seen: &Measurements<'_>,
    candidates: &[Candidate<'_>],
) -> BTreeSet<ReleaseId> {
    judge_boot(draft, seen, candidates);
    let approves = candidates.iter().filter(|c| c.mismatches.is_empty() && c.files.approved());
    approves.map(|candidate| candidate.manifest().id().clone()).collect()
}

fn compare<'a>(
    seen: &Measurements<'a>,
    reference: &'a ReferenceValues,
    policy: &'a ZonePolicy,
    now: UnixTime,
) -> Vec<Candidate<'a>> {
    let candidate = |release: &'a Release| {
        let manifest = release.signed().manifest();
        let mismatches = mismatches(manifest, seen);
        // Files are many and signatures dear: they are compared where the boot is the release's.
        let files = if mismatches.is_empty() { files::compare(manifest, seen) } else { Files::default() };
        Candidate { release, standing: release.state().standing(now), mismatches, files }
    };
    let mut candidates: Vec<_> = reference.of_products(&policy.products).map(candidate).collect();
    candidates.sort_by_cached_key(Candidate::order);
    // What the closest release says of files is told of another boot too: whoever accepts the boot by hand must
    // see what runs on it.
    if let Some(closest) = candidates.iter_mut().find(|candidate| candidate.is_accepted())
        && !closest.mismatches.is_empty()
    {
        closest.files = files::compare(closest.release.signed().manifest(), seen);
    }
    candidates
}

/// Without a proven TPM nothing that rests on PCRs is claimed, whatever the log says.
fn reject_hardware(draft: &mut Draft<'_>, seen: &Measurements<'_>) {
    draft.claims.lower_to(Claim::Hardware, ClaimValue::NOT_RECOGNISED);
    draft.verdict = Verdict::Contraindicated;
    draft.not_appraised = seen.quoted().map(|pcr| pcr.number()).collect();
    draft.add(Finding::new(
        FindingKind::HardwareUnproven,
        Claim::Hardware,
        "no trusted manufacturer certifies this TPM and its EK is not registered, so its PCRs prove nothing; import the EK's digest or the manufacturer's root".to_owned(),
    ));
}

/// A key in software says who holds it, and nothing about the machine.
fn claim_key(draft: &mut Draft<'_>) {
    draft.claims = claims_without_tpm();
    draft.verdict = Verdict::Contraindicated;
    draft.add(Finding::new(
        FindingKind::HardwareUnproven,
        Claim::Hardware,
        format!(
            "the device has no TPM, so nothing proves its hardware or what it boots; zone {} must not ask for \
             that, or give the device a TPM",
            draft.policy.zone
        ),
    ));
}

/// Row 29: what is known against the TPM lowers what its word is worth, and the verdict is never better.
fn weigh_flaws(draft: &mut Draft<'_>, flaws: &[Flaw]) {
    for flaw in flaws {
        let (kind, value) = match flaw.weight {
            Weight::Notice => (FindingKind::TpmNotice, None),
            Weight::Vulnerable => (FindingKind::TpmVulnerable, Some(ClaimValue::VULNERABLE)),
            Weight::Broken => (FindingKind::TpmBroken, Some(ClaimValue::CONTRAINDICATED)),
        };
        if let Some(value) = value {
            draft.claims.lower_to(Claim::Hardware, value);
        }
        draft.add(Finding::new(kind, Claim::Hardware, format!("{}: {}", flaw.id, flaw.sentence)));
    }
    draft.verdict = match (draft.claims.value(Claim::Hardware).tier(), draft.verdict) {
        (Tier::Contraindicated, _) => Verdict::Contraindicated,
        (Tier::Warning, Verdict::Affirming) => Verdict::Warning,
        (_, verdict) => verdict,
    };
}

fn judge_boot(draft: &mut Draft<'_>, seen: &Measurements<'_>, candidates: &[Candidate<'_>]) {
    let accepted = candidates.iter().find(|candidate| candidate.is_accepted());
    let approved = accepted.filter(|candidate| candidate.matches());
    let withdrawn: Vec<_> =
        candidates.iter().filter(|c| c.standing == Standing::Withdrawn && c.may_run()).collect();
    let later = |bad: &Candidate<'_>| {
        let mut approving = candidates.iter().filter(|c| c.is_accepted() && c.matches());
        approving.any(|good| overrides(good, bad))
    };
    let condemned = withdrawn.iter().find(|bad| !later(bad));
    let reported = match (condemned, approved, accepted) {
        (Some(bad), _, _) => {
            condemn(draft, bad);
            Some(*bad)
        }
        (None, Some(good), _) => {
            approve(draft, good);
            for bad in &withdrawn {
                draft.add(also_withdrawn(bad));
            }
            Some(good)
        }
        (None, None, Some(closest)) => {
            refuse(draft, seen, closest);
            Some(closest)
        }
        (None, None, None) => {
            no_release(draft);
            None
        }
    };
    if approved.is_none() && condemned.is_none() {
        for known in candidates.iter().filter(|c| c.standing == Standing::NotAccepted && c.matches()) {
            draft.add(not_accepted(known));
        }
    }
    let mut constrained = reported.map(|candidate| candidate.manifest().constrained()).unwrap_or_default();
    match (seen.ima(), reported) {
        (Some(_), Some(candidate)) if candidate.manifest().ima().is_some() => {
            constrained.extend([PcrIndex::IMA]);
        }
        (Some(_), Some(candidate)) => draft.add(files_not_appraised(candidate)),
        _ => {}
    }
    draft.not_appraised =
        seen.quoted().filter(|pcr| !constrained.contains(pcr)).map(|pcr| pcr.number()).collect();
}

/// A boot of a withdrawn release stays bad until a *later* release of the product was signed for it:
/// an older one that is still active does not speak for it, a mistaken withdrawal can be mended.
fn overrides(good: &Candidate<'_>, bad: &Candidate<'_>) -> bool {
    good.manifest().product() == bad.manifest().product()
        && good.manifest().counter() > bad.manifest().counter()
}

fn condemn(draft: &mut Draft<'_>, bad: &Candidate<'_>) {
    let id = bad.manifest().id();
    draft.release = Some(id.clone());
    draft.verdict = Verdict::Contraindicated;
    for claim in [Claim::Executables, Claim::Configuration] {
        draft.claims.lower_to(claim, ClaimValue::CONTRAINDICATED);
    }
    let sentence = format!("the device runs {id}, which is withdrawn; install a release that is accepted");
    draft.add(Finding::new(FindingKind::Withdrawn, Claim::Executables, sentence).with_release(id));
}

fn approve(draft: &mut Draft<'_>, good: &Candidate<'_>) {
    let id = good.manifest().id();
    draft.release = Some(id.clone());
    claim_boot(draft, good);
    let claims = [Claim::Executables, Claim::Configuration];
    let affirmed = claims.iter().all(|claim| draft.claims.value(*claim).tier() == Tier::Affirming);
    draft.verdict = if affirmed { Verdict::Affirming } else { Verdict::Warning };
    if let Standing::Accepted { until: Some(until) } = good.standing {
        let sentence = format!("{id} is deprecated and accepted until {until}; install its successor");
        draft.add(Finding::new(FindingKind::Deprecated, Claim::Executables, sentence).with_release(id));
    }
}

fn refuse(draft: &mut Draft<'_>, seen: &Measurements<'_>, closest: &Candidate<'_>) {
    draft.closest = Some(closest.manifest().id().clone());
    draft.verdict = Verdict::Contraindicated;
    for mismatch in &closest.mismatches {
        let claim = mismatch.claim();
        draft.claims.lower_to(claim, unrecognised(claim));
        draft.add(mismatch.to_finding(closest.manifest(), seen.bank()));
    }
    for (claim, value) in closest.files.claims() {
        draft.claims.lower_to(claim, value);
    }
    closest.files.findings(closest.manifest()).for_each(|finding| draft.add(finding));
    draft.left_out += closest.files.left_out();
    claim_boot(draft, closest);
}

fn no_release(draft: &mut Draft<'_>) {
    let products: Vec<&str> = draft.policy.products.iter().map(|product| product.as_str()).collect();
    let sentence = match products.as_slice() {
        [] => {
            format!(
                "zone {} names no product, so there is nothing to compare with; name its products",
                draft.policy.zone
            )
        }
        names => format!(
            "no active golden release for product {}; apply and activate one",
            names.join(" or product ")
        ),
    };
    draft.verdict = Verdict::Unappraised;
    draft.add(Finding::new(FindingKind::NoRelease, Claim::Executables, sentence.clone()));
    draft.add(Finding::new(FindingKind::NoRelease, Claim::Configuration, sentence));
}

/// Claims what was booted and how, as far as the release constrains it.
fn claim_boot(draft: &mut Draft<'_>, candidate: &Candidate<'_>) {
    // What ran since the boot is approved only where a list of it was.
    let files = candidate.mismatches.is_empty() && candidate.files.approved();
    let executables = if files { ClaimValue::APPROVED } else { ClaimValue::BOOT_APPROVED };
    draft.claims.lower_to(Claim::Executables, executables);
    draft.claims.lower_to(Claim::Configuration, ClaimValue::APPROVED);
    let id = candidate.manifest().id();
    for (pcr, claim) in unconstrained(candidate.manifest()) {
        draft.claims.lower_to(claim, unrecognised(claim));
        let sentence = format!(
            "{id} does not constrain PCR {pcr}, so {claim} cannot be affirmed; add PCR {pcr} to the release"
        );
        let mut finding = Finding::new(FindingKind::NotConstrained, claim, sentence).with_release(id);
        finding.pcr = Some(pcr);
        draft.add(finding);
    }
}

/// The boot PCRs that a release leaves free, each with the claim that rests on it.
fn unconstrained(manifest: &Manifest) -> impl Iterator<Item = (u8, Claim)> {
    let constrained: Vec<u8> = manifest.constrained().into_iter().map(|pcr| pcr.number()).collect();
    let claim = |pcr: u8| if pcr == 7 { Claim::Configuration } else { Claim::Executables };
    BOOT_PCRS.into_iter().filter(move |pcr| !constrained.contains(pcr)).map(move |pcr| (pcr, claim(pcr)))
}

/// What is claimed of something that no release approves (row 35 of the checklist).
const fn unrecognised(claim: Claim) -> ClaimValue {
    match claim {
        Claim::Configuration => ClaimValue::UNAVAILABLE,
        _ => ClaimValue::UNRECOGNISED,
    }
}

fn not_accepted(known: &Candidate<'_>) -> Finding {
    let id = known.manifest().id();
    let sentence = format!(
        "the device runs {id}, which is {} and not accepted now; install an accepted release, or make this one active",
        known.release.state()
    );
    Finding::new(FindingKind::NotAccepted, Claim::Executables, sentence).with_release(id)
}

fn files_not_appraised(candidate: &Candidate<'_>) -> Finding {
    let id = candidate.manifest().id();
    let sentence = format!(
        "{id} has no section [ima], so the files on the device's IMA list were not appraised; add the section to say which may run"
    );
    Finding::new(FindingKind::FilesNotAppraised, Claim::Executables, sentence).with_release(id)
}

fn also_withdrawn(bad: &Candidate<'_>) -> Finding {
    let bad = bad.manifest().id();
    let sentence = format!(
        "the device also matches {bad}, which is withdrawn; a release with a higher counter accepts it"
    );
    Finding::new(FindingKind::WithdrawnButAccepted, Claim::Executables, sentence).with_release(bad)
}

/// A record in the making.
struct Draft<'a> {
    policy: &'a ZonePolicy,
    at: UnixTime,
    verdict: Verdict,
    claims: Claims,
    release: Option<ReleaseId>,
    closest: Option<ReleaseId>,
    findings: Vec<Finding>,
    not_appraised: Vec<u8>,
    left_out: usize,
}

impl<'a> Draft<'a> {
    fn new(policy: &'a ZonePolicy, at: UnixTime) -> Self {
        Self {
            policy,
            at,
            verdict: Verdict::Unappraised,
            claims: Claims::default(),
            release: None,
            closest: None,
            findings: Vec::new(),
            not_appraised: Vec::new(),
            left_out: 0,
        }
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.left_out += 1;
        }
    }

    fn finish(self) -> AppraisalRecord {
        AppraisalRecord {
            zone: self.policy.zone.clone(),
            at: self.at,
            verdict: self.verdict,
            claims: self.claims,
            release: self.release,
            closest: self.closest,
            findings: self.findings,
            findings_left_out: self.left_out,
            not_appraised: self.not_appraised,
        }
    }
}
