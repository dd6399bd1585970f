//! Devices without a TPM: joining, keys that follow each other, and copies.

mod copies;
mod makers;
mod many;
mod restored;

use aws_lc_rs::hmac;
use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::digest::Digest;
use policy::evidence::{Purpose, qualifying_data};
use policy::id::DeviceName;
use policy::zone::document::render;
use policy::zone::{Segmentation, Zone};
use prost::Message;
use proto::v1;
use proto::v1::complete_response::Outcome;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};

use super::tpm::TestTpm;
use crate::admin::reach::Scope;
use crate::admin::tests::{Bench, NOW, observing, refused};
use crate::admin::{Act, graph, token};
use crate::record::device::{Device, HeldCertificates, Prover, Tpm, device_key, ek_key, held_prefix, no_ek};
use crate::record::{Held, list};
use crate::session::challenge::Door;
use crate::session::{Refusal, begin, complete};

/// A device's keys in software, as one copy of it has them.
#[derive(Clone)]
struct Copy {
    key: Vec<u8>,
    ticket: Vec<u8>,
}

fn pair(key: &[u8]) -> KeyPair {
    KeyPair::try_from(key).unwrap()
}

fn new_key() -> Vec<u8> {
    KeyPair::generate().unwrap().serialize_der()
}

fn spki(key: &[u8]) -> Vec<u8> {
    pair(key).subject_public_key_info()
}

impl Copy {
    fn new() -> Self {
        Self { key: new_key(), ticket: Vec::new() }
    }

    /// What it sends: the answer to `sealed`, which expects the key with the digest `expected`.
    fn answer(
        &self,
        sealed: Vec<u8>,
        expected: &[u8],
        next: &[u8],
        stated: v1::Statement,
    ) -> v1::CompleteRequest {
        let digest = |key: &[u8]| Digest::of(&spki(key)).0.to_vec();
        let log = v1::StatedLog {
            kind: v1::LogKind::Firmware.into(),
            digest: Digest::of(b"").0.to_vec(),
            ..Default::default()
        };
        let statement = v1::Statement {
            version: 1,
            pcr_bank: 0x000b,
            pcr_mask: 0xffff,
            logs: vec![log],
            ak_name: expected.to_vec(),
            device_key: digest(&self.key),
            next_key: digest(next),
            ..stated
        };
        let statement = statement.encode_to_vec();
        let sign = |key, purpose| pair(key).sign(&qualifying_data(purpose, &sealed, &statement)).unwrap();
        let proof = v1::KeyProof {
            key: spki(&self.key),
            signature: sign(&self.key, Purpose::DeviceKey),
            next_key: spki(next),
            next_signature: sign(next, Purpose::NextKey),
            ticket: self.ticket.clone(),
        };
        v1::CompleteRequest { sealed, statement, key_proof: Some(proof), ..Default::default() }
    }

