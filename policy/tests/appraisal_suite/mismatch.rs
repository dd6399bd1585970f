//! A mismatch is told with PCR, event, name, expected and seen digest, and the release.

use policy::appraisal::Verdict;
use policy::appraisal::claims::{Claim, ClaimValue};
use policy::appraisal::finding::{Finding, FindingKind, MAX_FINDINGS};
use policy::reference::hash_text::HashText;
use policy::reference::state::ReleaseState::Active;

use crate::boot::{BSA, Boot, IPL, SEPARATOR, boot_rules, hash, manifest, pcr, reference, rule, whole};

fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn another_kernel_is_named_with_event_and_digests() {
    let reference = reference(&[(whole("1.4.0", 7, "kernel A"), Active)]);
    let forecast = Boot::of("kernel B").forecast(&reference);
    let record = forecast.record();
    assert_eq!(record.verdict, Verdict::Contraindicated);
    assert_eq!(record.closest, Some("edge-box@1.4.0".parse().unwrap()));
    assert_eq!(record.release, None);
    assert_eq!(record.claims.value(Claim::Executables), ClaimValue::UNRECOGNISED);
    assert_eq!(record.claims.value(Claim::Configuration), ClaimValue::APPROVED);
    let [finding] = record.findings.as_slice() else { panic!("{:?}", record.findings) };
    assert_eq!((finding.kind, finding.claim), (FindingKind::EventDigest, Claim::Executables));
    assert_eq!((finding.pcr, finding.name.as_deref()), (Some(4), Some("kernel")));
    assert_eq!(finding.event.as_ref().map(|event| event.position), Some(9));
    assert_eq!(finding.expected, [HashText(hash("kernel A"))]);
    assert_eq!(finding.seen, Some(HashText(hash("kernel B"))));
    assert_eq!(
        finding.sentence,
        "PCR 4, event 9 (EV_EFI_BOOT_SERVICES_APPLICATION): kernel is not the one of edge-box@1.4.0; \
         boot the device with edge-box@1.4.0, or sign a release that accepts this"
    );
}

#[test]
fn a_record_reads_back_as_it_was_stored() {
    let reference = reference(&[(whole("1.4.0", 7, "kernel A"), Active)]);
    let forecast = Boot::of("kernel B").forecast(&reference);
    let json = serde_json::to_string(forecast.record()).unwrap();
    let back: policy::appraisal::AppraisalRecord = serde_json::from_str(&json).unwrap();
    assert_eq!(back, *forecast.record());
}

#[test]
fn a_whole_value_is_told_with_both_digests() {
    let reference = reference(&[(whole("1.4.0", 7, "k"), Active)]);
    let boot = Boot::of("k").with("SecureBoot=1", "SecureBoot=0");
    let forecast = boot.forecast(&reference);
    let [finding] = forecast.record().findings.as_slice() else { panic!() };
    assert_eq!((finding.kind, finding.pcr), (FindingKind::PcrValue, Some(7)));
    let value = |boot: Boot| Some(HashText(*boot.replayed().pcrs.value(pcr(7)).unwrap()));
    assert_eq!(finding.expected.first().copied(), value(Boot::of("k")));
    assert_eq!(finding.seen, value(boot));
    assert_eq!(forecast.record().claims.value(Claim::Configuration), ClaimValue::UNAVAILABLE);
    assert_eq!(forecast.record().claims.value(Claim::Executables), ClaimValue::BOOT_APPROVED);
}

#[test]
fn added_and_missing_events_are_told_apart() {
    let reference = reference(&[(whole("1.4.0", 7, "k"), Active)]);
    let added = Boot::of("k").and(4, BSA, "bootkit").forecast(&reference);
    assert_eq!(kinds(&added.record().findings), [FindingKind::UnexpectedEvent]);
    assert_eq!(added.record().findings[0].seen, Some(HashText(hash("bootkit"))));
    assert_eq!(added.record().findings[0].expected.len(), 2);
    let of_unknown_type = Boot::of("k").and(4, 0x40e, "x").forecast(&reference);
    assert_eq!(kinds(&of_unknown_type.record().findings), [FindingKind::UnexpectedEvent]);
    let missing = Boot::of("k").without("boot loader").forecast(&reference);
    assert_eq!(kinds(&missing.record().findings), [FindingKind::MissingEvent]);
    assert_eq!(missing.record().findings[0].name.as_deref(), Some("boot loader"));
}

#[test]
fn the_right_digest_under_another_type_satisfies_nothing() {
    let reference = reference(&[(whole("1.4.0", 7, "k"), Active)]);
    let mut boot = Boot::of("k");
    boot.events[9].1 = IPL;
    let forecast = boot.forecast(&reference);
    assert_eq!(kinds(&forecast.record().findings), [FindingKind::UnexpectedEvent, FindingKind::MissingEvent]);
}

