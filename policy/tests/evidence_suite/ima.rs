//! Evidence with an IMA list, from the quote to the appraisal, and on with a part of it.

use policy::appraisal::measurements::Origin;
use policy::appraisal::policy::Mode;
use policy::appraisal::{AttestationResult, Verdict, appraise};
use policy::eventlog::ima::state::ImaState;
use policy::eventlog::ima::verify::{ImaError, ImaPart};
use policy::evidence::recorded::{RecordedEvidence, StoredLogs};
use policy::evidence::verify::{Challenged, EvidenceError, VerifiedEvidence, verify};
use policy::evidence::{Evidence, HardwareProof};
use policy::reference::ReferenceValues;
use policy::reference::state::ReleaseState::Active;
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::PcrSelection;

use crate::boot::{NOW, manifest, policy_of, reference};
use crate::ima_rig::{Device, Written, aggregate, file, list, part, sha256};
use crate::rig::{BANKS, QUALIFYING_DATA, Scene, boot, event, pcr, pcrs_after, write_log};

/// A device that booted and measured these files.
fn device(measured: &[Written]) -> Device {
    let booted = pcrs_after(&boot(), HashAlg::Sha256, 0);
    let records = [&[aggregate(&booted)], measured].concat();
    Device::with(booted, records)
}

fn send(
    device: &Device,
    ima: Option<ImaPart>,
    accepted: Option<&ImaState>,
) -> Result<VerifiedEvidence, EvidenceError> {
    let scene = Scene::with(device.pcrs.clone(), write_log(&boot()));
    let challenged = Challenged {
        ak: &scene.key.ak(),
        qualifying_data: QUALIFYING_DATA,
        selection: PcrSelection::quoted(HashAlg::Sha256),
        hardware: HardwareProof::Endorsed,
        ima: accepted,
    };
    verify(&Evidence { ima, ..scene.evidence() }, &challenged)
}

/// The release of this boot that approves the files a and b.
fn approving(device: &Device) -> ReferenceValues {
    let value = |index: u32| format!("{index} = [\"{}\"]\n", device.pcrs.value(pcr(index)).unwrap());
    let values: String = [0, 2, 4, 7].map(value).concat();
    let rule = |path: &str| {
        format!("[[ima.file]]\npath = \"{path}\"\ndigest = [\"sha256:{}\"]\n", sha256(path.as_bytes()))
    };
    let rules = format!("[pcrs.sha256]\n{values}[ima]\n{}{}", rule("/a"), rule("/b"));
    reference(&[(manifest("1.4.0", 7, &rules), Active)])
}

fn judge(evidence: &VerifiedEvidence, reference: &ReferenceValues) -> AttestationResult {
    appraise(evidence, reference, &policy_of(&["edge-box"], Mode::Enforce), NOW)
}

#[test]
fn a_confirmed_list_explains_pcr_10() {
    let device = device(&[file("/a", "/a")]);
    let without = send(&device, None, None).unwrap();
    assert_eq!(without.unexplained(), [pcr(10)]);
    assert!(without.ima().is_none());
    let with = send(&device, Some(device.from(0)), None).unwrap();
    assert_eq!(with.unexplained(), []);
    assert_eq!(with.ima().unwrap().records().count(), 2);
}

#[test]
fn a_foreign_list_is_refused() {
    let other = device(&[file("/b", "/b")]);
    let error = send(&device(&[file("/a", "/a")]), Some(other.from(0)), None).unwrap_err();
    assert!(matches!(error, EvidenceError::Ima(ImaError::NoPrefix { .. })), "{error:?}");
}

#[test]
fn a_list_in_another_pcr_does_not_pass_for_the_one_in_pcr_10() {
    let mut device = device(&[file("/evil", "x")]);
    let forged = device.records[0].clone().in_pcr(14);
    device.measure(std::slice::from_ref(&forged));
    let error = send(&device, Some(part(0, list(&[forged]))), None).unwrap_err();
    assert_eq!(error, EvidenceError::Ima(ImaError::OtherPcr(pcr(14))));
}

