//! The verdict follows from releases, their states and the proof of hardware.

use policy::appraisal::claims::{Claim, ClaimValue};
use policy::appraisal::finding::FindingKind;
use policy::appraisal::policy::Mode;
use policy::appraisal::{AppraisalRecord, Verdict};
use policy::evidence::HardwareProof;
use policy::evidence::endorsement::Weight;
use policy::evidence::flaw::Flaw;
use policy::reference::state::ReleaseState::{self, Active, Deprecated, Pending, Retired, Withdrawn};
use policy::reference::{ReferenceError, ReferenceValues};
use proptest::prelude::*;

use crate::boot::{
    Boot, NOW, VARIABLE, boot_rules, manifest, pcr, policy_of, reference, rule, signed, whole,
};

fn kinds(record: &AppraisalRecord) -> Vec<FindingKind> {
    record.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn an_approved_boot_affirms_and_lists_what_was_not_appraised() {
    let forecast = Boot::of("k").forecast(&reference(&[(whole("1.4.0", 7, "k"), Active)]));
    let record = forecast.record();
    assert_eq!((record.verdict, record.findings.len()), (Verdict::Affirming, 0));
    assert_eq!(record.release, Some("edge-box@1.4.0".parse().unwrap()));
    assert_eq!(record.not_appraised, [1, 3, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]);
    let claims = [Claim::InstanceIdentity, Claim::Configuration, Claim::Executables, Claim::Hardware];
    let values: Vec<i8> = claims.iter().map(|claim| record.claims.value(*claim).0).collect();
    assert_eq!(values, [2, 2, 3, 2]);
    assert_eq!(record.claims.value(Claim::RuntimeOpaque), ClaimValue::NONE);
    assert!(forecast.judgement().refused.is_empty());
}

#[test]
fn unproven_hardware_makes_every_claim_about_pcrs_void() {
    let mut boot = Boot::of("k");
    boot.hardware = HardwareProof::Unproven;
    let forecast = boot.forecast(&reference(&[(whole("1.4.0", 7, "k"), Active)]));
    let record = forecast.record();
    assert_eq!(record.verdict, Verdict::Contraindicated);
    assert_eq!(record.claims.value(Claim::Hardware), ClaimValue::NOT_RECOGNISED);
    for claim in [Claim::Executables, Claim::Configuration] {
        assert_eq!(record.claims.value(claim), ClaimValue::NONE);
    }
    assert_eq!((kinds(record), record.release.clone()), (vec![FindingKind::HardwareUnproven], None));
    boot.hardware = HardwareProof::Registered;
    let registered = boot.forecast(&reference(&[(whole("1.4.0", 7, "k"), Active)]));
    assert_eq!(registered.record().verdict, Verdict::Affirming);
}

#[test]
fn row_29_what_is_known_against_the_tpm_lowers_the_hardware_claim() {
    let flaw = |weight| Flaw { id: "CVE-1".into(), weight, sentence: "it leaks".into() };
    let releases = reference(&[(whole("1.4.0", 7, "k"), Active)]);
    for (weight, value, verdict, kind, refused) in [
        (Weight::Notice, 2, Verdict::Affirming, FindingKind::TpmNotice, 0),
        (Weight::Vulnerable, 32, Verdict::Warning, FindingKind::TpmVulnerable, 1),
        (Weight::Broken, 96, Verdict::Contraindicated, FindingKind::TpmBroken, 1),
    ] {
        let mut boot = Boot::of("k");
        boot.flaws = vec![flaw(weight)];
        let forecast = boot.forecast(&releases);
        let record = forecast.record();
        assert_eq!((record.claims.value(Claim::Hardware).0, record.verdict), (value, verdict));
        assert_eq!((kinds(record), kind.is_notice()), (vec![kind], refused == 0));
        assert_eq!(record.findings[0].sentence, "CVE-1: it leaks");
        assert_eq!(forecast.judgement().refused.len(), refused, "{weight:?}");
        // The worst counts, in whatever order, and the boot is appraised all the same.
        boot.flaws = vec![flaw(Weight::Notice), flaw(weight), flaw(Weight::Notice)];
        assert_eq!(boot.forecast(&releases).record().claims.value(Claim::Hardware).0, value);
        assert_eq!(record.claims.value(Claim::Executables), ClaimValue::BOOT_APPROVED);
        // A TPM that nothing vouches for is not made better by being merely vulnerable.
        boot.hardware = HardwareProof::Unproven;
        let unproven = boot.forecast(&releases);
        assert_eq!(unproven.record().claims.value(Claim::Hardware), ClaimValue::NOT_RECOGNISED);
    }
}

#[test]
fn without_a_release_nothing_is_appraised() {
    let forecast = Boot::of("k").forecast(&ReferenceValues::new());
    let record = forecast.record();
    assert_eq!(record.verdict, Verdict::Unappraised);
    assert_eq!(kinds(record), [FindingKind::NoRelease, FindingKind::NoRelease]);
    assert!(record.findings[0].sentence.starts_with("no active golden release for product edge-box;"));
    assert_eq!(record.claims.value(Claim::Executables), ClaimValue::NONE);
    let other_product = Boot::of("k").forecast_in(
        &reference(&[(whole("1.4.0", 7, "k"), Active)]),
        &policy_of(&["press"], Mode::Enforce),
        NOW,
    );
    assert_eq!(other_product.record().verdict, Verdict::Unappraised);
}

#[test]
fn a_state_that_is_not_accepted_does_not_count_and_is_told() {
    for state in [Pending, Retired, Deprecated { until: NOW.minus(1) }] {
        let forecast = Boot::of("k").forecast(&reference(&[(whole("1.4.0", 7, "k"), state)]));
        assert_eq!(forecast.record().verdict, Verdict::Unappraised, "{state}");
        assert_eq!(kinds(forecast.record()).last(), Some(&FindingKind::NotAccepted), "{state}");
        assert!(!forecast.judgement().refused.is_empty(), "{state}");
    }
}

#[test]
fn a_deprecated_release_passes_until_its_date_and_is_flagged() {
    let reference = reference(&[(whole("1.4.0", 7, "k"), Deprecated { until: NOW })]);
    let forecast = Boot::of("k").forecast(&reference);
    assert_eq!(forecast.record().verdict, Verdict::Affirming);
    assert_eq!(kinds(forecast.record()), [FindingKind::Deprecated]);
    assert!(forecast.judgement().refused.is_empty());
    let later = Boot::of("k").forecast_in(&reference, &policy_of(&["edge-box"], Mode::Enforce), NOW.plus(1));
    assert_eq!(later.record().verdict, Verdict::Unappraised);
}

#[test]
fn an_active_release_is_named_before_a_deprecated_one() {
    let reference =
        reference(&[(whole("1.5.0", 8, "k"), Deprecated { until: NOW }), (whole("1.4.0", 7, "k"), Active)]);
    let forecast = Boot::of("k").forecast(&reference);
    assert_eq!(forecast.record().release, Some("edge-box@1.4.0".parse().unwrap()));
}

#[test]
fn a_withdrawn_release_condemns_what_runs_it() {
    let reference = reference(&[(whole("1.3.0", 6, "bad"), Withdrawn), (whole("1.4.0", 7, "good"), Active)]);
    let forecast = Boot::of("bad").forecast(&reference);
    let record = forecast.record();
    assert_eq!(record.verdict, Verdict::Contraindicated);
    assert_eq!(record.release, Some("edge-box@1.3.0".parse().unwrap()));
    assert_eq!(record.claims.value(Claim::Executables), ClaimValue::CONTRAINDICATED);
    assert_eq!(kinds(record), [FindingKind::Withdrawn]);
    assert!(record.findings[0].sentence.contains("edge-box@1.3.0, which is withdrawn"));
    let refused = forecast.judgement().refused;
    assert_eq!(refused.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::Withdrawn]);
    assert_eq!(Boot::of("good").forecast(&reference).record().verdict, Verdict::Affirming);
}

