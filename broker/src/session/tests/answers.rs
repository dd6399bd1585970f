//! Answers to an enrollment challenge: exchanged parts, wrong proofs, replays (checklist rows 4, 7, 8 and 9).

use std::collections::BTreeSet;

use prost::Message;
use proto::v1;

use super::plant_of;
use super::tpm::TestTpm;
use crate::admin::tests::{Bench, observing, refused};
use crate::admin::{Act, token};
use crate::record::device::{Device, device_key};
use crate::session::challenge::{Challenge, Door};
use crate::session::complete::complete;

async fn enroll(bench: &Bench, request: v1::CompleteRequest) -> Result<(), crate::session::Refusal> {
    complete(&bench.plant, request, Door::Enrollment).await.map(drop)
}

#[tokio::test]
async fn row_4_another_ak_after_the_activation_is_refused() {
    let mut tpm = TestTpm::new();
    let (bench, _) = plant_of(&tpm, true).await;
    let honest = tpm.answer(&bench.plant, "press-7").await.unwrap();
    let before = bench.revision();
    let mut other = TestTpm::new();
    other.switch_ak();

    let swapped = other.sign_instead(honest.clone());
    let text = refused!(enroll(&bench, swapped.clone()).await, EvidenceInvalid);
    assert_eq!(text, "the attestation key is not the one this session began with");

    // The statement names the other AK too.
    let mut statement = v1::Statement::decode(honest.statement.as_slice()).unwrap();
    statement.ak_name = other.ak_name();
    let restated = v1::CompleteRequest { statement: statement.encode_to_vec(), ..swapped };
    let text = refused!(enroll(&bench, restated).await, EvidenceInvalid);
    assert!(text.contains("AK Name"), "{text}");

    let of_the_ek = v1::CompleteRequest { ek_public: super::tpm::ek(), ..honest.clone() };
    let text = refused!(enroll(&bench, of_the_ek).await, EvidenceInvalid);
    assert_eq!(text, "the EK is not the one this session began with");
    assert_eq!(bench.revision(), before, "a refusal changes nothing");
    enroll(&bench, honest).await.unwrap();
}

#[tokio::test]
async fn row_8_a_wrong_secret_gives_no_hint_and_changes_nothing() {
    let mut tpm = TestTpm::new();
    let (bench, _) = plant_of(&tpm, true).await;
    let honest = tpm.answer(&bench.plant, "press-7").await.unwrap();
    let before = bench.revision();
    let secret = &honest.credential_secret;
    let mut almost = secret.clone();
    almost[31] ^= 1;
    let wrong = [vec![], secret[..31].to_vec(), [&secret[..], &[0]].concat(), vec![7; 32], almost];
    let mut told = BTreeSet::new();
    for credential_secret in wrong {
        let request = v1::CompleteRequest { credential_secret, ..honest.clone() };
        told.insert(refused!(enroll(&bench, request).await, EvidenceInvalid));
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["the credential was not opened"]);
    assert_eq!(bench.revision(), before, "a refusal changes nothing");
    // The challenge is not burned: anybody could burn it.
    enroll(&bench, honest).await.unwrap();
}

#[tokio::test]
async fn row_9_challenges_differ_and_each_is_answered_once() {
    let mut tpm = TestTpm::new();
    let (bench, _) = plant_of(&tpm, true).await;
    let first = tpm.answer(&bench.plant, "press-7").await.unwrap();
    let second = tpm.answer(&bench.plant, "press-7").await.unwrap();
    let open = |request: &v1::CompleteRequest| {
        Challenge::open(&bench.plant.keys.load(), bench.plant.now(), &request.sealed).unwrap()
    };
    assert_ne!(first.sealed, second.sealed);
    assert_ne!(open(&first).random, open(&second).random);
    assert_ne!(first.credential_secret, second.credential_secret);

    let mixed = v1::CompleteRequest { sealed: second.sealed.clone(), ..first.clone() };
    let mixed = v1::CompleteRequest { credential_secret: second.credential_secret.clone(), ..mixed };
    let text = refused!(enroll(&bench, mixed).await, EvidenceInvalid);
    assert!(text.contains("the quote answers another challenge or another statement"), "{text}");

    enroll(&bench, first.clone()).await.unwrap();
    let before = bench.revision();
    for used in [first, second] {
        let text = refused!(enroll(&bench, used).await, MustReattest);
        assert!(text.contains("the challenge was used already"), "{text}");
    }
    assert_eq!(bench.revision(), before, "a replay changes nothing");
}