    /// Enrolls under a name with a token: its text.
    async fn enroll(&mut self, bench: &Bench, name: &str, token: &str) -> Result<v1::Issued, Refusal> {
        let (device_key, device) = (spki(&self.key), name.to_owned());
        let request =
            v1::BeginEnrollmentRequest { versions: vec![1], device_key, device, ..Default::default() };
        let sealed = begin::enrollment(&bench.plant, &request).await?.challenge.unwrap().sealed;
        let expected = Digest::of(&spki(&self.key)).0;
        let (id, secret) = token.strip_prefix("ts1.").unwrap().split_once('.').unwrap();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &hex::decode(secret).unwrap());
        let proven = [&sealed[..], &expected].concat();
        let stated = v1::Statement {
            purpose: v1::Purpose::Enroll.into(),
            device: name.to_owned(),
            join_token_id: id.to_owned(),
            join_token_proof: hmac::sign(&secret, &proven).as_ref().to_vec(),
            ..Default::default()
        };
        let next = new_key();
        let request = self.answer(sealed, &expected, &next, stated);
        self.take(next, complete::complete(&bench.plant, request, Door::Enrollment).await?)
    }

    fn take(&mut self, next: Vec<u8>, response: v1::CompleteResponse) -> Result<v1::Issued, Refusal> {
        let Some(Outcome::Issued(issued)) = response.outcome else { panic!("not issued") };
        (self.key, self.ticket) = (next, issued.key_ticket.clone());
        Ok(issued)
    }

    async fn begin(bench: &Bench) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let request = v1::BeginAttestationRequest {
            versions: vec![1],
            device: "meter-4".to_owned(),
            ..Default::default()
        };
        let begun = begin::attestation(&bench.plant, &request).await.unwrap();
        (begun.challenge.unwrap().sealed, begun.expected_key, begun.key_ticket)
    }

    /// Attests with a new key for each role of the yard, or with those that are given.
    async fn attest(&mut self, bench: &Bench, csrs: &[Vec<u8>]) -> Result<v1::Issued, Refusal> {
        let keys: Vec<_> = csrs.iter().map(|csr| ("yard".to_owned(), csr.clone())).collect();
        self.attest_for(bench, &keys).await
    }

    /// Attests with keys of zones: of each the caller's, then the listener's.
    async fn attest_for(&mut self, bench: &Bench, keys: &[(String, Vec<u8>)]) -> Result<v1::Issued, Refusal> {
        let (sealed, expected, _) = Self::begin(bench).await;
        let mut stated = v1::Statement { purpose: v1::Purpose::Renew.into(), ..Default::default() };
        let mut identity_keys = Vec::new();
        for ((zone, csr), role) in keys.iter().zip([v1::Role::Caller, v1::Role::Listener].into_iter().cycle())
        {
            let (zone, role, csr) = (zone.clone(), role.into(), csr.clone());
            let csr_digest = Digest::of(&csr).0.to_vec();
            stated.identity_keys.push(v1::StatedKey {
                zone: zone.clone(),
                role,
                csr_digest,
                ..Default::default()
            });
            identity_keys.push(v1::IdentityKey { zone, role, csr, ..Default::default() });
        }
        let next = new_key();
        let request = self.answer(sealed, &expected, &next, stated);
        let request = v1::CompleteRequest { identity_keys, ..request };
        self.take(next, complete::complete(&bench.plant, request, Door::Attestation).await?)
    }
}

fn csr() -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn meter() -> DeviceName {
    "meter-4".parse().unwrap()
}

async fn token_for(bench: &Bench, zone: &str, name: &str, without_tpm: bool) -> Result<String, Refusal> {
    let actor = bench.actor(Act::CreateToken).await;
    let (zones, device) = (vec![zone.parse().unwrap()], Some(name.parse().unwrap()));
    let request = token::Request { zones, ek: None, device, lifetime: 0, without_tpm };
    token::create(&bench.plant, &actor, &request).await.map(|created| created.text.to_string())
}

/// A plant with a zone that asks for no TPM, and one that does.
async fn bench() -> Bench {
    let bench = Bench::new().await;
    let least = LeastClaims::new([(Claim::InstanceIdentity, ClaimValue::AFFIRMING)].into());
    bench.zone(&Zone { least, ..observing("yard") }).await;
    bench.zone(&observing("cell-3")).await;
    bench
}

async fn joined() -> (Bench, Copy) {
    let (bench, mut copy) = (bench().await, Copy::new());
    let token = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    copy.enroll(&bench, "meter-4", &token).await.unwrap();
    (bench, copy)
}

async fn generation(bench: &Bench) -> u64 {
    match bench.read::<Device>(device_key(&meter())).await.prover {
        Prover::Key(line) => line.generation,
        Prover::Tpm => panic!("it has no TPM"),
    }
}

#[tokio::test]
async fn a_device_without_a_tpm_joins_with_its_own_kind_of_token_where_the_zone_asks_for_none() {
    let bench = bench().await;
    let text = refused!(token_for(&bench, "cell-3", "meter-4", true).await, Conflict);
    assert!(text.starts_with("zone cell-3 asks for hardware, which a device without a TPM"), "{text}");
    let ordinary = token_for(&bench, "yard", "meter-4", false).await.unwrap();
    let mut copy = Copy::new();
    refused!(copy.enroll(&bench, "meter-4", &ordinary).await, NotAdmitted);
    let token = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    let text = refused!(copy.enroll(&bench, "meter-5", &token).await, NotAdmitted);
    assert!(text.contains("for another name"), "{text}");
    let (id, secret) = token.strip_prefix("ts1.").unwrap().split_once('.').unwrap();
    let secret = hex::decode(secret).unwrap();
    let with_tpm = TestTpm::new().answer_with(&bench.plant, "meter-4", Some((id, &secret))).await.unwrap();
    refused!(complete::complete(&bench.plant, with_tpm, Door::Enrollment).await, NotAdmitted);

    copy.enroll(&bench, "meter-4", &token).await.unwrap();
    let issued = copy.attest(&bench, &[csr(), csr()]).await.unwrap();
    assert_eq!((issued.svids.len(), issued.zones), (2, vec!["yard".to_owned()]));
    assert_eq!(generation(&bench).await, 2);
    let device: Device = bench.read(device_key(&meter())).await;
    assert_eq!(device.ek, no_ek(&meter()));
    refused!(copy.enroll(&bench, "meter-4", &token).await, NotAdmitted);
    let text = refused!(token_for(&bench, "yard", "meter-4", false).await, Conflict);
    assert!(text.contains("there is a device meter-4 already"), "{text}");
}

