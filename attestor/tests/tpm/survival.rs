//! What the keys survive: restarts, TPM2_Clear, cut power, and other users of the TPM.

use std::{
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::support::{Device, SECRET, attested, make_credential, name_of};
use attestor::testing::command;
use attestor::tpm::{Operation, PcrBank, PcrSelection, Tpm, TpmAddress, TpmError, TpmFault, TpmHandle};

#[test]
fn the_attestation_key_survives_restart_and_clear_the_identity_key_only_restart() {
    let Some(mut device) = Device::make(&[]) else { return };
    let mut tpm = device.esapi();
    let attestation_key = tpm.attestation_key().unwrap();
    let endorsement = tpm.endorsement().unwrap();
    let identity_key = tpm.create_identity_key().unwrap();
    tpm.release();

    device.swtpm.cut_power().unwrap();
    assert_eq!(tpm.attestation_key().unwrap(), attestation_key);
    tpm.sign_digest(&identity_key, &[1; 32]).unwrap();
    tpm.release();

    device.tool("tpm2_clear", &["-Q"]);
    assert_eq!(tpm.attestation_key().unwrap(), attestation_key);
    assert_eq!(tpm.endorsement().unwrap(), endorsement);
    let refusal = tpm.sign_digest(&identity_key, &[1; 32]).unwrap_err();
    assert!(matches!(refusal.fault, TpmFault::KeyOfAnotherTpm), "{refusal}");
    assert!(refusal.to_string().contains("must be made anew"), "{refusal}");
    device.assert_clean("a refused sign_digest");

    let identity_key = tpm.create_identity_key().unwrap();
    tpm.sign_digest(&identity_key, &[1; 32]).unwrap();
}

#[test]
fn ten_power_cuts_in_use_lock_nothing() {
    let Some(mut device) = Device::make(&[]) else { return };
    let mut tpm = device.esapi();
    let key = tpm.create_identity_key().unwrap();
    let mut reset_count = reset_count(&mut tpm);
    tpm.release();
    for cut in 1..=10 {
        let (mut user, used_key) = (device.esapi(), key.clone());
        let (ready, first) = mpsc::channel();
        let in_use = thread::spawn(move || {
            loop {
                user.sign_digest(&used_key, &[1; 32])?;
                // The test may have heard enough.
                let _ = ready.send(());
            }
        });
        first.recv().unwrap();
        device.swtpm.switch_off().unwrap();
        let broken: Result<(), TpmError> = in_use.join().unwrap();
        let fault = broken.unwrap_err().fault;
        assert!(
            matches!(fault, TpmFault::ConnectionLost { .. } | TpmFault::SwtpmUnreachable { .. }),
            "cut {cut}: {fault}"
        );
        device.swtpm.switch_on().unwrap();

        tpm.sign_digest(&key, &[1; 32]).unwrap();
        let counted = self::reset_count(&mut tpm);
        assert!(counted > reset_count, "cut {cut}: the reset counter rises");
        reset_count = counted;
        tpm.release();
    }
    assert_eq!(device.property("TPM2_PT_LOCKOUT_COUNTER"), 0);
}

fn reset_count(tpm: &mut impl Tpm) -> u32 {
    let quote = tpm.quote(&[1; 32], PcrBank::Sha256, PcrSelection::QUOTED).unwrap();
    attested(&quote.attest).reset_count
}

/// Somebody else's wrong passwords lock the TPM; no key of ours and no endorsement key minds.
#[test]
fn a_locked_tpm_still_attests() {
    let Some(device) = Device::make(&["tpm2_dictionarylockout", "tpm2_createprimary"]) else { return };
    let mut tpm = device.esapi();
    let key = tpm.create_identity_key().unwrap();
    let endorsement = tpm.endorsement().unwrap();
    let name = name_of(&tpm.attestation_key().unwrap());
    tpm.release();
    lock(&device);

    tpm.sign_digest(&key, &[1; 32]).unwrap();
    tpm.certify(&key, &[1; 32]).unwrap();
    tpm.quote(&[1; 32], PcrBank::Sha256, PcrSelection::QUOTED).unwrap();
    for key in &endorsement.keys {
        tpm.release();
        let credential = make_credential(&device, &key.public, &name);
        assert_eq!(*tpm.activate(key.template, &credential).unwrap(), SECRET, "{}", key.template.name());
    }
}

fn lock(device: &Device) {
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("primary").display().to_string();
    device.tool("tpm2_dictionarylockout", &["-Q", "-s", "-n", "1", "-t", "1000", "-l", "1000"]);
    device.tool("tpm2_createprimary", &["-Q", "-C", "o", "-p", "secret", "-c", &context]);
    let guess = |password| {
        let mut guess = command("tpm2_create");
        guess
            .args(["-Q", "-C", &context, "-P", password])
            .env("TPM2TOOLS_TCTI", device.swtpm.address().to_string());
        let output = guess.output().unwrap();
        device.tool("tpm2_flushcontext", &["-t"]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    guess("wrong");
    let refusal = guess("secret");
    assert!(refusal.contains("lockout"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_use_the_tpm_between_batches() {
    let Some(device) = Device::make(&["tpm2_pcrread"]) else { return };
    let tpm = device.handle();
    let (renewals, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let renewal = tokio::spawn(renew_until(Arc::clone(&stop), tpm, Arc::clone(&renewals)));
    for _ in 0..5 {
        let before = renewals.load(Ordering::SeqCst);
        device.tool("tpm2_pcrread", &["sha256:0"]);
        while renewals.load(Ordering::SeqCst) == before {
            assert!(!renewal.is_finished(), "the renewal failed");
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    renewal.await.unwrap();
    device.assert_clean("renewals beside another user");
}

async fn renew_until(stop: Arc<AtomicBool>, tpm: TpmHandle, renewals: Arc<AtomicU32>) {
    while !stop.load(Ordering::SeqCst) {
        let batch = |tpm: &mut dyn Tpm| {
            tpm.read_pcrs(PcrBank::Sha256, PcrSelection::QUOTED)?;
            tpm.quote(&[1; 32], PcrBank::Sha256, PcrSelection::QUOTED)
        };
        tpm.run(Operation::Quote, batch).await.unwrap();
        renewals.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn full_object_slots_are_named() {
    let Some(device) = Device::make(&["tpm2_createprimary", "tpm2_flushcontext"]) else { return };
    for _ in 0..3 {
        // This tool leaves its key in the TPM.
        device.tool("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc"]);
    }
    let mut tpm = device.esapi();
    let refusal = tpm.attestation_key().unwrap_err();
    assert!(matches!(refusal.fault, TpmFault::SlotsFull { .. }), "{refusal}");
    device.tool("tpm2_flushcontext", &["-t"]);
    tpm.attestation_key().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_held_by_another_program_does_not_hold_its_callers() {
    let Some(device) = Device::make(&[]) else { return };
    let tpm = device.handle();
    let attestation_key = tpm.attestation_key().await.unwrap();
    let TpmAddress::Swtpm(socket) = device.swtpm.address() else { return };
    let holder = TcpStream::connect(socket).unwrap();

    let refusal = tpm.with_deadline(Duration::from_secs(2)).attestation_key().await.unwrap_err();
    let stuck_in = Operation::DeriveAttestationKey;
    assert!(
        matches!(refusal.fault, TpmFault::Deadline { occupied: Some((command, _)), .. } if command == stuck_in),
        "{refusal}"
    );
    assert!(matches!(tpm.occupation(), Some((command, _)) if command == stuck_in));

    drop(holder);
    assert_eq!(tpm.attestation_key().await.unwrap(), attestation_key);
}
