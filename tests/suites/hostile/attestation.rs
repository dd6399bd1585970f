//! Attestation: each part of the evidence, bent alone.

use std::fs;

use attestor::client::Calls as _;
use attestor::tpm::{PcrBank, PcrSelection};
use e2e::{Device, World};
use policy::evidence::{Purpose, qualifying_data};
use prost::Message;
use proto::v1;
use proto::v1::DenialReason as Reason;

use super::thief::{Thief, denied, issued};

/// What is bent, how, the reason and a word of the refusal.
type Case = (&'static str, fn(&mut v1::CompleteRequest), Reason, &'static str);

const CASES: [Case; 17] = [
    ("statement: garbage", |r| r.statement = vec![0xff; 40], Reason::Malformed, "statement"),
    ("statement: oversized", |r| r.statement.resize(1 << 20, 0), Reason::Malformed, "at most"),
    (
        "statement: changed",
        |r| restate(r, |s| s.device_time += 1),
        Reason::EvidenceInvalid,
        "another statement",
    ),
    (
        "statement: other device",
        |r| restate(r, |s| s.device = "other".into()),
        Reason::EvidenceInvalid,
        "device",
    ),
    ("statement: other AK", |r| restate(r, |s| s.ak_name[5] ^= 1), Reason::EvidenceInvalid, "AK Name"),
    ("challenge: garbage", |r| r.sealed = vec![0; 64], Reason::MustReattest, "challenge"),
    ("challenge: cut", |r| r.sealed.truncate(2), Reason::MustReattest, "cut short"),
    ("challenge: changed", |r| *last(&mut r.sealed) ^= 1, Reason::MustReattest, "was changed"),
    ("challenge: oversized", |r| r.sealed.resize(9 << 10, 0), Reason::Malformed, "at most"),
    ("quote: changed", |r| r.quote[40] ^= 1, Reason::EvidenceInvalid, "quote"),
    ("quote: no signature", |r| r.quote_signature.clear(), Reason::EvidenceInvalid, "quote"),
    ("PCR: changed", |r| r.pcr_values[4][0] ^= 1, Reason::EvidenceInvalid, "PCR"),
    ("PCR: one missing", |r| drop(r.pcr_values.pop()), Reason::Malformed, "PCR"),
    ("log: cut", |r| r.firmware_log.truncate(4000), Reason::EvidenceInvalid, "firmware log"),
    ("key: other CSR", |r| r.identity_keys.swap(0, 1), Reason::EvidenceInvalid, "identity key"),
    ("key: not certified", |r| r.identity_keys[0].certify.clear(), Reason::EvidenceInvalid, "identity key"),
    ("EK: garbage", |r| r.ek_public = vec![1; 9], Reason::Malformed, "EK"),
];

fn last(bytes: &mut [u8]) -> &mut u8 {
    bytes.last_mut().expect("there are bytes")
}

fn restate(request: &mut v1::CompleteRequest, change: fn(&mut v1::Statement)) {
    let mut statement = v1::Statement::decode(request.statement.as_slice()).expect("a statement");
    change(&mut statement);
    request.statement = statement.encode_to_vec();
}

