//! From an Attestation Result to trust in a zone: the claims against the least that the zone accepts.

use serde::{Deserialize, Serialize};

use crate::appraisal::claims::Claim;
use crate::appraisal::finding::{Finding, FindingKind};
use crate::appraisal::policy::{Mode, ZonePolicy};
use crate::appraisal::result::Prover;
use crate::appraisal::{AppraisalRecord, AttestationResult, Forecast};
use crate::id::ZoneName;
use crate::reference::release::ReleaseId;
use crate::time::UnixTime;
use crate::zone::overriding::Override;

/// Claims that observe does not relax: that the device is who it is and that its TPM is one (design,
/// section 5).
pub(super) const NEVER_RELAXED: [Claim; 2] = [Claim::InstanceIdentity, Claim::Hardware];

/// What a zone makes of a record: the reasons to refuse, and those it only notes. It proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Reasons for which the device is refused; none means trusted.
    pub refused: Vec<Finding>,
    /// Reasons for which it would be refused, did the zone enforce.
    pub would_refuse: Vec<Finding>,
    /// Reasons that an override excuses.
    #[serde(default)]
    pub overridden: Vec<Finding>,
}

/// A device that a zone trusts on fresh evidence. Only [`decide`] makes one, and only a grant uses it.
#[derive(Clone, Debug)]
pub struct Trusted {
    zone: ZoneName,
    release: Option<ReleaseId>,
    would_refuse: Vec<Finding>,
    overridden: Vec<Finding>,
    until: Option<UnixTime>,
    prover: Prover,
}

impl Trusted {
    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> &ZoneName {
        &self.zone
    }

    /// The release that the device runs, if one matches.
    #[must_use]
    pub const fn release(&self) -> Option<&ReleaseId> {
        self.release.as_ref()
    }

    /// What an enforcing zone would have refused it for.
    #[must_use]
    pub fn would_refuse(&self) -> &[Finding] {
        &self.would_refuse
    }

    /// What it would be refused for without an override.
    #[must_use]
    pub fn overridden(&self) -> &[Finding] {
        &self.overridden
    }

    /// When the trust ends by itself, if it rests on an override.
    #[must_use]
    pub const fn until(&self) -> Option<UnixTime> {
        self.until
    }

    /// What it proved itself with.
    #[must_use]
    pub const fn prover(&self) -> Prover {
        self.prover
    }

    #[cfg(test)]
    pub(crate) const fn by(mut self, prover: Prover) -> Self {
        self.prover = prover;
        self
    }

    #[cfg(test)]
    pub(crate) const fn for_tests(zone: ZoneName, until: Option<UnixTime>) -> Self {
        let prover = Prover::Tpm;
        Self { zone, release: None, would_refuse: Vec::new(), overridden: Vec::new(), until, prover }
    }
}

/// The decision of a zone about a device.
#[derive(Clone, Debug)]
pub enum Admission {
    /// It may have a certificate.
    Trusted(Trusted),
    /// It may not, for these reasons; never empty.
    Refused(Vec<Finding>),
}

/// Decides whether the zone trusts the device, under the policy that the result was appraised by and the override
/// that the device has.
#[must_use]
pub fn decide(result: &AttestationResult, excused: Option<&Override>) -> Admission {
    let record = result.record();
    let judgement = judge(record, result.policy(), excused);
    if !judgement.refused.is_empty() {
        return Admission::Refused(judgement.refused);
    }
    let until = excused.map(|excused| excused.until).filter(|_| !judgement.overridden.is_empty());
    Admission::Trusted(Trusted {
        zone: record.zone.clone(),
        release: record.release.clone(),
        would_refuse: judgement.would_refuse,
        overridden: judgement.overridden,
        until,
        prover: result.prover(),
    })
}

impl Forecast {
    /// What the zone would make of it.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        self.judgement_under(None)
    }

    /// What the zone would make of it, of a device that has an override.
    #[must_use]
    pub fn judgement_under(&self, excused: Option<&Override>) -> Judgement {
        judge(self.record(), self.policy(), excused)
    }
}