#[test]
fn silence_does_not_hide_a_withdrawn_release() {
    let boot = Boot::of("k");
    let known = rule(11, "EV_IPL", &[".linux"], "") + &rule(11, "EV_IPL", &["k"], "");
    let strict = manifest("1.3.0", 7, &(boot.values(&[0, 2, 7]) + &boot_rules("k") + &known));
    let reference = reference(&[(strict, Withdrawn), (whole("1.2.0", 6, "k"), Active)]);
    let verdict = |boot: &Boot| boot.forecast(&reference).record().verdict;
    assert_eq!(verdict(&boot), Verdict::Contraindicated);
    // Without the log of PCR 11, or with junk in it, it is still what it was.
    let silent = Boot { unexplained: vec![pcr(11)], ..boot.clone() };
    assert_eq!(kinds(silent.forecast(&reference).record()), [FindingKind::Withdrawn]);
    assert_eq!(verdict(&boot.clone().and(11, VARIABLE, "junk")), Verdict::Contraindicated);
    // Another digest than it measures shows another release.
    assert_eq!(verdict(&boot.with(".linux", ".other")), Verdict::Affirming);
}

#[test]
fn only_a_later_release_speaks_for_a_withdrawn_boot() {
    let with_counters = |withdrawn: u64, active: u64| {
        let reference =
            reference(&[(whole("1.3.0", withdrawn, "k"), Withdrawn), (whole("1.4.0", active, "k"), Active)]);
        Boot::of("k").forecast(&reference).record().clone()
    };
    assert_eq!(with_counters(7, 6).verdict, Verdict::Contraindicated);
    let mended = with_counters(6, 7);
    assert_eq!(mended.verdict, Verdict::Affirming);
    assert_eq!(kinds(&mended), [FindingKind::WithdrawnButAccepted]);
}

