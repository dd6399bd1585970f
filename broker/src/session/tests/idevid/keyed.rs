//! Devices without a TPM that join by their IDevID.

use aws_lc_rs::hmac;
use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::digest::Digest;
use policy::evidence::{Purpose, qualifying_data};
use policy::id::DeviceName;
use policy::zone::Zone;
use prost::Message;
use proto::v1;
use proto::v1::complete_response::Outcome;
use rcgen::{KeyPair, PublicKeyData, SigningKey};

use super::maker::{Maker, TestBox};
use super::{bench, register};
use crate::admin::device::stop;
use crate::admin::tests::{Bench, NOW, observing, refused};
use crate::admin::{Act, token, zone};
use crate::record::device::{
    Device, Inventory, Pending, Tpm, device_key, ek_key, inventory_key, pending_key,
};
use crate::record::idevid::{BoxIdentity, Tie, idevid_key};
use crate::record::{Held, fetch};
use crate::session::challenge::Door;
use crate::session::{Refusal, begin, complete};

/// A box without a TPM, with the keys in software that it has now.
struct Meter {
    key: KeyPair,
    ticket: Vec<u8>,
}

fn digest(key: &KeyPair) -> Vec<u8> {
    Digest::of(&key.subject_public_key_info()).0.to_vec()
}

impl Meter {
    fn new() -> Self {
        Self { key: KeyPair::generate().unwrap(), ticket: Vec::new() }
    }

    fn copied(&self) -> Self {
        let key = KeyPair::try_from(self.key.serialize_der()).unwrap();
        Self { key, ticket: self.ticket.clone() }
    }

    /// Its answer to `sealed`, with the key that follows.
    fn answer(
        &self,
        sealed: Vec<u8>,
        expected: &[u8],
        stated: v1::Statement,
    ) -> (v1::CompleteRequest, KeyPair) {
        let (next, kind) = (KeyPair::generate().unwrap(), v1::LogKind::Firmware.into());
        let log = v1::StatedLog { kind, digest: Digest::of(b"").0.to_vec(), ..Default::default() };
        let statement = v1::Statement {
            version: 1,
            pcr_bank: 0x000b,
            pcr_mask: 0xffff,
            logs: vec![log],
            ak_name: expected.to_vec(),
            device_key: digest(&self.key),
            next_key: digest(&next),
            ..stated
        };
        let statement = statement.encode_to_vec();
        let sign = |key: &KeyPair, purpose| key.sign(&qualifying_data(purpose, &sealed, &statement)).unwrap();
        let proof = v1::KeyProof {
            key: self.key.subject_public_key_info(),
            signature: sign(&self.key, Purpose::DeviceKey),
            next_key: next.subject_public_key_info(),
            next_signature: sign(&next, Purpose::NextKey),
            ticket: self.ticket.clone(),
        };
        (v1::CompleteRequest { sealed, statement, key_proof: Some(proof), ..Default::default() }, next)
    }

    async fn enroll(
        &mut self,
        bench: &Bench,
        name: &str,
        shown: impl FnOnce(&v1::CompleteRequest) -> v1::ManufacturerIdentity,
    ) -> Result<Outcome, Refusal> {
        self.enroll_as(bench, v1::Statement { device: name.to_owned(), ..Default::default() }, None, shown)
            .await
    }