#[tokio::test]
async fn a_token_admits_into_no_later_zone_of_the_name_it_was_made_for() {
    let bench = bench().await;
    let (keyed, ordinary) =
        (token_for(&bench, "yard", "meter-4", true).await, token_for(&bench, "yard", "press-7", false).await);
    let (keyed, ordinary) = (keyed.unwrap(), ordinary.unwrap());
    bench.without_zone("yard").await;
    let text = refused!(Copy::new().enroll(&bench, "meter-4", &keyed).await, NotAdmitted);
    assert!(text.starts_with("zone yard does not exist any more"), "{text}");
    let with_tpm = || async {
        let (id, secret) = ordinary.strip_prefix("ts1.").unwrap().split_once('.').unwrap();
        let secret = hex::decode(secret).unwrap();
        let answer = TestTpm::new().answer_with(&bench.plant, "press-7", Some((id, &secret))).await.unwrap();
        complete::complete(&bench.plant, answer, Door::Enrollment).await
    };
    let text = refused!(with_tpm().await, NotAdmitted);
    assert!(text.starts_with("zone yard does not exist any more"), "{text}");
    let least = LeastClaims::new([(Claim::InstanceIdentity, ClaimValue::AFFIRMING)].into());
    bench.zone(&Zone { least, token_admits: true, ..observing("yard") }).await;
    let text = refused!(Copy::new().enroll(&bench, "meter-4", &keyed).await, NotAdmitted);
    assert!(text.starts_with("the join token is unknown, used, expired"), "{text}");
    let text = refused!(with_tpm().await, NotAdmitted);
    assert!(text.starts_with("the join token is unknown, used, expired"), "{text}");
}

#[tokio::test]
async fn an_observing_zone_that_asks_for_hardware_takes_what_devices_without_hold() {
    let (bench, mut copy) = joined().await;
    copy.attest(&bench, &[csr(), csr()]).await.unwrap();
    let held = || async {
        let all: Vec<Held<HeldCertificates>> =
            list(bench.plant.store.as_ref(), &held_prefix(&meter())).await.unwrap();
        all.iter().map(|held| held.record.certificates.len()).sum::<usize>()
    };
    assert_eq!(held().await, 2);
    let seen = graph::view(&bench.plant, &Scope::Plant).await.unwrap().document;
    let known = crate::trust::segmentation(&bench.plant).await.unwrap();
    let both = [Claim::InstanceIdentity, Claim::Hardware].map(|claim| (claim, ClaimValue::AFFIRMING));
    let strict = |zone: &Zone| match zone.name.as_str() {
        "yard" => Zone { least: LeastClaims::new(both.into()), ..zone.clone() },
        _ => zone.clone(),
    };
    let after = Segmentation::new(known.zones().map(strict).collect(), Vec::new()).unwrap();
    let actor = bench.actor(Act::ApplyGraph).await;
    let planned = graph::apply(
        &bench.plant,
        &actor,
        &render(&after),
        &seen,
        crate::admin::conduit::Unoffered::Refuse,
        false,
    )
    .await
    .unwrap();
    let loses: Vec<_> = planned.loses.iter().map(|one| one.device.as_str()).collect();
    assert_eq!(loses, ["meter-4"], "the plan says so");
    crate::withdrawal::finish(&bench.plant).await.unwrap();
    assert_eq!(held().await, 0);
}

#[tokio::test]
async fn a_name_of_a_device_with_a_tpm_is_never_one_without() {
    let bench = bench().await;
    let token = token_for(&bench, "yard", "press-7", true).await.unwrap();
    bench.device("press-7", &["yard"]).await;
    let text = refused!(Copy::new().enroll(&bench, "press-7", &token).await, Conflict);
    assert!(text.contains("has a TPM and proves itself with that alone"), "{text}");
    refused!(token_for(&bench, "yard", "press-7", true).await, Conflict);
    let request =
        v1::BeginAttestationRequest { versions: vec![1], device: "press-7".to_owned(), ..Default::default() };
    refused!(begin::attestation(&bench.plant, &request).await, NotFound);
}