#[test]
fn an_optional_event_may_be_missing_but_not_be_another() {
    let rules = Boot::of("k").values(&[0, 2, 7])
        + &boot_rules("k")
        + &rule(4, "EV_EFI_ACTION", &["Exit Boot Services Invocation"], "optional = true\nname = \"exit\"");
    let reference = reference(&[(manifest("1.4.0", 7, &rules), Active)]);
    assert_eq!(Boot::of("k").forecast(&reference).record().verdict, Verdict::Affirming);
    let with = Boot::of("k").and(4, 0x8000_0007, "Exit Boot Services Invocation");
    assert_eq!(with.forecast(&reference).record().verdict, Verdict::Affirming);
    let other = Boot::of("k").and(4, 0x8000_0007, "Something else").forecast(&reference);
    assert_eq!(kinds(&other.record().findings), [FindingKind::EventDigest]);
    assert_eq!(other.record().findings[0].name.as_deref(), Some("exit"));
}

#[test]
fn a_forbidden_type_is_told_once_and_closes_nothing() {
    let absent = "[[event]]\npcr = 1\ntype = \"EV_IPL\"\nabsent = true\n";
    let rules = Boot::of("k").values(&[0, 2, 7]) + &boot_rules("k") + absent;
    let reference = reference(&[(manifest("1.4.0", 7, &rules), Active)]);
    let clean = Boot::of("k").forecast(&reference);
    assert_eq!(clean.record().verdict, Verdict::Affirming);
    assert!(clean.record().not_appraised.contains(&1), "an absent rule leaves the PCR free");
    let forecast = Boot::of("k").and(1, IPL, "x").forecast(&reference);
    assert_eq!(kinds(&forecast.record().findings), [FindingKind::ForbiddenEvent]);
    assert_eq!(forecast.record().findings[0].claim, Claim::Configuration);
}

#[test]
fn events_that_are_in_no_pcr_satisfy_and_disturb_nothing() {
    let reference = reference(&[(whole("1.4.0", 7, "k"), Active)]);
    let boot = Boot::of("k").and(4, 3, "StartupLocality");
    assert_eq!(boot.forecast(&reference).record().verdict, Verdict::Affirming);
}

#[test]
fn a_constrained_pcr_must_be_explained_and_quoted_in_a_stated_bank() {
    let release = whole("1.4.0", 7, "k");
    let reference_values = reference(&[(release, Active)]);
    let mut unexplained = Boot::of("another kernel");
    unexplained.unexplained = vec![pcr(4), pcr(15)];
    let forecast = unexplained.forecast(&reference_values);
    assert_eq!(kinds(&forecast.record().findings), [FindingKind::Unexplained]);
    assert_eq!(forecast.record().findings[0].pcr, Some(4));
    let other_bank = format!("[pcrs.sha384]\n7 = [\"{}\"]\n", "11".repeat(48)) + &boot_rules("k");
    let forecast = Boot::of("k").forecast(&reference(&[(manifest("1.4.0", 7, &other_bank), Active)]));
    assert_eq!(forecast.record().findings[0].kind, FindingKind::OtherBank);
}

#[test]
fn the_closest_release_is_the_one_with_the_fewest_mismatches() {
    let reference =
        reference(&[(whole("1.3.0", 6, "kernel A"), Active), (whole("1.4.0", 7, "kernel B"), Active)]);
    let boot = Boot::of("kernel A").and(4, SEPARATOR, "FFFF");
    let forecast = boot.forecast(&reference);
    assert_eq!(forecast.record().closest, Some("edge-box@1.3.0".parse().unwrap()));
    assert!(forecast.record().findings.iter().all(|f| f.release == forecast.record().closest));
    let tied = Boot::of("kernel C").forecast(&reference);
    assert_eq!(tied.record().closest, Some("edge-box@1.4.0".parse().unwrap()), "the newer of two equals");
}

#[test]
fn a_flood_of_events_is_counted_and_not_listed() {
    let reference = reference(&[(whole("1.4.0", 7, "k"), Active)]);
    let mut boot = Boot::of("k");
    for n in 0..200 {
        boot = boot.and(4, BSA, &format!("tool {n}"));
    }
    let forecast = boot.forecast(&reference);
    assert_eq!(forecast.record().findings.len(), MAX_FINDINGS);
    assert_eq!(forecast.record().findings_left_out, 200 - MAX_FINDINGS);
    assert_eq!(forecast.judgement().refused.len(), MAX_FINDINGS);
}
