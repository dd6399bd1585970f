//! The owner thread with a TPM that does what the test says.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Answers a quote when the test lets it, and counts what it did.
struct GatedTpm {
    gate: Receiver<()>,
    log: Sender<&'static str>,
}

struct Gate {
    open: Sender<()>,
    log: Receiver<&'static str>,
}

fn gated() -> (TpmHandle, Gate) {
    let (open, gate) = channel();
    let (log, entries) = channel();
    (TpmHandle::start(GatedTpm { gate, log }).unwrap(), Gate { open, log: entries })
}

fn attestation() -> Attestation {
    Attestation { attest: vec![1], signature: vec![2] }
}

impl Tpm for GatedTpm {
    fn endorsement(&mut self) -> Result<Endorsement, TpmError> {
        panic!("the test breaks the thread")
    }
    fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError> {
        self.log.send("key").unwrap();
        Ok(vec![7])
    }
    fn activate(&mut self, _: EkTemplate, _: &Credential) -> Result<Secret, TpmError> {
        Err(Operation::ActivateCredential.failed(TpmFault::Lockout))
    }
    fn read_pcrs(&mut self, _: PcrBank, _: PcrSelection) -> Result<Vec<PcrValue>, TpmError> {
        Ok(vec![])
    }
    fn extend(&mut self, _: PcrIndex, _: PcrBank, _: &[u8]) -> Result<(), TpmError> {
        Ok(())
    }
    fn quote(&mut self, _: &[u8], _: PcrBank, _: PcrSelection) -> Result<Attestation, TpmError> {
        self.log.send("quote").unwrap();
        self.gate.recv().unwrap();
        Ok(attestation())
    }
    fn create_identity_key(&mut self) -> Result<IdentityKeyBlob, TpmError> {
        Err(Operation::CreateIdentityKey.failed(TpmFault::Lockout))
    }
    fn certify(&mut self, _: &IdentityKeyBlob, _: &[u8]) -> Result<Attestation, TpmError> {
        Ok(attestation())
    }
    fn sign_digest(&mut self, _: &IdentityKeyBlob, _: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
        Ok(vec![])
    }
    fn sign_as_manufacturer(
        &mut self,
        _: &ManufacturerKey,
        _: &[u8],
        _: &[u8],
    ) -> Result<ManufacturerSignature, TpmError> {
        Err(Operation::SignAsManufacturer.failed(TpmFault::Lockout))
    }
    fn release(&mut self) {
        self.log.send("release").unwrap();
    }
}

fn start_quote(tpm: &TpmHandle) -> tokio::task::JoinHandle<Result<Attestation, TpmError>> {
    let tpm = tpm.clone();
    tokio::spawn(async move { tpm.quote(vec![], PcrBank::Sha256, PcrSelection::QUOTED).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_connection() {
    let (tpm, gate) = gated();
    let batch = |tpm: &mut dyn Tpm| {
        tpm.attestation_key()?;
        tpm.attestation_key()
    };
    assert_eq!(tpm.run(Operation::DeriveAttestationKey, batch).await.unwrap(), [7]);
    let entries: Vec<_> = gate.log.iter().take(3).collect();
    assert_eq!(entries, ["key", "key", "release"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_holds_names_the_stuck_command_and_skips_the_late_one() {
    let (tpm, gate) = gated();
    let stuck = start_quote(&tpm);
    assert_eq!(gate.log.recv().unwrap(), "quote");

    let hasty = tpm.with_deadline(Duration::from_millis(20));
    match hasty.attestation_key().await.unwrap_err().fault {
        TpmFault::Deadline { occupied: Some((Operation::Quote, _)), .. } => {}
        other => panic!("{other}"),
    }
    match hasty.run_blocking(Operation::SignDigest, |tpm| tpm.attestation_key()).unwrap_err().fault {
        TpmFault::Deadline { occupied: Some((Operation::Quote, _)), .. } => {}
        other => panic!("{other}"),
    }
    assert!(matches!(tpm.occupation(), Some((Operation::Quote, _))));

    gate.open.send(()).unwrap();
    assert_eq!(stuck.await.unwrap().unwrap(), attestation());
    assert_eq!(tpm.attestation_key().await.unwrap(), [7]);
    let entries: Vec<_> = gate.log.iter().take(3).collect();
    assert_eq!(entries, ["release", "key", "release"], "the late commands were not begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_bounded() {
    let (tpm, gate) = gated();
    let _stuck = start_quote(&tpm);
    assert_eq!(gate.log.recv().unwrap(), "quote");
    for _ in 0..QUEUE_LENGTH {
        tpm.submit(Operation::SignDigest, |_| ()).unwrap();
    }
    let fault = tpm.attestation_key().await.unwrap_err().fault;
    assert!(matches!(fault, TpmFault::QueueFull { waiting: QUEUE_LENGTH }), "{fault}");
    gate.open.send(()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_thread_is_said_not_waited_for() {
    let (tpm, _gate) = gated();
    let fault = tpm.endorsement().await.unwrap_err().fault;
    assert!(matches!(fault, TpmFault::ThreadEnded), "{fault}");
    let fault = tpm.attestation_key().await.unwrap_err().fault;
    assert!(matches!(fault, TpmFault::ThreadEnded), "{fault}");
}

#[tokio::test]
async fn a_blocking_call_works_on_a_current_thread_runtime() {
    let (tpm, _gate) = gated();
    assert_eq!(tpm.run_blocking(Operation::SignDigest, |tpm| tpm.attestation_key()).unwrap(), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_tpm_ends_the_command_in_the_works_and_begins_no_other() {
    let (tpm, gate) = gated();
    let begun = start_quote(&tpm);
    assert_eq!(gate.log.recv().unwrap(), "quote");
    let waiting = tpm.clone();
    let waiting = tokio::spawn(async move { waiting.attestation_key().await });
    let closing = tpm.clone();
    let closing = tokio::spawn(async move { closing.close(COMMAND_DEADLINE).await });
    while !tpm.shared.closed.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    assert!(!closing.is_finished(), "the quote is in the works");
    gate.open.send(()).unwrap();
    closing.await.unwrap();
    assert_eq!(begun.await.unwrap().unwrap(), attestation());
    for late in [waiting.await.unwrap(), tpm.attestation_key().await] {
        assert!(matches!(late.unwrap_err().fault, TpmFault::ThreadEnded));
    }
    assert_eq!(gate.log.try_iter().collect::<Vec<_>>(), ["release"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_stuck_after_twice_the_time_that_its_callers_wait() {
    let second = Duration::from_secs(1);
    assert_eq!(Operation::Quote.stuck_after(second), 2 * second);
    assert_eq!(Operation::ActivateCredential.stuck_after(second), 2 * KEY_GENERATION_DEADLINE);

    let (tpm, gate) = gated();
    assert!(tpm.stuck().is_none());
    let stuck = start_quote(&tpm);
    assert_eq!(gate.log.recv().unwrap(), "quote");
    assert!(
        tpm.with_deadline(Duration::ZERO).stuck().is_some_and(|(operation, _)| operation == Operation::Quote)
    );
    assert!(tpm.with_deadline(Duration::from_secs(3600)).stuck().is_none());
    gate.open.send(()).unwrap();
    stuck.await.unwrap().unwrap();
}
