//! What devices agree on is learned, what differs or varies is told.

use policy::appraisal::Verdict;
use policy::evidence::HardwareProof;
use policy::evidence::endorsement::Weight;
use policy::evidence::flaw::Flaw;
use policy::reference::hash_text::HashText;
use policy::reference::learn::{
    LearnError, LearnNote, LearnWarning, Learned, Lesson, MAX_DEVICES, ReferenceDevice, learn,
};
use policy::reference::learn_words::{describe, describe_warnings};
use policy::reference::manifest::Manifest;
use policy::reference::state::ReleaseState::Active;
use proptest::prelude::*;

use crate::boot::{BSA, Boot, IPL, Replayed, hash, pcr, reference};

pub(crate) fn lesson(one_of: bool) -> Lesson {
    Lesson { id: "edge-box@1.4.0".parse().unwrap(), counter: 7, one_of }
}

fn learn_from(boots: &[Boot]) -> Result<Learned, LearnError> {
    taught(boots, false)
}

/// Learns, and accepts each of the few ways in which the boots differ if `one_of`.
fn taught(boots: &[Boot], one_of: bool) -> Result<Learned, LearnError> {
    let replayed: Vec<Replayed> = boots.iter().map(Boot::replayed).collect();
    let devices: Vec<ReferenceDevice<'_>> =
        replayed.iter().map(|boot| ReferenceDevice::from(boot.measurements())).collect();
    learn(&devices, lesson(one_of))
}

fn notes_of(learned: &Learned, number: u8) -> Vec<&LearnNote> {
    let about = |note: &&LearnNote| match note {
        LearnNote::Unstable { pcr }
        | LearnNote::Unexplained { pcr, .. }
        | LearnNote::NotQuoted { pcr, .. }
        | LearnNote::BootsDiffer { pcr, .. }
        | LearnNote::ValuesDiffer { pcr, .. }
        | LearnNote::EventsDiffer { pcr, .. }
        | LearnNote::OneOfValues { pcr, .. }
        | LearnNote::TooMany { pcr, .. }
        | LearnNote::NoEvents { pcr }
        | LearnNote::Image { pcr, .. } => *pcr == number,
        LearnNote::OneOfBoots { pcrs, .. } => pcrs.contains(&number),
    };
    learned.notes.iter().filter(about).collect()
}

#[test]
fn a_learned_release_affirms_what_it_was_learned_from_and_nothing_else() {
    let learned = learn_from(&[Boot::of("kernel A")]).unwrap();
    let constrained: Vec<u8> = learned.manifest.constrained().iter().map(|pcr| pcr.number()).collect();
    assert_eq!(constrained, [0, 2, 4, 7, 11, 12, 13]);
    let reference = reference(&[(learned.manifest, Active)]);
    assert_eq!(Boot::of("kernel A").forecast(&reference).record().verdict, Verdict::Affirming);
    let other = Boot::of("kernel B").forecast(&reference);
    assert_eq!(other.record().verdict, Verdict::Contraindicated);
    assert_eq!(other.record().findings[0].name.as_deref(), Some("boot application 2"));
}

#[test]
fn unstable_pcrs_are_never_learned_and_it_is_said() {
    let learned = learn_from(&[Boot::of("k").and(8, IPL, "cmdline").and(15, IPL, "machine")]).unwrap();
    for number in [1, 3, 5, 6, 8, 10, 14, 15] {
        assert_eq!(notes_of(&learned, number), [&LearnNote::Unstable { pcr: number }]);
        assert!(!learned.manifest.mentioned().contains(&pcr(number)));
    }
    assert_eq!(notes_of(&learned, 9), [&LearnNote::NoEvents { pcr: 9 }]);
}

#[test]
fn what_no_device_was_given_beside_its_image_is_refused_later() {
    let boot = Boot::of("k");
    let learned = learn_from(&[boot.clone(), boot.clone()]).unwrap();
    let reference = reference(&[(learned.manifest, Active)]);
    for (number, data) in [(12, "init=/bin/sh"), (13, "an extension")] {
        let forecast = boot.clone().and(number, IPL, data).forecast(&reference);
        assert_eq!(forecast.record().verdict, Verdict::Contraindicated, "{data}");
        assert_eq!(forecast.record().findings[0].pcr, Some(number), "{data}");
    }
    assert_eq!(boot.forecast(&reference).record().verdict, Verdict::Affirming);
}

#[test]
fn what_one_device_or_boot_was_given_beside_its_image_is_not_learned() {
    let (plain, given) = (Boot::of("k"), Boot::of("k").and(12, IPL, "a credential"));
    let mut dark = Boot::of("k");
    dark.unexplained = vec![pcr(12)];
    for other in [given.clone(), dark] {
        let learned = learn_from(&[plain.clone(), other]).unwrap();
        assert_eq!(notes_of(&learned, 12), [&LearnNote::Unstable { pcr: 12 }]);
        assert!(!learned.manifest.mentioned().contains(&pcr(12)));
    }
    let [last, earlier] = [&plain, &given].map(Boot::replayed);
    let device = ReferenceDevice { earlier: vec![earlier.measurements()], ..last.measurements().into() };
    let learned = learn(&[device], lesson(false)).unwrap();
    assert!(!learned.manifest.mentioned().contains(&pcr(12)));
}