#[test]
fn what_a_firmware_log_tells_of_pcr_10_moves_no_lists_beginning() {
    let mut device = device(&[file("/evil", "x")]);
    let mut told = boot();
    for record in &device.records {
        let mut event = event(10, 0x0d, b"hidden");
        let digest = |bank: HashAlg| (bank, record.template_hash(bank).as_bytes().to_vec());
        event.digests = BANKS.into_iter().map(digest).collect();
        told.push(event);
    }
    let first = device.records[0].clone();
    device.measure(std::slice::from_ref(&first));
    let scene = Scene::with(device.pcrs.clone(), write_log(&told));
    let ima = Some(part(0, list(&[first])));
    let error = scene.judge(&Evidence { ima, ..scene.evidence() }).unwrap_err();
    let EvidenceError::Ima(ImaError::NoPrefix { pcr: refused, .. }) = error else { panic!("{error:?}") };
    assert_eq!(refused, pcr(10));
}

#[test]
fn a_list_explains_no_other_pcr_than_10() {
    let device = device(&[file("/a", "/a").in_pcr(13)]);
    let with = send(&device, Some(device.from(0)), None).unwrap();
    assert_eq!(with.unexplained(), [pcr(13)]);
}

#[test]
fn files_in_a_pcr_of_the_firmware_leave_it_unexplained() {
    let device = device(&[file("/a", "/a").in_pcr(11)]);
    let without = send(&device, None, None).unwrap();
    assert_eq!((without.unexplained(), without.events(pcr(11)).len()), (&[pcr(10), pcr(11)][..], 0));
    let with = send(&device, Some(device.from(0)), None).unwrap();
    assert_eq!((with.unexplained(), with.events(pcr(11)).len()), (&[pcr(11)][..], 0));
}

#[test]
fn a_clean_list_goes_on_in_parts_and_stays_approved() {
    let mut device = device(&[file("/a", "/a")]);
    let reference = approving(&device);
    let whole = judge(&send(&device, Some(device.from(0)), None).unwrap(), &reference);
    assert_eq!(whole.record().verdict, Verdict::Affirming, "{:?}", whole.record());
    let state = whole.ima().unwrap();
    assert_eq!((state.position(), state.approved().len()), (2, 1));

    device.measure(&[file("/b", "/b")]);
    let next = judge(&send(&device, Some(device.from(2)), Some(state)).unwrap(), &reference);
    assert_eq!(next.record().verdict, Verdict::Affirming, "{:?}", next.record());

    device.measure(&[file("/evil", "x")]);
    let bad = judge(&send(&device, Some(device.from(3)), next.ima()).unwrap(), &reference);
    assert_eq!(bad.record().verdict, Verdict::Contraindicated);
    assert_eq!(bad.ima().unwrap().approved().len(), 0);

    // What was bad stays bad, though nothing new is.
    let after = judge(&send(&device, Some(part(4, Vec::new())), bad.ima()).unwrap(), &reference);
    assert_eq!(after.record().verdict, Verdict::Contraindicated);
}

#[test]
fn a_state_is_good_for_the_position_it_was_made_at() {
    let mut device = device(&[file("/a", "/a")]);
    let first = judge(&send(&device, Some(device.from(0)), None).unwrap(), &approving(&device));
    let none = judge(&send(&device, Some(device.from(0)), None).unwrap(), &ReferenceValues::new());
    let (first, none) = (first.ima().unwrap(), none.ima().unwrap());
    assert_eq!((none.approved().len(), none.merge(first).unwrap()), (0, first.clone()));
    device.measure(&[file("/b", "/b")]);
    let later = send(&device, Some(device.from(2)), Some(first)).unwrap();
    assert_eq!(first.merge(&later.ima().unwrap().state()), None);
}

#[test]
fn a_recorded_list_replays_whole_only() {
    let device = device(&[file("/a", "/a")]);
    let replay = |ima: &ImaPart| {
        let log = write_log(&boot());
        RecordedEvidence::replay_all(
            device.pcrs.clone(),
            &log,
            &StoredLogs { ima: Some(ima), ..StoredLogs::default() },
            Origin::Device(HardwareProof::Endorsed),
        )
    };
    let recorded = replay(&device.from(0)).unwrap();
    assert_eq!(recorded.measurements().ima().unwrap().records().count(), 2);
    let error = replay(&device.from(1)).unwrap_err();
    assert_eq!(error, EvidenceError::Ima(ImaError::NothingAccepted(1)));
}
