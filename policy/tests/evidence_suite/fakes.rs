//! The event-log disclosure attack: real events hidden under other types, a harmless set told beside them
//! (checklist rows 17 and 19).

use policy::eventlog::replay::ReplayError;
use policy::evidence::verify::{EvidenceError, GrammarError};
use policy::tpm::alg::HashAlg;

use crate::rig::{DRIVER_CONFIG, Scene, Written, boot, event, pcr, pcrs_after, variable, write_log};

const UNUSED: u32 = 2;
const NO_ACTION: u32 = 3;

/// A boot with Secure Boot off.
fn real() -> Vec<Written> {
    let mut events = boot();
    let at = events.iter().position(|event| event.kind == DRIVER_CONFIG).unwrap();
    events[at] = event(7, DRIVER_CONFIG, &variable("SecureBoot", &[0]));
    events
}

/// The variables of an honest boot, changed.
fn fakes(change: impl Fn(Written) -> Written) -> Vec<Written> {
    boot().into_iter().filter(|event| event.kind == DRIVER_CONFIG).map(change).collect()
}

/// What a device is told that booted with Secure Boot off, hides its variables under `kind` and appends `fakes`.
fn refusal(kind: u32, fakes: Vec<Written>) -> EvidenceError {
    let mut told = real();
    told.iter_mut().filter(|event| event.kind == DRIVER_CONFIG).for_each(|event| event.kind = kind);
    told.extend(fakes);
    Scene::with(pcrs_after(&real(), HashAlg::Sha256, 0), write_log(&told)).verify().unwrap_err()
}

fn is_mismatch(error: &EvidenceError) -> bool {
    matches!(error, EvidenceError::LogMismatch { pcr: found, .. } if *found == pcr(7))
}

#[test]
fn row_19_a_fake_set_beside_the_hidden_one_is_refused() {
    let hidden = real().iter().position(|event| event.kind == DRIVER_CONFIG).unwrap() + 1;
    let unexpected = |error: EvidenceError| match error {
        EvidenceError::Grammar(GrammarError::UnexpectedType { position, pcr: found, event_type }) => {
            assert_eq!((position, found, event_type.0), (hidden, pcr(7), UNUSED));
        }
        other => panic!("refused for another reason: {other:?}"),
    };
    // The fakes extend nothing, so the log replays: the hidden ones are no events of PCR 7.
    unexpected(refusal(UNUSED, fakes(|fake| Written { kind: NO_ACTION, ..fake })));
    unexpected(refusal(UNUSED, fakes(|fake| Written { pcr: 16, ..fake })));
    unexpected(refusal(UNUSED, Vec::new()));
    // The fakes extend: the log does not replay.
    let error = refusal(UNUSED, fakes(|fake| fake));
    assert!(is_mismatch(&error), "{error:?}");
    // The hidden ones extend nothing either.
    let error = refusal(NO_ACTION, fakes(|fake| fake));
    assert!(is_mismatch(&error), "{error:?}");
}

#[test]
fn row_17_a_fake_set_without_digests_of_the_quoted_bank_is_refused() {
    let without_sha256 = |mut fake: Written| {
        fake.digests.retain(|(bank, _)| *bank != HashAlg::Sha256);
        fake
    };
    let position = real().len() + 1;
    let missing = ReplayError::NoDigest { position, pcr: pcr(7), bank: HashAlg::Sha256 };
    assert_eq!(refusal(UNUSED, fakes(without_sha256)), EvidenceError::Replay(missing));
}

/// Windows logs some events of PCRs 11 to 14 in one bank only; no PCR is an exception.
#[test]
fn row_17_every_event_carries_the_quoted_bank() {
    let honest = [boot(), vec![event(13, 6, b"os")]].concat();
    for at in 0..honest.len() {
        let mut told = honest.clone();
        told[at].digests.retain(|(bank, _)| *bank != HashAlg::Sha256);
        let scene = Scene::with(pcrs_after(&honest, HashAlg::Sha256, 0), write_log(&told));
        let (position, bank) = (at + 1, HashAlg::Sha256);
        let missing = ReplayError::NoDigest { position, pcr: pcr(honest[at].pcr), bank };
        assert_eq!(scene.verify().unwrap_err(), EvidenceError::Replay(missing));
    }
}