#[test]
fn a_pcr_without_explanation_is_never_learned() {
    let mut second = Boot::of("k");
    second.unexplained = vec![pcr(0), pcr(4), pcr(11)];
    let learned = learn_from(&[Boot::of("k"), second]).unwrap();
    for number in [0, 4, 11] {
        assert_eq!(notes_of(&learned, number), [&LearnNote::Unexplained { pcr: number, device: 2 }]);
        assert!(!learned.manifest.mentioned().contains(&pcr(number)));
    }
}

#[test]
fn what_differs_between_devices_is_told_and_left_out() {
    let first = Boot::of("k");
    let second = Boot::of("k").with("SecureBoot=1", "SecureBoot=0").and(4, BSA, "shell");
    let learned = learn_from(&[first.clone(), second.clone()]).unwrap();
    let values = [&first, &second].map(|boot| HashText(*boot.replayed().pcrs.value(pcr(7)).unwrap()));
    assert_eq!(notes_of(&learned, 7), [&LearnNote::ValuesDiffer { pcr: 7, values: values.into() }]);
    let [LearnNote::EventsDiffer { events, .. }] = notes_of(&learned, 4)[..] else { panic!() };
    assert_eq!((events[0].digest, events[0].devices.as_slice()), (HashText(hash("shell")), &[2_usize][..]));
    let reference = reference(&[(learned.manifest, Active)]);
    assert_eq!(first.forecast(&reference).record().verdict, Verdict::Warning);
    assert_eq!(second.forecast(&reference).record().verdict, Verdict::Warning);
}

#[test]
fn devices_that_prove_nothing_teach_nothing() {
    assert_eq!(learn_from(&[]).unwrap_err(), LearnError::NoDevice);
    let mut unproven = Boot::of("k");
    unproven.hardware = HardwareProof::Unproven;
    assert_eq!(learn_from(&[Boot::of("k"), unproven]).unwrap_err(), LearnError::Unproven(2));
    let mut dark = Boot::of("k");
    dark.unexplained = (0..16).map(pcr).collect();
    assert!(matches!(learn_from(&[dark]), Err(LearnError::NothingAgreed(_))));
    let many = vec![Boot::of("k"); MAX_DEVICES + 1];
    assert_eq!(learn_from(&many).unwrap_err(), LearnError::TooManyDevices(MAX_DEVICES + 1));
}

fn release_of(boot: &Boot, manifest: &Manifest) -> Option<String> {
    let forecast = boot.forecast(&reference(&[(manifest.clone(), Active)]));
    forecast.record().release.as_ref().map(ToString::to_string)
}

#[test]
fn one_differing_event_is_one_of_several_if_that_is_asked_for() {
    let (first, second) = (Boot::of("kernel A").without(".linux"), Boot::of("kernel B").without(".linux"));
    // What is loaded is measured twice: into PCR 4 and into PCR 11. Here only PCR 4 differs.
    let [first, second] = [first, second].map(|boot| {
        let events = boot.events.iter().filter(|(pcr, ..)| *pcr != 11).cloned().collect();
        Boot { events, ..boot }
    });
    let learned = taught(&[first.clone(), second.clone()], true).unwrap();
    let [LearnNote::OneOfBoots { pcrs, devices }] = notes_of(&learned, 4)[..] else { panic!() };
    assert_eq!((pcrs.as_slice(), devices.as_slice()), (&[4][..], &[vec![1], vec![2]][..]));
    assert!(learned.manifest.events().iter().all(|rule| rule.variant.is_none()));
    let reference = reference(&[(learned.manifest, Active)]);
    for boot in [first.clone(), second] {
        assert_eq!(boot.forecast(&reference).record().verdict, Verdict::Affirming);
    }
    let other = first.with("kernel A", "kernel C").forecast(&reference);
    assert_eq!(other.record().findings[0].name.as_deref(), Some("boot application 2"));
    assert_eq!(other.record().findings[0].expected.len(), 2);
}

#[test]
fn what_was_seen_together_is_accepted_together_only() {
    let (first, second) = (Boot::of("kernel A"), Boot::of("kernel B"));
    let learned = taught(&[first.clone(), second.clone(), first.clone()], true).unwrap();
    let constrained: Vec<u8> = learned.manifest.constrained().iter().map(|pcr| pcr.number()).collect();
    assert_eq!(constrained, [0, 2, 4, 7, 11, 12, 13]);
    assert_eq!(learned.manifest.variants(), [Some("boot 1"), Some("boot 2")]);
    assert!(release_of(&first, &learned.manifest).is_some());
    assert!(release_of(&second, &learned.manifest).is_some());
    // The kernel that firmware started is that of one device, the one that the stub took that of the other.
    let mut mixed = first;
    mixed.events[11].2 = "kernel B".to_owned();
    assert_eq!(release_of(&mixed, &learned.manifest), None);
    let names = ["press-7", "press-8", "press-9"].map(str::to_owned);
    let told = describe(&learned, &names).join("\n");
    assert!(told.contains("boot 1 is that of press-7, press-9; boot 2 is that of press-8"), "{told}");
}