    /// The same, stating more, and with a token: its text.
    async fn enroll_as(
        &mut self,
        bench: &Bench,
        mut stated: v1::Statement,
        token: Option<&str>,
        shown: impl FnOnce(&v1::CompleteRequest) -> v1::ManufacturerIdentity,
    ) -> Result<Outcome, Refusal> {
        let (device_key, device) = (self.key.subject_public_key_info(), stated.device.clone());
        let request =
            v1::BeginEnrollmentRequest { versions: vec![1], device_key, device, ..Default::default() };
        let sealed = begin::enrollment(&bench.plant, &request).await?.challenge.unwrap().sealed;
        stated.purpose = v1::Purpose::Enroll.into();
        if let Some((id, secret)) = token.and_then(|text| text.strip_prefix("ts1.")?.split_once('.')) {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &hex::decode(secret).unwrap());
            let proven = [&sealed[..], &digest(&self.key)].concat();
            stated.join_token_id = id.to_owned();
            stated.join_token_proof = hmac::sign(&secret, &proven).as_ref().to_vec();
        }
        let (mut request, next) = self.answer(sealed, &digest(&self.key), stated);
        request.idevid = Some(shown(&request));
        let response = complete::complete(&bench.plant, request, Door::Enrollment).await?;
        Ok(self.take(next, response))
    }

    async fn join(&mut self, bench: &Bench, made: &TestBox, name: &str) -> Result<Outcome, Refusal> {
        self.enroll(bench, name, |sent| made.identity(&sent.sealed, &sent.statement)).await
    }

    /// Joins as meter-5 of these zones.
    async fn ask(&mut self, bench: &Bench, made: &TestBox, zones: &[&str]) -> Result<Outcome, Refusal> {
        let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
        let stated = v1::Statement { device: "meter-5".to_owned(), zones, ..Default::default() };
        self.enroll_as(bench, stated, None, |sent| made.identity(&sent.sealed, &sent.statement)).await
    }

    async fn attest(&mut self, bench: &Bench) -> Result<Outcome, Refusal> {
        let device = "meter-4".to_owned();
        let request = v1::BeginAttestationRequest { versions: vec![1], device, ..Default::default() };
        let begun = begin::attestation(&bench.plant, &request).await?;
        let stated = v1::Statement { purpose: v1::Purpose::Renew.into(), ..Default::default() };
        let (request, next) = self.answer(begun.challenge.unwrap().sealed, &begun.expected_key, stated);
        let response = complete::complete(&bench.plant, request, Door::Attestation).await?;
        Ok(self.take(next, response))
    }

    fn take(&mut self, next: KeyPair, response: v1::CompleteResponse) -> Outcome {
        let outcome = response.outcome.unwrap();
        if let Outcome::Issued(issued) = &outcome {
            (self.key, self.ticket) = (next, issued.key_ticket.clone());
        }
        outcome
    }
}

fn meter() -> DeviceName {
    "meter-4".parse().unwrap()
}

/// A plant with a yard that asks for no TPM, and a meter that is registered there by its IDevID.
async fn registered() -> (Bench, Maker, TestBox) {
    let (bench, maker) = bench().await;
    let least = LeastClaims::new([(Claim::InstanceIdentity, ClaimValue::AFFIRMING)].into());
    bench.zone(&Zone { least, ..observing("yard") }).await;
    let made = maker.in_file("77");
    register(&bench, "meter-4", "yard", made.digest(&maker)).await;
    (bench, maker, made)
}

#[tokio::test]
async fn a_registered_box_without_a_tpm_joins_by_its_idevid() {
    let (bench, maker, made) = registered().await;
    let text = refused!(Meter::new().join(&bench, &made, "meter-5").await, NotAdmitted);
    assert!(text.contains("is registered as meter-4; set `device` in attestor.toml"), "{text}");
    let mut box_ = Meter::new();
    let Outcome::Issued(issued) = box_.join(&bench, &made, "meter-4").await.unwrap() else {
        panic!("it waits")
    };
    assert_eq!(issued.zones, ["yard"]);
    box_.attest(&bench).await.unwrap();
    let device: Device = bench.read(device_key(&meter())).await;
    let number = device.key_line().map(|line| line.generation);
    assert_eq!((device.ek, number), (made.digest(&maker), Some(2)));
    let known: BoxIdentity = bench.read(idevid_key(&meter())).await;
    assert_eq!((known.serial.as_str(), known.tie), ("77", Tie::WithoutTpm));
    let inventory: Inventory = bench.read(inventory_key(&meter())).await;
    assert_eq!(inventory.values["serial"].value, "77");
}

#[tokio::test]
async fn a_box_that_nobody_registered_waits_for_a_person() {
    let (bench, maker, _) = registered().await;
    let made = maker.in_file("78");
    let Outcome::Pending(_) = Meter::new().join(&bench, &made, "meter-5").await.unwrap() else {
        panic!("nobody admitted it")
    };
    let waiting: Pending = bench.read(pending_key(&made.digest(&maker))).await;
    assert_eq!(waiting.tpm, "no TPM; IDevID 78 by Box Works");
}