/// Two devices in the state of the same boot; the first is enrolled in `press`.
async fn devices() -> Option<(World, [Device; 2], Thief, Thief)> {
    let (world, devices) = World::with_devices(["press-1", "press-2"])?;
    world.admin("zone create press --mode observe");
    devices.iter().for_each(|device| device.measure("boot-a"));
    let (mut press, mut other) = (Thief::of(&devices[0]).await, Thief::of(&devices[1]).await);
    world.register(&devices[0], "press");
    press.make_keys("press").await;
    other.make_keys("press").await;
    press.enroll().await;
    Some((world, devices, press, other))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_with_one_part_bent_is_refused_by_its_reason_and_changes_nothing() {
    let Some((world, devices, press, other)) = devices().await else { return };
    let before = world.store();
    let honest = press.request().await;
    let mut wrong = Vec::new();
    for (case, bend, reason, word) in CASES {
        let mut request = honest.clone();
        bend(&mut request);
        let (said, message) = denied(press.complete(request).await);
        if said != reason || !message.contains(word) {
            wrong.push(format!("{case}: not {reason:?} with `{word}` but {said:?}: {message}"));
        }
    }
    for (case, request, word) in mixed(&press, &other, &honest).await {
        let (said, message) = denied(press.complete(request).await);
        if said != Reason::EvidenceInvalid || !message.contains(word) {
            wrong.push(format!("{case}: not EvidenceInvalid with `{word}` but {said:?}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (reason, message) = denied(press.complete(with_cut_log(&press, &devices[0]).await).await);
    assert_eq!(reason, Reason::EvidenceInvalid, "a log that ends early, and is stated so: {message}");
    let huge = v1::CompleteRequest { firmware_log: vec![0; 3 << 20], ..honest.clone() };
    let (reason, message) = denied(press.complete(huge).await);
    assert_eq!(reason, Reason::Malformed, "{message}");
    assert!(message.contains("larger than"), "{message}");
    assert_eq!(world.store(), before, "a refusal changes nothing");

    let older = press.request().await;
    press.complete(honest.clone()).await.expect("the honest answer is accepted");
    let after = world.store();
    assert_ne!(after, before);
    for (case, request) in [("a replay", honest), ("a challenge from before", older)] {
        let (reason, message) = denied(press.complete(request).await);
        assert_eq!(reason, Reason::MustReattest, "{case}: {message}");
    }
    assert_eq!(world.store(), after, "a replay changes nothing");
}

/// Parts of two honest answers, put together.
async fn mixed(
    press: &Thief,
    other: &Thief,
    honest: &v1::CompleteRequest,
) -> Vec<(&'static str, v1::CompleteRequest, &'static str)> {
    let mut cases = Vec::new();
    let mut add = |case, word, bend: &dyn Fn(&mut v1::CompleteRequest)| {
        let mut request = honest.clone();
        bend(&mut request);
        cases.push((case, request, word));
    };
    let ak = other.prover.attestation_key().to_vec();
    add("the AK of another TPM", "attestation key is not the one", &|r| r.ak_public.clone_from(&ak));

    let qualifying = qualifying_data(Purpose::Quote, &honest.sealed, &honest.statement);
    let tpm = other.prover.tpm();
    let quote = tpm.quote(qualifying.to_vec(), PcrBank::Sha256, PcrSelection::QUOTED).await.expect("a quote");
    add("a quote by another AK", "quote", &|r| {
        (r.quote, r.quote_signature) = (quote.attest.clone(), quote.signature.clone());
    });
    let earlier = press.request().await;
    add("a quote for another challenge", "another statement", &|r| {
        (r.quote, r.quote_signature) = (earlier.quote.clone(), earlier.quote_signature.clone());
    });
    add("a key certified for another challenge", "identity key", &|r| {
        let (key, old) = (&mut r.identity_keys[0], &earlier.identity_keys[0]);
        (key.certify, key.certify_signature) = (old.certify.clone(), old.certify_signature.clone());
    });
    cases
}

/// An honest answer about a log that lacks its last events.
async fn with_cut_log(press: &Thief, device: &Device) -> v1::CompleteRequest {
    let file = device.path("eventlog.bin");
    let whole = fs::read(&file).expect("the device's log");
    let log = policy::eventlog::tcg::EventLog::parse(&whole).expect("a log");
    let end = log.events()[log.events().len() - 8].offset;
    fs::write(&file, &whole[..end]).expect("the device's log");
    let request = press.request().await;
    fs::write(&file, &whole).expect("the device's log");
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_gets_nothing_for_other_zones_other_names_and_other_tpms() {
    let Some((world, _devices, mut press, other)) = devices().await else { return };
    let before = world.store();
    let begin = |request| async { denied(press.connection.begin_attestation(request).await) };
    let nobody = v1::BeginAttestationRequest { device: "nobody".into(), ..press.attestation() };
    assert_eq!(begin(nobody).await.0, Reason::NotFound);
    let taken = v1::BeginAttestationRequest { device: "press-1".into(), ..other.attestation() };
    assert_eq!(begin(taken).await.0, Reason::NotFound, "another AK under the name of press-1");
    let odd = v1::BeginAttestationRequest { device: "../press".into(), ..press.attestation() };
    assert_eq!(begin(odd).await.0, Reason::Malformed);
    assert_eq!(world.store(), before, "a refusal changes nothing");

    // Keys of a zone that is not the device's, and of one that does not exist, get no certificate and the same reason.
    world.admin("zone create vision --mode observe");
    press.make_keys("vision").await;
    press.make_keys("nowhere").await;
    let request = press.request().await;
    let got = issued(press.complete(request).await.expect("the device itself is good"));
    let zones: Vec<&str> = got.svids.iter().map(|svid| svid.zone.as_str()).collect();
    assert_eq!(zones, ["press", "press"]);
    let refused =
        got.refused_keys.iter().map(|key| (key.zone.as_str(), key.denial.as_ref().expect("a reason")));
    let (zones, denials): (Vec<&str>, Vec<_>) = refused.unzip();
    assert_eq!(zones, ["nowhere", "vision"]);
    for (zone, denial) in zones.iter().zip(denials) {
        assert_eq!(denial.reason(), Reason::NotAdmitted);
        let why = format!("press-1 is not in zone {zone}; `touchstone device admit press-1`");
        assert!(denial.message.starts_with(&why), "{}", denial.message);
    }
}