#[tokio::test]
async fn row_9_a_challenge_has_an_end() {
    let mut tpm = TestTpm::new();
    let (bench, _) = plant_of(&tpm, true).await;
    let late = tpm.answer(&bench.plant, "press-7").await.unwrap();
    let (keys, now) = (bench.plant.keys.load(), bench.plant.now());
    Challenge::open(&keys, now.plus(125), &late.sealed).unwrap();
    let text = refused!(Challenge::open(&keys, now.plus(126), &late.sealed), MustReattest);
    assert!(text.contains("older than 120 s"), "{text}");
}

#[tokio::test]
async fn row_7_a_name_is_not_taken_over_by_another_tpm() {
    let first = TestTpm::new();
    let (bench, name) = plant_of(&first, true).await;
    let mut zone = observing("cell-4");
    zone.token_admits = true;
    bench.zone(&zone).await;
    let actor = bench.actor(Act::CreateToken).await;
    let zones = vec!["cell-4".parse().unwrap()];
    let request = token::Request { zones, ek: None, device: None, lifetime: 0, without_tpm: false };
    let created = token::create(&bench.plant, &actor, &request).await.unwrap();
    let [_, id, secret] = created.text.split('.').collect::<Vec<_>>()[..] else { panic!("a token") };
    let secret = hex::decode(secret).unwrap();
    let before: Device = bench.read(device_key(&name)).await;
    let revision = bench.revision();

    let mut other = TestTpm::new();
    let claim = other.answer_with(&bench.plant, "press-7", Some((id, &secret))).await.unwrap();
    let text = refused!(enroll(&bench, claim).await, Conflict);
    assert_eq!(text, "the name press-7 belongs to another TPM; choose another");
    assert_eq!(bench.revision(), revision, "a refusal changes nothing, the token neither");
    assert_eq!(bench.read::<Device>(device_key(&name)).await.ek, before.ek);
}

#[tokio::test]
async fn a_csr_for_another_key_than_the_tpms_is_refused() {
    let mut tpm = TestTpm::new();
    let (bench, _) = plant_of(&tpm, true).await;
    tpm.asks = vec![("cell-3", v1::Role::Caller)];
    tpm.requester = Some(rcgen::KeyPair::generate().unwrap());
    let before = bench.revision();
    let text = refused!(tpm.enroll(&bench.plant, "press-7").await, EvidenceInvalid);
    assert!(text.contains("a CSR is for another key than the one that was certified"), "{text}");
    assert_eq!(bench.revision(), before, "a refusal changes nothing");
    tpm.requester = None;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
}

#[tokio::test]
async fn a_csr_that_asks_for_names_is_refused() {
    let mut tpm = TestTpm::new();
    let (bench, _) = plant_of(&tpm, true).await;
    tpm.asks = vec![("cell-3", v1::Role::Caller)];
    let nothing = tpm.request.clone();
    for name in ["press-1.cell-3.plant.example", "press-7.cell-3.plant.example"] {
        tpm.request.distinguished_name.push(rcgen::DnType::CommonName, name);
        let text = refused!(tpm.enroll(&bench.plant, "press-7").await, Malformed);
        assert!(text.contains("the request states a subject"), "{text}");
        tpm.request = nothing.clone();
    }
    tpm.request.subject_alt_names =
        vec![rcgen::SanType::DnsName("press-1.plant.example".try_into().unwrap())];
    let text = refused!(tpm.enroll(&bench.plant, "press-7").await, Malformed);
    assert!(text.contains("the request asks for alternative names"), "{text}");
    tpm.request = nothing;
    tpm.enroll(&bench.plant, "press-7").await.unwrap();
}
