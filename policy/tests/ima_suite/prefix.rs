//! Row 26: a list is what the quoted PCRs confirm of it, and belongs to their boot.

use policy::eventlog::ima::aggregate::AggregateError;
use policy::eventlog::ima::verify::ImaError;
use policy::tpm::alg::{HashAlg, HashValue};
use policy::tpm::pcr::PcrValues;

use crate::rig::{
    Device, Written, after, aggregate, booted, d_ng, file, list, list_of, n_ng, pcr, record, violation,
};

fn three() -> Vec<Written> {
    vec![file("/a", "1"), violation("/b"), file("/c", "3")]
}

fn no_prefix(error: ImaError) -> u8 {
    let ImaError::NoPrefix { pcr, .. } = error else { panic!("refused for another reason: {error}") };
    pcr.number()
}

#[test]
fn an_honest_list_is_confirmed_in_every_bank_and_width() {
    for bank in [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512] {
        let device = Device::in_bank(bank, &three());
        for width in HashAlg::ALL {
            let verified = device.verify(list_of(width, &device.records)).unwrap();
            assert_eq!(verified.records().count(), 4);
            assert_eq!(verified.pcrs().collect::<Vec<_>>(), [pcr(10)]);
            assert_eq!(verified.state().position(), 4);
        }
    }
}

#[test]
fn what_was_measured_after_the_quote_is_dropped() {
    let device = Device::of(&three());
    let mut later = device.clone();
    later.measure(&[file("/d", "4"), file("/e", "5").in_pcr(11)]);
    let verified = device.verify(later.list()).unwrap();
    assert_eq!(verified.records().count(), 4);
    assert_eq!(verified.records().last().unwrap().fields.name, Some(&b"/c"[..]));
    assert_eq!(verified.pcrs().collect::<Vec<_>>(), [pcr(10)]);
}

#[test]
fn a_list_that_is_cut_swapped_or_changed_has_no_prefix() {
    let device = Device::of(&three());
    let honest = device.records.clone();
    let mut cut = honest.clone();
    cut.pop();
    let mut swapped = honest.clone();
    swapped.swap(1, 3);
    let mut left_out = honest.clone();
    left_out.remove(1);
    let mut twice = honest.clone();
    twice.insert(2, honest[1].clone());
    let mut other = honest.clone();
    other[3] = file("/c", "another");
    let mut hidden = honest.clone();
    hidden[2].violation = false;
    let mut raced = honest;
    raced[1].violation = true;
    for forged in [cut, swapped, left_out, twice, other, hidden, raced] {
        assert_eq!(no_prefix(device.verify(list(&forged)).unwrap_err()), 10);
    }
}

#[test]
fn a_violation_extends_ones_and_neither_zeros_nor_its_data() {
    let device = Device::of(&[violation("/b")]);
    let start = device.records[0].template_hash(HashAlg::Sha256);
    let aggregated = HashValue::repeated(HashAlg::Sha256, 0).extend(start.as_bytes());
    let mut quoted = device.clone();
    quoted.pcrs.set(pcr(10), aggregated.extend(&[0; 32]));
    assert_eq!(no_prefix(quoted.verify(device.list()).unwrap_err()), 10);
    quoted.pcrs.set(pcr(10), aggregated.extend(&[0xff; 32]));
    assert_eq!(quoted.verify(device.list()).unwrap().records().filter(|r| r.is_violation()).count(), 1);
}

#[test]
fn a_list_of_another_boot_is_refused() {
    let mut device = Device::of(&three());
    device.pcrs.set(pcr(4), HashValue::repeated(HashAlg::Sha256, 0x11));
    let ImaError::Aggregate(AggregateError::Mismatch(found)) = device.verify(device.list()).unwrap_err()
    else {
        panic!("refused for another reason")
    };
    assert_eq!(found.alg(), HashAlg::Sha256);
}

#[test]
fn the_first_record_must_be_a_boot_aggregate() {
    let bank = HashAlg::Sha256;
    let zero = record("ima-ng", &[d_ng(&HashValue::repeated(bank, 0)), n_ng("boot_aggregate")]);
    let raced = Written { violation: true, ..aggregate(&booted(bank)) };
    let verity = [&b"verity:"[..], &aggregate(&booted(bank)).fields[0]].concat();
    let verity = record("ima-ngv2", &[verity, n_ng("boot_aggregate")]);
    let opaque = record("unknown", &[]);
    for (first, reason) in [
        (file("/a", "1"), AggregateError::Missing),
        (raced, AggregateError::Missing),
        (verity, AggregateError::Missing),
        (opaque, AggregateError::Missing),
        (zero, AggregateError::Zero),
    ] {
        let device = Device::with(booted(bank), vec![first, file("/a", "1")]);
        assert_eq!(device.verify(device.list()).unwrap_err(), ImaError::Aggregate(reason));
    }
}

/// A boot aggregate in `alg` over PCRs 0 to `last` of these values.
fn aggregate_of(alg: HashAlg, values: &PcrValues, last: u32) -> Written {
    let values: Vec<&[u8]> = (0..=last).map(|index| values.value(pcr(index)).unwrap().as_bytes()).collect();
    record("ima-ng", &[d_ng(&alg.hash(&values)), n_ng("boot_aggregate")])
}