/// Sorts the reasons of a record by what `policy` makes of them. A withdrawn release is a reason
/// whatever the zone asks for. Reasons that were left out of the record cannot be excused, so none is then.
#[must_use]
pub fn judge(record: &AppraisalRecord, policy: &ZonePolicy, excused: Option<&Override>) -> Judgement {
    let (hard, soft): (Vec<Claim>, Vec<Claim>) =
        policy.least.unmet(&record.claims).partition(|claim| NEVER_RELAXED.contains(claim));
    let withdrawn = record.findings.iter().filter(|finding| finding.kind == FindingKind::Withdrawn);
    let mut appraisal: Vec<Finding> = withdrawn.cloned().collect();
    for claim in soft {
        let reasons = reasons(record, claim);
        appraisal.extend(reasons.into_iter().filter(|finding| finding.kind != FindingKind::Withdrawn));
    }
    let authenticity: Vec<Finding> = hard.into_iter().flat_map(|claim| reasons(record, claim)).collect();
    let excuses = |finding: &Finding| {
        record.findings_left_out == 0 && excused.is_some_and(|one| one.excuses(finding, record.at))
    };
    let (overridden, appraisal): (Vec<_>, Vec<_>) = appraisal.into_iter().partition(excuses);
    match policy.mode {
        Mode::Enforce => Judgement {
            refused: authenticity.into_iter().chain(appraisal).collect(),
            would_refuse: Vec::new(),
            overridden,
        },
        Mode::Observe => Judgement { refused: authenticity, would_refuse: appraisal, overridden },
    }
}

/// The findings that bear on a claim that is not met; there is always one.
fn reasons(record: &AppraisalRecord, claim: Claim) -> Vec<Finding> {
    let bears = |finding: &&Finding| finding.claim == claim && !finding.kind.is_notice();
    let found: Vec<Finding> = record.findings.iter().filter(bears).cloned().collect();
    if !found.is_empty() || has_withdrawn(record) {
        return found;
    }
    let value = record.claims.value(claim);
    let sentence = format!(
        "zone {} asks more of {claim} than this appraisal gives ({value}); send evidence for it, or let the zone ask less",
        record.zone
    );
    vec![Finding::new(FindingKind::NotClaimed, claim, sentence)]
}

