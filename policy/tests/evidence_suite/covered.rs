//! What a digest covers in PCR 7 decides, and what it does not cover decides nothing: any change of the first is a
//! refusal, any change of the second leaves the Secure Boot state as it was.

use policy::evidence::secure_boot::SecureBootState;
use policy::evidence::verify::EvidenceError;
use policy::tpm::alg::HashAlg;
use proptest::prelude::*;

use crate::rig::{AUTHORITY, Scene, Written, boot, encode, event, measured, pcrs_after, variable, write_log};

/// An honest boot with everything that shim adds, its surplus byte too.
fn machine() -> Vec<Written> {
    let padded = [variable("Shim", b"built-in certificate"), vec![0; 5]].concat();
    let shim = measured(7, AUTHORITY, &[&padded[..], &[0xaf]].concat(), &padded);
    let level = event(7, AUTHORITY, &variable("SbatLevel", b"sbat,1,2021030218\n"));
    let list = event(7, AUTHORITY, &variable("MokListTrusted", &[1]));
    [boot(), vec![level, list, shim]].concat()
}

/// Verdict about a device that booted `machine` and sends `log`.
fn verdict(log: Vec<u8>) -> Result<SecureBootState, EvidenceError> {
    let pcrs = pcrs_after(&machine(), HashAlg::Sha256, 0);
    Scene::with(pcrs, log).verify().map(|verified| verified.secure_boot().clone())
}

/// Bytes before the digests of an event, a SHA-1 digest, and the bytes around the digests of both banks.
const FRONT: usize = 12;
const SHA1: std::ops::Range<usize> = FRONT + 2..FRONT + 22;
const DATA: usize = FRONT + 22 + 34 + 4;

/// Offsets of the bytes of PCR 7's events in the log: those that a digest covers or that say where to find them,
/// and those that nothing covers.
fn offsets() -> (Vec<usize>, Vec<usize>) {
    let (mut covered, mut uncovered) = (Vec::new(), Vec::new());
    let mut start = write_log(&[]).len();
    for event in machine() {
        let len = encode(&event).len();
        assert_eq!(len, DATA + event.data.len());
        for at in (0..len).filter(|_| event.pcr == 7) {
            let is_surplus = at == len - 1 && event.data.ends_with(&[0, 0xaf]);
            let open = SHA1.contains(&at) || is_surplus;
            if open { &mut uncovered } else { &mut covered }.push(start + at);
        }
        start += len;
    }
    (covered, uncovered)
}

#[test]
fn the_unchanged_log_is_verified() {
    let state = verdict(write_log(&machine())).unwrap();
    assert!(state.is_enabled());
    assert_eq!(state.authorities().len(), 4);
    let (covered, uncovered) = offsets();
    assert_eq!(uncovered.len(), 10 * SHA1.len() + 1);
    assert!(covered.len() > 1000);
}

proptest! {
    #[test]
    fn a_covered_byte_changed_is_refused(at in any::<prop::sample::Index>(), change in 1_u8..) {
        let (covered, _) = offsets();
        let mut log = write_log(&machine());
        let at = covered[at.index(covered.len())];
        log[at] ^= change;
        prop_assert!(verdict(log).is_err(), "offset {}", at);
    }

    #[test]
    fn an_uncovered_byte_changed_changes_nothing(at in any::<prop::sample::Index>(), change in 1_u8..) {
        let (_, uncovered) = offsets();
        let mut log = write_log(&machine());
        let at = uncovered[at.index(uncovered.len())];
        log[at] ^= change;
        prop_assert_eq!(verdict(log), verdict(write_log(&machine())));
    }

    /// Cut, a byte inserted or taken out, anywhere in the log.
    #[test]
    fn an_edit_is_refused_or_makes_no_difference(at in any::<prop::sample::Index>(), byte: u8, edit in 0..3) {
        let mut log = write_log(&machine());
        let at = at.index(log.len());
        match edit {
            0 => log.truncate(at),
            1 => log.insert(at, byte),
            _ => {
                log.remove(at);
            }
        }
        if let Ok(state) = verdict(log) {
            prop_assert_eq!(Ok(state), verdict(write_log(&machine())));
            prop_assert_ne!(edit, 0, "a cut log was verified");
        }
    }

    /// Two events of PCR 7 in the other order, one told twice, one left out.
    #[test]
    fn events_of_pcr_7_stay_where_they_are(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        edit in 0..3,
    ) {
        let mut events = machine();
        let of_7: Vec<usize> = (0..events.len()).filter(|at| events[*at].pcr == 7).collect();
        let (first, second) = (of_7[first.index(of_7.len())], of_7[second.index(of_7.len())]);
        match edit {
            0 if first == second => return Ok(()),
            0 => events.swap(first, second),
            1 => events.insert(second, events[first].clone()),
            _ => {
                events.remove(first);
            }
        }
        prop_assert!(verdict(write_log(&events)).is_err());
    }
}

/// Every single bit of what is covered, not only those that chance picks.
#[test]
fn every_covered_bit_decides() {
    let log = write_log(&machine());
    for at in offsets().0.into_iter().step_by(7) {
        for bit in 0..8 {
            let mut changed = log.clone();
            changed[at] ^= 1 << bit;
            assert!(verdict(changed).is_err(), "offset {at}, bit {bit}");
        }
    }
}
