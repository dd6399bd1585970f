//! Logs that a device leaves out, and what it could gain by it.

use proto::v1;
use proto::v1::complete_response::Outcome;

use super::tpm::TestTpm;
use super::{plant_of, refused};
use crate::admin::tests::{Bench, NOW, boot};
use crate::record::device::{Attested, Device, Tpm, attested_key, device_key, ek_key};
use crate::record::stored;
use crate::session::challenge::Door;
use crate::session::kept::own;
use crate::session::recorded::results;
use crate::session::{Refusal, complete};
use crate::store::Txn;

/// A plant with press-7, which sent the log of boot-a with its proof, and press-9, which sent that of boot-b.
async fn scene() -> (Bench, TestTpm) {
    let mut tpm = TestTpm::new();
    let (bench, name) = plant_of(&tpm, true).await;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let mut other = TestTpm::new();
    other.booted = boot("boot-b");
    let press_9 = bench.device("press-9", &["cell-3"]).await;
    let device: Device = bench.read(device_key(&press_9)).await;
    let device = Device { ek: other.ek_digest(), ak: None, ..device };
    let known: Tpm = bench.read(ek_key(&tpm.ek_digest())).await;
    assert_eq!(known.device, Some(name));
    let known = Tpm { device: Some(press_9.clone()), ..known };
    let txn = Txn::new()
        .put(device_key(&press_9), stored(&device).unwrap())
        .put(ek_key(&other.ek_digest()), stored(&known).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    other.enroll(&bench.plant, "press-9").await.unwrap();
    (bench, tpm)
}

async fn attest(bench: &Bench, request: v1::CompleteRequest) -> Result<Outcome, Refusal> {
    let answer = complete::complete(&bench.plant, request, Door::Attestation).await?;
    Ok(answer.outcome.unwrap())
}

fn without_log(request: &v1::CompleteRequest) -> v1::CompleteRequest {
    assert!(!request.firmware_log.is_empty());
    v1::CompleteRequest { firmware_log: Vec::new(), ..request.clone() }
}

async fn last(bench: &Bench) -> Attested {
    bench.read(attested_key(&"press-7".parse().unwrap())).await
}

#[tokio::test]
async fn a_log_of_the_last_proof_need_not_be_sent() {
    let (bench, mut tpm) = scene().await;
    let before = last(&bench).await;
    for seconds in [60, 120] {
        bench.clock.set(NOW.plus(seconds));
        let request = tpm.renewal(&bench.plant, "press-7").await;
        let outcome = attest(&bench, without_log(&request)).await.unwrap();
        assert!(matches!(outcome, Outcome::Issued(_)), "{outcome:?}");
    }
    let after = last(&bench).await;
    let [found] = &results(&bench.plant, &after).await[..] else { panic!("one zone") };
    assert_eq!((found.at, after.at), (NOW.plus(120), NOW.plus(120)), "the result is of the last proof");
    assert_eq!((after.logs, after.basis), (before.logs, before.basis), "it is as if it was sent");
    assert_eq!(after.evidence, before.evidence, "it says nothing new");
    assert!(after.nonce.is_some() && after.nonce != before.nonce);
}

#[tokio::test]
async fn the_proof_that_certificates_rest_on_is_kept_until_another_says_more() {
    let (bench, mut tpm) = scene().await;
    let mut kept = vec![last(&bench).await.evidence];
    for _ in 0..2 {
        tpm.asks = vec![("cell-3", v1::Role::Caller)];
        tpm.enroll(&bench.plant, "press-7").await.unwrap();
        let request = tpm.renewal(&bench.plant, "press-7").await;
        let certified = last(&bench).await.evidence;
        attest(&bench, request).await.unwrap();
        assert_eq!(last(&bench).await.evidence, certified, "a proof for nothing does not replace it");
        let request = own(&bench.plant, certified).await.unwrap();
        assert_eq!(request.identity_keys.len(), 1);
        assert!(!kept.contains(&certified));
        kept.push(certified);
    }
}

#[tokio::test]
async fn a_log_that_the_device_did_not_send_before_is_asked_for() {
    let (bench, mut tpm) = scene().await;
    // The broker has this one, of another device.
    tpm.booted = boot("boot-b");
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let before = bench.revision();
    for _ in 0..2 {
        let outcome = attest(&bench, without_log(&request)).await.unwrap();
        assert!(matches!(outcome, Outcome::LogsWanted(_)), "{outcome:?}");
        assert_eq!(bench.revision(), before, "nothing is decided yet");
    }
    let outcome = attest(&bench, request.clone()).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued(_)), "the challenge still holds: {outcome:?}");
    refused!(attest(&bench, without_log(&request)).await, MustReattest);
}

#[tokio::test]
async fn a_log_that_was_lost_is_asked_for_and_put_again() {
    let (bench, mut tpm) = scene().await;
    let log = last(&bench).await.logs.unwrap().firmware.unwrap();
    bench.plant.blobs.remove(log).await.unwrap();
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let outcome = attest(&bench, without_log(&request)).await.unwrap();
    assert!(matches!(outcome, Outcome::LogsWanted(_)), "{outcome:?}");
    attest(&bench, request).await.unwrap();
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let outcome = attest(&bench, without_log(&request)).await.unwrap();
    assert!(matches!(outcome, Outcome::Issued(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_known_log_does_not_stand_for_another_boot() {
    let (bench, mut tpm) = scene().await;
    let known = tpm.booted.firmware_log.clone();
    tpm.booted = v1::CompleteRequest { firmware_log: known, ..boot("boot-b") };
    let request = tpm.renewal(&bench.plant, "press-7").await;
    let whole = refused!(attest(&bench, request.clone()).await, EvidenceInvalid);
    let short = refused!(attest(&bench, without_log(&request)).await, EvidenceInvalid);
    assert_eq!(short, whole, "it is replayed like a log that was sent");
}

#[tokio::test]
async fn a_log_that_is_not_the_stated_one_is_refused() {
    let (bench, mut tpm) = scene().await;
    let mut request = tpm.renewal(&bench.plant, "press-7").await;
    request.firmware_log.push(0);
    let text = refused!(attest(&bench, request).await, EvidenceInvalid);
    assert!(text.contains("firmware log"), "{text}");
}

#[tokio::test]
async fn who_does_not_have_the_key_does_not_learn_what_the_broker_has() {
    let (bench, mut tpm) = scene().await;
    let mut forged = Vec::new();
    for booted in ["boot-a", "boot-b"] {
        tpm.booted = boot(booted);
        let request = without_log(&tpm.renewal(&bench.plant, "press-7").await);
        let quote_signature = tpm.sign(b"of something else");
        // Something else that would be refused first.
        let ek_public = b"none".to_vec();
        forged.push(v1::CompleteRequest {
            quote_signature: quote_signature.clone(),
            ek_public,
            ..request.clone()
        });
        forged.push(v1::CompleteRequest { quote_signature, ..request });
    }
    let mut said = Vec::new();
    for request in forged {
        said.push(refused!(attest(&bench, request).await, EvidenceInvalid));
    }
    assert!(said.iter().all(|text| *text == said[0]), "{said:?}");
    assert!(said[0].contains("not signed by the device's attestation key"), "{said:?}");
}

#[tokio::test]
async fn an_enrollment_leaves_nothing_out() {
    let (bench, mut tpm) = scene().await;
    let request = without_log(&tpm.answer(&bench.plant, "press-7").await.unwrap());
    let refusal = complete::complete(&bench.plant, request, Door::Enrollment).await;
    let text = refused!(refusal, EvidenceInvalid);
    assert!(text.contains("firmware log"), "{text}");
}