#[tokio::test]
async fn a_box_that_nobody_registered_is_let_in_where_every_zone_says_so() {
    let (bench, maker, _) = registered().await;
    bench.zone(&Zone { idevid_admits: true, ..observing("hall") }).await;
    let set = async |on| {
        let settings = zone::Settings { idevid_admits: Some(on), ..Default::default() };
        let (yard, actor) = ("yard".parse().unwrap(), bench.actor(Act::SetZone).await);
        zone::set(&bench.plant, &actor, &yard, &settings, false).await.unwrap();
    };
    let made = maker.in_file("78");
    let waits = async |zones: &[&str]| {
        matches!(Meter::new().ask(&bench, &made, zones).await.unwrap(), Outcome::Pending(_))
    };
    assert!(waits(&["yard"]).await, "the yard does not say so");
    set(true).await;
    assert!(waits(&[]).await, "it asks for no zone");
    assert!(waits(&["yard", "cell-3"]).await, "cell-3 does not");
    let text = refused!(Meter::new().ask(&bench, &made, &["hall"]).await, NotAdmitted);
    assert!(text.starts_with("zone hall asks for hardware, which a device without a TPM"), "{text}");
    let stranger = Maker::new("Other Root").in_file("78");
    refused!(Meter::new().ask(&bench, &stranger, &["yard"]).await, NotEndorsed);

    let mut box_ = Meter::new();
    let Outcome::Issued(issued) = box_.ask(&bench, &made, &["yard"]).await.unwrap() else {
        panic!("it waits")
    };
    assert_eq!((issued.device.as_str(), issued.zones), ("meter-5", vec!["yard".to_owned()]));
    let name = "meter-5".parse().unwrap();
    let device: Device = bench.read(device_key(&name)).await;
    assert_eq!(device.admitted_by, "IDevID 78 by Box Works");
    let left: Option<Held<Pending>> =
        fetch(bench.plant.store.as_ref(), pending_key(&made.digest(&maker))).await.unwrap();
    assert!(left.is_none(), "it waits for nobody any more");
    let text = refused!(Meter::new().ask(&bench, &maker.in_file("80"), &["yard"]).await, Conflict);
    assert!(text.contains("the name meter-5 belongs to another device"), "{text}");
    // Registered or not, it is stopped as any other.
    let actor = bench.actor(Act::QuarantineDevice).await;
    stop::quarantine(&bench.plant, &actor, &name, "stolen").await.unwrap();
    refused!(Meter::new().ask(&bench, &made, &["yard"]).await, Quarantined);
}

#[tokio::test]
async fn a_zone_that_asks_for_a_tpm_takes_no_idevid_in_its_place() {
    let (bench, maker, _) = registered().await;
    let made = maker.in_file("79");
    register(&bench, "meter-9", "cell-3", made.digest(&maker)).await;
    let text = refused!(Meter::new().join(&bench, &made, "meter-9").await, NotAdmitted);
    assert!(text.starts_with("zone cell-3 asks for hardware, which a device without a TPM"), "{text}");
}

#[tokio::test]
async fn an_idevid_that_does_not_hold_lets_nobody_join() {
    let (bench, maker, made) = registered().await;
    let stranger = Maker::new("Other Root").in_file("77");
    let text = refused!(Meter::new().join(&bench, &stranger, "meter-4").await, NotEndorsed);
    assert!(text.contains("does not chain to a root of the device's manufacturer"), "{text}");
    let other = maker.in_file("77");
    let wrong_key = |sent: &v1::CompleteRequest| v1::ManufacturerIdentity {
        certificate: made.certificate.clone(),
        ..other.identity(&sent.sealed, &sent.statement)
    };
    let text = refused!(Meter::new().enroll(&bench, "meter-4", wrong_key).await, NotEndorsed);
    assert!(text.contains("did not sign this challenge and statement"), "{text}");
    let replayed = |sent: &v1::CompleteRequest| made.identity(b"another session", &sent.statement);
    let text = refused!(Meter::new().enroll(&bench, "meter-4", replayed).await, NotEndorsed);
    assert!(text.contains("did not sign this challenge and statement"), "{text}");
    // The name of a registered box is not enough.
    let other = Meter::new().join(&bench, &other, "meter-4").await.unwrap();
    assert!(matches!(other, Outcome::Pending(_)), "another box waits, whatever name it asks for");
}

