//! What devices agree on is learned, what differs or varies is told.

use policy::appraisal::Verdict;
use policy::appraisal::measurements::Measurements;
use policy::evidence::HardwareProof;
use policy::reference::hash_text::HashText;
use policy::reference::learn::{LearnError, LearnNote, Learned, MAX_DEVICES, learn};
use policy::reference::state::ReleaseState::Active;
use proptest::prelude::*;

use crate::boot::{BSA, Boot, IPL, Replayed, hash, pcr, reference};

fn learn_from(boots: &[Boot]) -> Result<Learned, LearnError> {
    let replayed: Vec<Replayed> = boots.iter().map(Boot::replayed).collect();
    let devices: Vec<Measurements<'_>> = replayed.iter().map(Replayed::measurements).collect();
    learn(&devices, "edge-box".parse().unwrap(), "1.4.0".parse().unwrap(), 7)
}

fn notes_of(learned: &Learned, number: u8) -> Vec<&LearnNote> {
    let about = |note: &&LearnNote| {
        let pcr = match note {
            LearnNote::Unstable { pcr }
            | LearnNote::Unexplained { pcr, .. }
            | LearnNote::NotQuoted { pcr, .. }
            | LearnNote::ValuesDiffer { pcr, .. }
            | LearnNote::EventsDiffer { pcr, .. }
            | LearnNote::NoEvents { pcr } => *pcr,
        };
        pcr == number
    };
    learned.notes.iter().filter(about).collect()
}

#[test]
fn a_learned_release_affirms_what_it_was_learned_from_and_nothing_else() {
    let learned = learn_from(&[Boot::of("kernel A")]).unwrap();
    let constrained: Vec<u8> = learned.manifest.constrained().iter().map(|pcr| pcr.number()).collect();
    assert_eq!(constrained, [0, 2, 4, 7, 11]);
    let reference = reference(&[(learned.manifest, Active)]);
    assert_eq!(Boot::of("kernel A").forecast(&reference).record().verdict, Verdict::Affirming);
    let other = Boot::of("kernel B").forecast(&reference);
    assert_eq!(other.record().verdict, Verdict::Contraindicated);
    assert_eq!(other.record().findings[0].name.as_deref(), Some("boot application 2"));
}

#[test]
fn unstable_pcrs_are_never_learned_and_it_is_said() {
    let learned = learn_from(&[Boot::of("k").and(8, IPL, "cmdline").and(15, IPL, "machine")]).unwrap();
    for number in [1, 3, 5, 6, 8, 10, 12, 13, 14, 15] {
        assert_eq!(notes_of(&learned, number), [&LearnNote::Unstable { pcr: number }]);
        assert!(!learned.manifest.mentioned().contains(&pcr(number)));
    }
    assert_eq!(notes_of(&learned, 9), [&LearnNote::NoEvents { pcr: 9 }]);
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
        boots in prop::collection::vec(any_boot(), 1..4),
    ) {
        if let Ok(learned) = learn_from(&boots) {
            let id = learned.manifest.id().clone();
            let reference = reference(&[(learned.manifest, Active)]);
            for boot in &boots {
                let forecast = boot.forecast(&reference);
                prop_assert_eq!(forecast.record().release.as_ref(), Some(&id));
            }
        }
    }
}