#[tokio::test]
async fn a_session_ends_as_it_began() {
    let (bench, copy) = joined().await;
    let (sealed, expected, _) = Copy::begin(&bench).await;
    let stated = v1::Statement { purpose: v1::Purpose::Renew.into(), ..Default::default() };
    let answer = copy.answer(sealed.clone(), &expected, &new_key(), stated.clone());
    let with_tpm = v1::CompleteRequest { key_proof: None, ..answer.clone() };
    let text = refused!(complete::complete(&bench.plant, with_tpm, Door::Attestation).await, EvidenceInvalid);
    assert_eq!(text, "the session began without a TPM and is answered with one");
    let of_a_tpm = TestTpm::new().answer(&bench.plant, "meter-4").await.unwrap();
    let without = copy.answer(of_a_tpm.sealed, &expected, &new_key(), stated);
    let text = refused!(complete::complete(&bench.plant, without, Door::Enrollment).await, EvidenceInvalid);
    assert_eq!(text, "the session began with a TPM and is answered without one");
    complete::complete(&bench.plant, answer.clone(), Door::Attestation).await.unwrap();
    refused!(complete::complete(&bench.plant, answer, Door::Attestation).await, MustReattest);
}

#[tokio::test]
async fn a_token_from_before_a_device_joined_takes_nothing_over() {
    let bench = bench().await;
    let first = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    let second = token_for(&bench, "yard", "meter-4", true).await.unwrap();
    let mut copy = Copy::new();
    copy.enroll(&bench, "meter-4", &first).await.unwrap();
    refused!(Copy::new().enroll(&bench, "meter-4", &second).await, NotAdmitted);
    copy.attest(&bench, &[]).await.unwrap();
}

#[tokio::test]
async fn a_token_does_not_bring_a_device_back_into_a_zone_that_it_left() {
    let (bench, mut device) = joined().await;
    let least = LeastClaims::new([(Claim::InstanceIdentity, ClaimValue::AFFIRMING)].into());
    bench.zone(&Zone { least, ..observing("lab") }).await;
    bench.clock.set(NOW.plus(60));
    let token = token_for(&bench, "lab", "meter-4", true).await.unwrap();
    let text = refused!(Copy::new().enroll(&bench, "meter-4", &token).await, Conflict);
    assert!(text.contains("make a token for the zones that it is in"), "{text}");
    device.attest(&bench, &[csr(), csr()]).await.unwrap();
}

#[tokio::test]
async fn whoever_has_no_key_of_the_device_raises_no_alarm() {
    let (bench, device) = joined().await;
    let stranger = Copy { ticket: device.ticket.clone(), ..Copy::new() };
    refused!(stranger.clone().attest(&bench, &[]).await, NotAdmitted);
    // Nothing more of what a stranger sends is looked at.
    refused!(stranger.clone().attest(&bench, &[b"no request".to_vec()]).await, NotAdmitted);
    let tpm: Tpm = bench.read(ek_key(&no_ek(&meter()))).await;
    assert!(tpm.quarantine.is_none());
}

#[tokio::test]
async fn what_only_a_tpm_can_say_is_not_taken_from_a_key() {
    let (bench, copy) = joined().await;
    let (sealed, expected, _) = Copy::begin(&bench).await;
    let stated = v1::Statement { purpose: v1::Purpose::Renew.into(), ..Default::default() };
    let request = copy.answer(sealed, &expected, &new_key(), stated);
    let before = v1::LogBeginning { length: 1, digest: vec![0; 32] };
    for other in [
        v1::CompleteRequest { image_log: vec![0; 32], ..request.clone() },
        v1::CompleteRequest { ima_before: Some(before), ..request.clone() },
    ] {
        let text = refused!(complete::complete(&bench.plant, other, Door::Attestation).await, Malformed);
        assert!(text.contains("not both"), "{text}");
    }
    assert!(complete::complete(&bench.plant, request, Door::Attestation).await.is_ok());
}

#[tokio::test]
async fn a_key_is_certified_once_and_for_one_thing() {
    let (bench, mut device) = joined().await;
    let (one, two) = (csr(), csr());
    refused!(device.clone().attest(&bench, &[one.clone(), one.clone()]).await, Conflict);
    device.attest(&bench, &[one.clone(), two]).await.unwrap();
    let text = refused!(device.attest(&bench, &[one, csr()]).await, Conflict);
    assert!(text.contains("is certified already; make a new key for each certificate"), "{text}");
}