fn has_withdrawn(record: &AppraisalRecord) -> bool {
    record.findings.iter().any(|finding| finding.kind == FindingKind::Withdrawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::Verdict;
    use crate::appraisal::claims::{ClaimValue, Claims, LeastClaims};
    use crate::reference::hash_text::HashText;
    use crate::tpm::alg::{HashAlg, HashValue};
    use crate::zone::overriding::NamedMismatch;

    fn result(executables: ClaimValue, mode: Mode, kinds: &[FindingKind]) -> AttestationResult {
        let mut claims = Claims::default();
        for claim in [Claim::InstanceIdentity, Claim::Configuration, Claim::Hardware] {
            claims.lower_to(claim, ClaimValue::APPROVED);
        }
        claims.lower_to(Claim::Executables, executables);
        let zone: ZoneName = "cell-3".parse().unwrap();
        let finding = |kind: &FindingKind| Finding::new(*kind, Claim::Executables, "because".to_owned());
        let record = AppraisalRecord {
            zone: zone.clone(),
            at: UnixTime(1),
            verdict: Verdict::Affirming,
            claims,
            release: None,
            closest: None,
            findings: kinds.iter().map(finding).collect(),
            findings_left_out: 0,
            not_appraised: Vec::new(),
        };
        let policy = ZonePolicy { zone, products: [].into(), least: LeastClaims::default(), mode };
        AttestationResult::for_tests(record, policy)
    }

    fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
        findings.iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn trust_is_given_when_every_claim_is_met() {
        let result = result(ClaimValue::BOOT_APPROVED, Mode::Enforce, &[FindingKind::Deprecated]);
        let Admission::Trusted(trusted) = decide(&result, None) else { panic!() };
        assert_eq!((trusted.zone().as_str(), trusted.would_refuse().len()), ("cell-3", 0));
    }

    #[test]
    fn enforce_refuses_and_observe_records_the_same_reasons() {
        let reasons = [FindingKind::EventDigest, FindingKind::Deprecated];
        let Admission::Refused(refused) =
            decide(&result(ClaimValue::UNRECOGNISED, Mode::Enforce, &reasons), None)
        else {
            panic!()
        };
        let Admission::Trusted(trusted) =
            decide(&result(ClaimValue::UNRECOGNISED, Mode::Observe, &reasons), None)
        else {
            panic!()
        };
        assert_eq!(kinds(&refused), [FindingKind::EventDigest]);
        assert_eq!(trusted.would_refuse(), refused);
    }

    #[test]
    fn a_refusal_without_a_finding_still_says_why() {
        let Admission::Refused(refused) = decide(&result(ClaimValue::NONE, Mode::Enforce, &[]), None) else {
            panic!()
        };
        assert_eq!(kinds(&refused), [FindingKind::NotClaimed]);
        assert!(refused[0].sentence.contains("zone cell-3 asks more of executables"));
    }

    #[test]
    fn a_withdrawn_release_is_refused_whatever_the_zone_asks() {
        let reasons = [FindingKind::Withdrawn];
        let Admission::Refused(refused) =
            decide(&result(ClaimValue::BOOT_APPROVED, Mode::Enforce, &reasons), None)
        else {
            panic!()
        };
        assert_eq!(kinds(&refused), reasons);
    }

    const KERNEL: [u8; 32] = [7; 32];

    /// A result with one mismatch, and the override that names it until time 9.
    fn mismatch(mode: Mode) -> (AttestationResult, Override) {
        let mut result = result(ClaimValue::UNRECOGNISED, mode, &[FindingKind::EventDigest]);
        let finding = &mut result.bend().findings[0];
        (finding.pcr, finding.name) = (Some(4), Some("kernel".to_owned()));
        finding.seen = HashValue::new(HashAlg::Sha256, &KERNEL).map(HashText);
        let named = NamedMismatch::of(finding).unwrap();
        (result, Override { mismatches: [named].into(), until: UnixTime(9) })
    }

    #[test]
    fn an_override_accepts_the_named_mismatch_and_ends_by_itself() {
        let (mut result, excused) = mismatch(Mode::Enforce);
        assert!(matches!(decide(&result, None), Admission::Refused(_)));
        let Admission::Trusted(trusted) = decide(&result, Some(&excused)) else { panic!() };
        assert_eq!(
            (kinds(trusted.overridden()), trusted.until()),
            (vec![FindingKind::EventDigest], Some(UnixTime(9)))
        );
        result.bend().at = UnixTime(9);
        assert!(matches!(decide(&result, Some(&excused)), Admission::Refused(_)), "its time is over");
    }

    #[test]
    fn an_override_accepts_nothing_else() {
        let change = |change: fn(&mut Finding)| {
            let (mut result, excused) = mismatch(Mode::Enforce);
            change(&mut result.bend().findings[0]);
            matches!(decide(&result, Some(&excused)), Admission::Refused(_))
        };
        assert!(change(|finding| finding.seen = HashValue::new(HashAlg::Sha256, &[8; 32]).map(HashText)));
        assert!(change(|finding| finding.seen = None));
        assert!(change(|finding| finding.pcr = Some(9)));
        assert!(change(|finding| finding.name = Some("initrd".to_owned())));
        assert!(change(|finding| finding.kind = FindingKind::UnexpectedEvent));
        let more = |more: fn(&mut AppraisalRecord)| {
            let (mut result, excused) = mismatch(Mode::Enforce);
            more(result.bend());
            matches!(decide(&result, Some(&excused)), Admission::Refused(_))
        };
        assert!(more(|record| record.findings_left_out = 1), "what is not told cannot be excused");
        assert!(more(|record| record.claims.lower_to(Claim::Hardware, ClaimValue::CONTRAINDICATED)));
        let because = |kind| Finding::new(kind, Claim::Executables, "because".to_owned());
        let withdrawn = because(FindingKind::Withdrawn);
        let (mut result, excused) = mismatch(Mode::Enforce);
        result.bend().findings.push(withdrawn);
        let Admission::Refused(refused) = decide(&result, Some(&excused)) else { panic!() };
        assert_eq!(kinds(&refused), [FindingKind::Withdrawn]);
    }

    #[test]
    fn only_what_was_there_by_its_digest_can_be_named() {
        let (result, _) = mismatch(Mode::Enforce);
        for kind in [FindingKind::Unexplained, FindingKind::Withdrawn, FindingKind::HardwareUnproven] {
            let finding = Finding { kind, ..result.record().findings[0].clone() };
            assert_eq!(NamedMismatch::of(&finding), None, "{kind:?}");
        }
    }

    #[test]
    fn what_is_overridden_is_no_would_be_refusal() {
        let (result, excused) = mismatch(Mode::Observe);
        let Admission::Trusted(trusted) = decide(&result, Some(&excused)) else { panic!() };
        assert_eq!((trusted.would_refuse().len(), trusted.overridden().len()), (0, 1));
    }
}
