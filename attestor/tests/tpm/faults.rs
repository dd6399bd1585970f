//! A TPM that fails in the midst of its work: each fault has its name and its remedy, and ends when its cause does.

use std::time::Duration;

use attestor::tpm::{Operation, PcrBank, PcrSelection, Tpm, TpmFault, TpmHandle};
use tokio::time::{sleep, timeout};

use crate::support::Device;

#[test]
fn a_tpm_that_is_reset_between_two_commands_is_named_and_used_again_when_it_was_started() {
    let Some(device) = Device::make(&["swtpm_ioctl", "tpm2_startup"]) else { return };
    let mut tpm = device.esapi();
    let key = tpm.create_identity_key().unwrap();
    let attestation_key = tpm.attestation_key().unwrap();
    // The connection stays open: the next verb is one of the same batch.
    device.swtpm.reset().unwrap();
    for _ in 0..2 {
        let refusal = tpm.quote(&[1; 32], PcrBank::Sha256, PcrSelection::QUOTED).unwrap_err();
        assert!(matches!(refusal.fault, TpmFault::Reset { code: 0x100 }), "{refusal}");
        assert!(refusal.to_string().contains("tries again by itself"), "{refusal}");
    }
    tpm.release();
    device.tool("tpm2_startup", &["-c"]);
    assert_eq!(tpm.attestation_key().unwrap(), attestation_key);
    tpm.sign_digest(&key, &[1; 32]).unwrap();
    tpm.release();
    device.assert_clean("a reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_that_stops_answering_does_not_hold_its_callers_and_goes_on_where_it_was() {
    let Some(device) = Device::make(&[]) else { return };
    let tpm = device.handle();
    let key = tpm.create_identity_key().await.unwrap();
    until_idle(&tpm).await;
    device.swtpm.pause().unwrap();
    let hasty = tpm.with_deadline(Duration::from_secs(2));
    let refusal = hasty.sign_digest(key.clone(), [1; 32]).await.unwrap_err();
    let occupied = Operation::SignDigest;
    assert!(
        matches!(refusal.fault, TpmFault::Deadline { occupied: Some((command, _)), .. } if command == occupied),
        "{refusal}"
    );
    // Whoever comes later is told what is in the way, and is not begun.
    let refusal = hasty.attestation_key().await.unwrap_err().to_string();
    assert!(refusal.contains("the TPM has been asked to sign with an identity key"), "{refusal}");
    device.swtpm.resume().unwrap();
    tpm.sign_digest(key, [1; 32]).await.unwrap();
    until_idle(&tpm).await;
    device.assert_clean("a pause");
}

/// An answer comes before the connection of its batch is closed, which occupies the TPM a little longer.
async fn until_idle(tpm: &TpmHandle) {
    let idle = async {
        while tpm.occupation().is_some() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = timeout(Duration::from_secs(20), idle).await.is_ok();
    assert!(in_time, "the TPM is still occupied");
}

#[test]
fn a_tpm_that_vanishes_is_named_and_used_again_when_it_is_back() {
    let Some(mut device) = Device::make(&[]) else { return };
    let mut tpm = device.esapi();
    let key = tpm.create_identity_key().unwrap();
    // Not released: it vanishes in the midst of a batch.
    device.swtpm.switch_off().unwrap();
    let refusal = tpm.sign_digest(&key, &[1; 32]).unwrap_err();
    assert!(matches!(refusal.fault, TpmFault::ConnectionLost { .. }), "{refusal}");
    let refusal = tpm.sign_digest(&key, &[1; 32]).unwrap_err();
    assert!(matches!(refusal.fault, TpmFault::SwtpmUnreachable { .. }), "{refusal}");
    device.swtpm.switch_on().unwrap();
    tpm.sign_digest(&key, &[1; 32]).unwrap();
}