#[test]
fn a_release_that_leaves_out_a_boot_pcr_affirms_nothing_of_it() {
    for (left_out, claim, value) in [
        (0, Claim::Executables, ClaimValue::UNRECOGNISED),
        (2, Claim::Executables, ClaimValue::UNRECOGNISED),
        (7, Claim::Configuration, ClaimValue::UNAVAILABLE),
    ] {
        let pcrs: Vec<u8> = [0, 2, 7].into_iter().filter(|pcr| *pcr != left_out).collect();
        let rules = Boot::of("k").values(&pcrs) + &boot_rules("k");
        let forecast = Boot::of("k").forecast(&reference(&[(manifest("1.4.0", 7, &rules), Active)]));
        let record = forecast.record();
        assert_eq!(record.verdict, Verdict::Warning, "{left_out}");
        assert_eq!(record.claims.value(claim), value, "{left_out}");
        assert_eq!(kinds(record), [FindingKind::NotConstrained], "{left_out}");
        assert_eq!(record.findings[0].pcr, Some(left_out));
        assert!(record.not_appraised.contains(&left_out));
        assert!(!forecast.judgement().refused.is_empty(), "{left_out}");
    }
    let without_4 = Boot::of("k").values(&[0, 2, 7]);
    let forecast = Boot::of("anything").forecast(&reference(&[(manifest("1.4.0", 7, &without_4), Active)]));
    assert_eq!(forecast.record().findings[0].pcr, Some(4));
}

#[test]
fn observe_records_what_it_would_refuse_but_never_relaxes_hardware() {
    let reference = reference(&[(whole("1.4.0", 7, "good"), Active)]);
    let observe = policy_of(&["edge-box"], Mode::Observe);
    let judgement = Boot::of("bad").forecast_in(&reference, &observe, NOW).judgement();
    assert!(judgement.refused.is_empty());
    assert_eq!(judgement.would_refuse[0].kind, FindingKind::EventDigest);
    let mut unproven = Boot::of("good");
    unproven.hardware = HardwareProof::Unproven;
    let judgement = unproven.forecast_in(&reference, &observe, NOW).judgement();
    assert_eq!(judgement.refused.iter().map(|f| f.kind).collect::<Vec<_>>(), [FindingKind::HardwareUnproven]);
}

#[test]
fn a_name_belongs_to_one_manifest_and_an_unknown_one_to_none() {
    let mut reference = reference(&[(whole("1.4.0", 7, "k"), Active)]);
    let taken = reference.insert(signed(&whole("1.4.0", 7, "other")), Pending);
    assert!(matches!(taken, Err(ReferenceError::NameTaken { .. })));
    reference.insert(signed(&whole("1.4.0", 7, "k")), Pending).unwrap();
    let id = "edge-box@1.4.0".parse().unwrap();
    assert_eq!(reference.release(&id).unwrap().state(), Active, "the same release again changes nothing");
    assert!(matches!(reference.change_state(&id, Retired), Err(ReferenceError::Transition { .. })));
    reference.change_state(&id, Withdrawn).unwrap();
    let unknown = "edge-box@9".parse().unwrap();
    assert_eq!(reference.change_state(&unknown, Active), Err(ReferenceError::Unknown(unknown)));
}

fn any_state() -> impl Strategy<Value = ReleaseState> {
    prop_oneof![
        Just(Pending),
        Just(Active),
        Just(Deprecated { until: NOW }),
        Just(Deprecated { until: NOW.minus(1) }),
        Just(Retired),
        Just(Withdrawn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing is affirmed that no accepted release approves, and nothing is refused without a reason.
    #[test]
    fn trust_needs_an_accepted_release_and_refusal_a_reason(
        states in prop::collection::vec((any_state(), 0_usize..3), 0..5),
        running in 0_usize..3,
    ) {
        let kernels = ["kernel A", "kernel B", "kernel C"];
        let releases: Vec<_> = states
            .iter()
            .zip(1_u64..)
            .map(|((state, kernel), counter)| (whole(&format!("1.{counter}"), counter, kernels[*kernel]), *state))
            .collect();
        let forecast = Boot::of(kernels[running]).forecast(&reference(&releases));
        let accepted = states.iter().any(|(state, kernel)| {
            *kernel == running && matches!(state, Active | Deprecated { until: NOW })
        });
        let judgement = forecast.judgement();
        prop_assert_eq!(forecast.record().verdict == Verdict::Affirming, judgement.refused.is_empty());
        prop_assert!(accepted || !judgement.refused.is_empty());
        let withdrawn_last = states.iter().rev().find(|(state, kernel)| {
            *kernel == running && !matches!(state, Pending | Retired) && *state != Deprecated { until: NOW.minus(1) }
        });
        if let Some((Withdrawn, _)) = withdrawn_last {
            prop_assert_eq!(forecast.record().verdict, Verdict::Contraindicated);
        }
    }
}