#[test]
fn old_and_new_kernels_hash_seven_or_nine_pcrs() {
    let mut values = booted(HashAlg::Sha256);
    values.set(pcr(9), HashValue::repeated(HashAlg::Sha256, 9));
    for (last, good) in [(7, true), (9, true), (8, false), (6, false)] {
        let device = Device::with(values.clone(), vec![aggregate_of(HashAlg::Sha256, &values, last)]);
        assert_eq!(device.verify(device.list()).is_ok(), good, "0 to {last}");
    }
}

#[test]
fn an_aggregate_of_another_bank_is_told_apart_from_a_wrong_one() {
    let other = aggregate_of(HashAlg::Sha1, &booted(HashAlg::Sha1), 7);
    let device = Device::with(booted(HashAlg::Sha256), vec![other]);
    let (found, quoted) = (HashAlg::Sha1, HashAlg::Sha256);
    let reason = AggregateError::OtherBank { found, quoted };
    assert_eq!(device.verify(device.list()).unwrap_err(), ImaError::Aggregate(reason));
    // A kernel whose IMA hashes with SHA-1 on a TPM that has no such bank.
    let over_quoted = aggregate_of(HashAlg::Sha1, &booted(HashAlg::Sha256), 9);
    let device = Device::with(booted(HashAlg::Sha256), vec![over_quoted]);
    assert!(device.verify(device.list()).is_ok());
}

#[test]
fn pcr_9_may_go_on_after_the_aggregate() {
    let mut device = Device::of(&three());
    device.firmware.set(pcr(9), *device.pcrs.value(pcr(9)).unwrap());
    device.pcrs.set(pcr(9), HashValue::repeated(HashAlg::Sha256, 0x99));
    assert!(device.verify(device.list()).is_ok());
    device.firmware = PcrValues::new(HashAlg::Sha256);
    let error = device.verify(device.list()).unwrap_err();
    assert!(matches!(error, ImaError::Aggregate(AggregateError::Mismatch(_))), "{error}");
}

#[test]
fn every_pcr_that_the_list_extends_must_agree_at_one_record() {
    let mut device = Device::of(&[file("/a", "1"), file("/b", "2").in_pcr(11), file("/c", "3")]);
    let verified = device.verified();
    assert_eq!(verified.pcrs().collect::<Vec<_>>(), [pcr(10), pcr(11)]);
    device.pcrs.set(pcr(11), HashValue::repeated(HashAlg::Sha256, 0x11));
    assert_eq!(no_prefix(device.verify(device.list()).unwrap_err()), 11);
}

#[test]
fn a_pcr_that_firmware_extended_goes_on_from_there() {
    let mut values = booted(HashAlg::Sha256);
    values.set(pcr(11), HashValue::repeated(HashAlg::Sha256, 0x77));
    let records = vec![aggregate(&values), file("/b", "2").in_pcr(11)];
    let mut device = Device::with(values.clone(), records);
    assert_eq!(no_prefix(device.verify(device.list()).unwrap_err()), 11);
    device.firmware.set(pcr(11), *values.value(pcr(11)).unwrap());
    assert!(device.verify(device.list()).is_ok());
}

#[test]
fn records_of_a_pcr_that_was_extended_are_not_dropped_as_later_ones() {
    let device = Device::of(&[file("/a", "1"), file("/evil", "2").in_pcr(11)]);
    let forged = list(&[device.records[0].clone(), device.records[1].clone(), file("/good", "2").in_pcr(11)]);
    assert_eq!(no_prefix(device.verify(forged).unwrap_err()), 11);
}

#[test]
fn a_record_in_a_pcr_that_is_not_quoted_is_refused() {
    let honest = Device::of(&[]);
    let foreign = list(&[honest.records[0].clone(), file("/a", "1").in_pcr(16)]);
    assert_eq!(honest.verify(foreign).unwrap_err(), ImaError::NotQuoted { position: 1, pcr: pcr(16) });
}

#[test]
fn the_quote_must_end_between_records() {
    // The value after half of a record: the old value extended by something that is no record.
    let mut device = Device::of(&three());
    let half = device.pcrs.value(pcr(10)).unwrap().extend(&[1; 32]);
    device.pcrs.set(pcr(10), half);
    assert_eq!(no_prefix(device.verify(device.list()).unwrap_err()), 10);
    let empty = Device { pcrs: booted(HashAlg::Sha256), ..device };
    assert_eq!(no_prefix(empty.verify(empty.list()).unwrap_err()), 10);
}

#[test]
fn a_second_boot_aggregate_is_a_record_like_any_other() {
    let values = booted(HashAlg::Sha256);
    let mut kexec = values.clone();
    kexec.set(pcr(9), HashValue::repeated(HashAlg::Sha256, 9));
    let device = Device::of(&[file("/a", "1"), aggregate(&kexec)]);
    assert_eq!(device.verified().records().count(), 3);
    assert_eq!(after(values, &device.records), device.pcrs);
}
