//! Row 27: a part goes on from what was accepted of the same boot, or the whole list is asked for.

use policy::eventlog::ima::state::{Boot, ImaState};
use policy::eventlog::ima::verify::ImaError;
use policy::tpm::alg::HashAlg;

use crate::rig::{BOOT, Device, file, part, pcr, sha256};

fn device() -> (Device, ImaState) {
    let device = Device::of(&[file("/a", "1"), file("/b", "2")]);
    let state = device.verified().state();
    (device, state)
}

#[test]
fn a_part_goes_on_and_the_next_one_from_it() {
    let (mut device, mut state) = device();
    for round in 0..3 {
        let first = device.records.len();
        device.measure(&[file("/c", &round.to_string()), file("/d", &round.to_string())]);
        let verified = device.judge(&device.from(first), Some(&state)).unwrap();
        assert_eq!(verified.first(), u64::try_from(first).unwrap());
        let positions: Vec<u64> = verified.records().map(|record| record.position).collect();
        assert_eq!(positions, [verified.first(), verified.first() + 1]);
        state = verified.state();
    }
    assert_eq!(state.position(), 9);
    assert_eq!(state.values().value(pcr(10)), device.pcrs.value(pcr(10)));
    assert_eq!(state, device.verified().state(), "parts amount to the whole");
}

#[test]
fn a_part_may_be_empty_and_a_part_may_be_longer_than_its_quote() {
    let (mut device, state) = device();
    let nothing = device.judge(&part(3, Vec::new()), Some(&state)).unwrap();
    assert_eq!((nothing.records().count(), nothing.state()), (0, state.clone()));
    device.measure(&[file("/c", "3")]);
    let mut later = device.clone();
    later.measure(&[file("/d", "4")]);
    let verified = device.judge(&later.from(3), Some(&state)).unwrap();
    assert_eq!((verified.records().count(), verified.state().position()), (1, 4));
    let verified = later.judge(&later.from(4), Some(&verified.state())).unwrap();
    assert_eq!(verified.state().position(), 5);
}

#[test]
fn a_part_without_a_beginning_is_refused() {
    let (device, _) = device();
    assert_eq!(device.judge(&device.from(1), None).unwrap_err(), ImaError::NothingAccepted(1));
}

#[test]
fn a_reboot_or_a_wake_up_between_asks_for_the_whole_list() {
    let (mut device, state) = device();
    device.measure(&[file("/c", "3")]);
    for now in [Boot { reset_count: 8, ..BOOT }, Boot { restart_count: 2, ..BOOT }] {
        device.boot = now;
        let error = device.judge(&device.from(3), Some(&state)).unwrap_err();
        assert_eq!(error, ImaError::Rebooted { accepted: BOOT, now });
        assert!(device.judge(&device.from(0), Some(&state)).is_ok());
    }
}

#[test]
fn rewound_and_leaping_parts_ask_for_the_whole_list() {
    let (mut device, state) = device();
    device.measure(&[file("/c", "3"), file("/d", "4")]);
    let refusal = |first| device.judge(&device.from(first), Some(&state)).unwrap_err();
    assert_eq!(refusal(2), ImaError::Rewound { first: 2, accepted: 3 });
    assert_eq!(refusal(4), ImaError::Gap { first: 4, accepted: 3 });
}

#[test]
fn a_part_that_lies_about_its_place_has_no_prefix() {
    let (mut device, state) = device();
    device.measure(&[file("/evil", "3"), file("/d", "4")]);
    let hiding = part(3, device.from(4).bytes.to_vec());
    let error = device.judge(&hiding, Some(&state)).unwrap_err();
    assert!(matches!(error, ImaError::NoPrefix { records: 4, .. }), "{error}");
}

#[test]
fn a_quote_from_before_the_accepted_records_is_refused() {
    let (old, _) = device();
    let mut device = old.clone();
    device.measure(&[file("/c", "3")]);
    let state = device.verified().state();
    let error = old.judge(&part(4, Vec::new()), Some(&state)).unwrap_err();
    assert!(matches!(error, ImaError::NoPrefix { .. }), "{error}");
}

#[test]
fn a_part_of_another_bank_asks_for_the_whole_list() {
    let (_, state) = device();
    let other = Device::in_bank(HashAlg::Sha384, &[file("/a", "1"), file("/b", "2")]);
    let (accepted, quoted) = (HashAlg::Sha256, HashAlg::Sha384);
    let error = other.judge(&other.from(3), Some(&state)).unwrap_err();
    assert_eq!(error, ImaError::OtherBank { accepted, quoted });
}

#[test]
fn a_state_reads_back_as_it_was_stored() {
    let (_, state) = device();
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<ImaState>(&json).unwrap(), state);
    let forged = json.replace("sha256:", "sha1:").replace(&sha256(b"").to_string(), "");
    assert!(serde_json::from_str::<ImaState>(&forged).is_err());
}
