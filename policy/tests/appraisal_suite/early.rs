//! Checklist row 23: an application that a release lists is accepted early only if the release says so.

use policy::appraisal::claims::{Claim, ClaimValue};
use policy::appraisal::finding::FindingKind;
use policy::appraisal::{Forecast, Verdict};
use policy::reference::learn::learn;
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState::Active;

use crate::boot::{BSA, Boot, CALL, IPL, boot_rules, manifest, reference, whole};
use crate::learn::lesson;

/// The boot of the kernel `k` whose boot loader ran before the firmware called it.
fn early() -> Boot {
    let mut boot = Boot::of("k");
    let loader = boot.events.iter().position(|(_, _, data)| data == "boot loader").unwrap();
    let event = boot.events.remove(loader);
    boot.events.insert(0, event);
    boot
}

fn held_against(boot: &Boot, manifest: Manifest) -> Forecast {
    boot.forecast(&reference(&[(manifest, Active)]))
}

fn kinds(forecast: &Forecast) -> Vec<FindingKind> {
    forecast.record().findings.iter().map(|finding| finding.kind).collect()
}

/// Values of PCRs 0, 2 and 7 of `boot`, and these rules.
fn with_rules(boot: &Boot, rules: &str) -> Manifest {
    manifest("1.4.0", 7, &(boot.values(&[0, 2, 7]) + rules))
}

#[test]
fn row_23_a_listed_application_that_ran_early_is_refused() {
    let forecast = held_against(&early(), whole("1.4.0", 7, "k"));
    let record = forecast.record();
    assert_eq!(record.verdict, Verdict::Contraindicated);
    assert_eq!(record.claims.value(Claim::Executables), ClaimValue::UNRECOGNISED);
    assert_eq!(kinds(&forecast), [FindingKind::EarlyApplication]);
    let [finding] = record.findings.as_slice() else { panic!() };
    assert_eq!((finding.pcr, finding.name.as_deref()), (Some(4), Some("boot loader")));
    assert_eq!(finding.event.as_ref().map(|event| event.position), Some(0));
    assert!(finding.sentence.contains("write early = true in a new release"), "{}", finding.sentence);
    assert_eq!(held_against(&Boot::of("k"), whole("1.4.0", 7, "k")).record().verdict, Verdict::Affirming);
}

#[test]
fn row_23_a_release_allows_it_by_rule_or_by_whole_value() {
    let allowed =
        boot_rules("k").replacen("name = \"boot loader\"", "name = \"boot loader\"\nearly = true", 1);
    assert_eq!(held_against(&early(), with_rules(&early(), &allowed)).record().verdict, Verdict::Affirming);
    // Of the kernel it says nothing.
    let kernel_first = Boot::of("k").without("k").and(11, IPL, "k");
    let kernel_first =
        Boot { events: [vec![(4, BSA, "k".to_owned())], kernel_first.events].concat(), ..kernel_first };
    let forecast = held_against(&kernel_first, with_rules(&kernel_first, &allowed));
    assert_eq!(kinds(&forecast), [FindingKind::EarlyApplication]);

    let exact = manifest("1.4.0", 7, &early().values(&[0, 2, 4, 7]));
    assert_eq!(held_against(&early(), exact).record().verdict, Verdict::Affirming);
    let both = manifest("1.4.0", 7, &(early().values(&[0, 2, 4, 7]) + &boot_rules("k")));
    assert_eq!(held_against(&early(), both).record().verdict, Verdict::Affirming);
}

/// Types are written by whoever wrote the log: neither mark nor application is hidden by another one.
#[test]
fn row_23_another_type_hides_neither_the_application_nor_the_call() {
    let place = |boot: &Boot, what: &str| boot.events.iter().position(|event| event.2 == what).unwrap();
    let mut hidden = early();
    let loader = place(&hidden, "boot loader");
    hidden.events[loader].1 = 0x8000_0004;
    let forecast = held_against(&hidden, whole("1.4.0", 7, "k"));
    assert_eq!(kinds(&forecast), [FindingKind::UnexpectedEvent, FindingKind::MissingEvent]);

    let mut moved = early();
    let call = place(&moved, CALL);
    moved.events[call].1 = BSA;
    let rules = boot_rules("k").replacen("EV_EFI_ACTION", "EV_EFI_BOOT_SERVICES_APPLICATION", 1);
    let forecast = held_against(&moved, with_rules(&moved, &rules));
    assert_eq!(kinds(&forecast), [FindingKind::EarlyApplication]);
}

#[test]
fn row_23_where_no_call_is_told_the_separator_is_the_line() {
    let separator = "\0\0\0\0";
    let rules = |kernel: &str| {
        let call = boot_rules(kernel);
        let rest = call.split_once("\n\n").unwrap().1.to_owned();
        rest.replace(&crate::boot::hash("0").to_string(), &crate::boot::hash(separator).to_string())
    };
    let silent = |boot: Boot| boot.without(CALL).with("0", separator);
    let honest = silent(Boot::of("k"));
    assert_eq!(held_against(&honest, with_rules(&honest, &rules("k"))).record().verdict, Verdict::Affirming);
    let forecast = held_against(&silent(early()), with_rules(&honest, &rules("k")));
    assert_eq!(kinds(&forecast), [FindingKind::EarlyApplication]);
    // Neither mark: every application is early.
    let unmarked = Boot::of("k").without(CALL);
    let call = boot_rules("k");
    let forecast = held_against(&unmarked, with_rules(&unmarked, call.split_once("\n\n").unwrap().1));
    assert_eq!(kinds(&forecast), [FindingKind::EarlyApplication, FindingKind::EarlyApplication]);
}

#[test]
fn row_23_what_was_early_is_learned_as_early() {
    let replayed = early().replayed();
    let learned = learn(&[replayed.measurements().into()], lesson(false)).unwrap();
    let text = learned.manifest.render();
    assert_eq!(text.matches("early = true").count(), 1, "{text}");
    assert_eq!(held_against(&early(), learned.manifest).record().verdict, Verdict::Affirming);
    let strict = Manifest::parse(&text.replace("early = true\n", "")).unwrap();
    assert_eq!(kinds(&held_against(&early(), strict)), [FindingKind::EarlyApplication]);
}