#[tokio::test]
async fn a_box_that_lost_its_keys_joins_again_and_a_copy_is_found_out() {
    let (bench, _, made) = registered().await;
    let mut box_ = Meter::new();
    box_.join(&bench, &made, "meter-4").await.unwrap();
    box_.attest(&bench).await.unwrap();
    let mut reinstalled = Meter::new();
    reinstalled.join(&bench, &made, "meter-4").await.unwrap();
    reinstalled.attest(&bench).await.unwrap();

    let honest = reinstalled.copied();
    let mut thief = Meter::new();
    thief.join(&bench, &made, "meter-4").await.unwrap();
    let mut honest = honest;
    let text = refused!(honest.attest(&bench).await, Quarantined);
    assert!(text.contains("clone alarm"), "{text}");
    refused!(thief.attest(&bench).await, Quarantined);
    // The stop is the box's, whatever name it takes.
    refused!(Meter::new().join(&bench, &made, "meter-4").await, Quarantined);
    refused!(Meter::new().join(&bench, &made, "meter-5").await, Quarantined);
}

#[tokio::test]
async fn after_a_clone_alarm_a_token_brings_the_box_back_and_not_the_idevid_alone() {
    let (bench, maker, made) = registered().await;
    let (mut box_, mut thief) = (Meter::new(), Meter::new());
    box_.join(&bench, &made, "meter-4").await.unwrap();
    thief.join(&bench, &made, "meter-4").await.unwrap();
    refused!(box_.attest(&bench).await, Quarantined);
    bench.clock.set(NOW.plus(60));
    let actor = bench.actor(Act::ReadmitDevice).await;
    stop::readmit(&bench.plant, &actor, (&meter(), None), "the thief's disk is found").await.unwrap();
    refused!(Meter::new().join(&bench, &made, "meter-4").await, Quarantined);

    let request = token::Request {
        zones: vec!["yard".parse().unwrap()],
        device: Some(meter()),
        ek: None,
        lifetime: 0,
        without_tpm: true,
    };
    let actor = bench.actor(Act::CreateToken).await;
    let token = token::create(&bench.plant, &actor, &request).await.unwrap().text.to_string();
    let stated = || v1::Statement { device: "meter-4".to_owned(), ..Default::default() };
    let shown = |sent: &v1::CompleteRequest| made.identity(&sent.sealed, &sent.statement);
    // Whoever copied the box has its IDevID, and a key of before: neither is enough.
    let (id, _) = token.rsplit_once('.').unwrap();
    let guessed = format!("{id}.{}", "00".repeat(32));
    refused!(thief.enroll_as(&bench, stated(), Some(&guessed), shown).await, Quarantined);
    let mut anew = Meter::new();
    anew.enroll_as(&bench, stated(), Some(&token), shown).await.unwrap();
    anew.attest(&bench).await.unwrap();
    let device: Device = bench.read(device_key(&meter())).await;
    assert_eq!(device.ek, made.digest(&maker), "it is the box of that IDevID still");
    assert!(bench.read::<Tpm>(ek_key(&device.ek)).await.quarantine.is_none(), "the token lifts it");
    refused!(thief.attest(&bench).await, NotAdmitted);
}

#[tokio::test]
async fn a_stop_holds_for_the_box_under_any_name() {
    let (bench, _, made) = registered().await;
    Meter::new().join(&bench, &made, "meter-4").await.unwrap();
    let actor = bench.actor(Act::QuarantineDevice).await;
    stop::quarantine(&bench.plant, &actor, &meter(), "stolen").await.unwrap();
    for name in ["meter-4", "meter-5"] {
        let text = refused!(Meter::new().join(&bench, &made, name).await, Quarantined);
        assert!(text.contains("stolen"), "{text}");
    }
}