#[test]
fn more_ways_than_a_person_reviews_are_left_out() {
    let boots: Vec<Boot> = ["a", "b", "c", "d", "e"].map(Boot::of).into();
    let learned = taught(&boots, true).unwrap();
    assert_eq!(notes_of(&learned, 4), [&LearnNote::TooMany { pcr: 4, found: 5 }]);
    assert!(!learned.manifest.mentioned().contains(&pcr(4)));
}

#[test]
fn differing_values_are_each_accepted_if_that_is_asked_for() {
    let (first, second) = (Boot::of("k"), Boot::of("k").with("SecureBoot=1", "SecureBoot=0"));
    let learned = taught(&[first.clone(), second.clone()], true).unwrap();
    assert!(matches!(notes_of(&learned, 7)[..], [LearnNote::OneOfValues { pcr: 7, .. }]));
    let reference = reference(&[(learned.manifest, Active)]);
    for boot in [first, second] {
        assert_eq!(boot.forecast(&reference).record().verdict, Verdict::Affirming);
    }
}

#[test]
fn what_differs_between_boots_of_one_device_is_refused_by_name() {
    let (last, earlier) = (Boot::of("k").and(9, IPL, "grubenv 2"), Boot::of("k").and(9, IPL, "grubenv 1"));
    let (last, earlier) = (last.replayed(), earlier.replayed());
    let device = ReferenceDevice {
        last: last.measurements(),
        earlier: vec![last.measurements(), earlier.measurements()],
        verdict: None,
    };
    // Asking for one of several does not make it stable.
    for one_of in [false, true] {
        let learned = learn(&[device.clone(), last.measurements().into()], lesson(one_of)).unwrap();
        assert!(!learned.manifest.mentioned().contains(&pcr(9)));
        let [LearnNote::BootsDiffer { device: 1, events, .. }] = notes_of(&learned, 9)[..] else { panic!() };
        let told: Vec<(HashText, bool)> = events.iter().map(|event| (event.digest, event.last)).collect();
        assert_eq!(told, [(HashText(hash("grubenv 2")), true), (HashText(hash("grubenv 1")), false)]);
        let words = describe(&learned, &["press-7".to_owned()]).join("\n");
        assert!(
            words.contains("PCR 9 is left out, it is not stable: two boots of press-7 differ"),
            "{words}"
        );
        assert!(
            words.contains(&format!("EV_IPL {} only in the last one", HashText(hash("grubenv 2")))),
            "{words}"
        );
    }
}

#[test]
fn a_workbench_is_warned_of() {
    let flaw = Flaw { id: "tpm_deny".to_owned(), weight: Weight::Vulnerable, sentence: "old".to_owned() };
    let mut boot = Boot::of("k").and(8, IPL, "kernel_cmdline: ro quiet systemd.debug_shell init=/bin/sh");
    boot.flaws = vec![flaw];
    let (boot, fine) = (boot.replayed(), Boot::of("k").replayed());
    let last = boot.measurements();
    let bench = ReferenceDevice { last, earlier: Vec::new(), verdict: Some(Verdict::Unappraised) };
    let good = ReferenceDevice { verdict: Some(Verdict::Affirming), ..fine.measurements().into() };
    let learned = learn(&[good, bench], lesson(false)).unwrap();
    let option = |option: &str| (2, LearnWarning::DebugOption { pcr: 8, option: option.to_owned() });
    assert_eq!(
        learned.warnings,
        [
            option("systemd.debug_shell"),
            option("init=/bin/sh"),
            (2, LearnWarning::Tpm { sentence: "tpm_deny: old".to_owned() }),
            (2, LearnWarning::NotAffirming { verdict: Verdict::Unappraised }),
        ]
    );
    let words = describe_warnings(&learned, &["press-7".to_owned(), "press-8".to_owned()]);
    assert_eq!(words[3], "press-8 is itself not affirming: its last appraisal is unappraised");
}

fn any_boot() -> impl Strategy<Value = Boot> {
    let event = (0_u8..16, prop_oneof![Just(BSA), Just(IPL), Just(3_u32), Just(4)], "[a-c]");
    (prop::collection::vec(event, 0..12), prop::collection::vec(0_u8..16, 0..3)).prop_map(
        |(events, unexplained)| {
            let mut boot = Boot::of("k");
            for (number, event_type, data) in events {
                boot = boot.and(number, event_type, &data);
            }
            boot.unexplained = unexplained.into_iter().map(pcr).collect();
            boot
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was learned, the devices it was learned from do not mismatch it.
    #[test]
    fn a_learned_release_matches_every_device_it_was_learned_from(
        boots in prop::collection::vec(any_boot(), 1..4), one_of: bool,
    ) {
        if let Ok(learned) = taught(&boots, one_of) {
            let id = learned.manifest.id().clone();
            let reference = reference(&[(learned.manifest, Active)]);
            for boot in &boots {
                let forecast = boot.forecast(&reference);
                prop_assert_eq!(forecast.record().release.as_ref(), Some(&id));
            }
        }
    }
}
