//! The last appraisal of a device as a signed result.

use policy::appraisal::claims::{Claim, ClaimValue, Claims, Tier};
use policy::appraisal::ear::SUBMOD;
use policy::appraisal::{AppraisalRecord, Verdict};
use policy::id::DeviceName;
use policy::time::UnixTime;

use super::{Bench, NOW, enforcing, refused};
use crate::admin::Act;
use crate::admin::device::result::{Recorded, result};
use crate::admin::device::stop;
use crate::admin::reach::Scope;
use crate::ear::{EarKey, TokenError, verify};
use crate::record::device::{Attested, Decision, Device, attested_key, device_key};
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::plant::{EAR, TokenSigning};
use crate::record::stored;
use crate::session::recorded::Results;
use crate::store::Txn;

fn record(zone: &str, executables: ClaimValue) -> AppraisalRecord {
    let mut claims = Claims::default();
    claims.lower_to(Claim::Executables, executables);
    AppraisalRecord {
        zone: zone.parse().unwrap(),
        at: NOW,
        verdict: Verdict::Affirming,
        claims,
        release: Some("edge-box@1.4".parse().unwrap()),
        closest: None,
        findings: Vec::new(),
        findings_left_out: 0,
        not_appraised: Vec::new(),
    }
}

/// A plant with a device that was appraised in these zones.
async fn appraised(zones: &[&str], decision: Decision) -> (Bench, DeviceName) {
    let bench = Bench::new().await;
    for zone in zones {
        bench.zone(&enforcing(zone)).await;
    }
    let press = bench.device("press-7", zones).await;
    bench.attest(&press, "boot-a", decision).await;
    let records = zones.iter().map(|zone| record(zone, ClaimValue::BOOT_APPROVED)).collect();
    let results = Results { device: press.clone(), counter: 1, zones: records };
    let attested: Attested = bench.read(attested_key(&press)).await;
    let blob = bench.plant.blobs.put(serde_json::to_vec(&results).unwrap()).await.unwrap();
    let attested = Attested { result: blob, ..attested };
    let txn = Txn::new().put(attested_key(&press), stored(&attested).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    (bench, press)
}

/// Puts `name` into another zone, as if an administrator had moved it.
async fn move_to(bench: &Bench, name: &DeviceName, zone: &str) {
    let device: Device = bench.read(device_key(name)).await;
    let device = Device { zones: vec![zone.parse().unwrap()], ..device };
    let txn = Txn::new().put(device_key(name), stored(&device).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
}

fn token(recorded: Recorded) -> (String, UnixTime) {
    let ear = recorded.ear.unwrap();
    (ear.token, ear.expires)
}

#[tokio::test]
async fn a_result_is_believed_until_the_next_proof_is_due() {
    let (bench, press) = appraised(&["cell-3"], Decision::Trusted).await;
    bench.certificate(&press, "cell-3", 0x41).await;
    bench.clock.set(NOW.plus(60));
    let (ear, expires) = token(result(&bench.plant, &Scope::Plant, &press, None, true).await.unwrap());
    assert_eq!(expires, NOW.plus(900), "the zone's reattest_every");
    let jwks = EarKey::open(&bench.plant).await.unwrap().jwks();
    let signed = verify(&ear, &jwks, NOW.plus(60)).unwrap();
    assert_eq!((signed.iss.as_str(), signed.ear.iat), ("plant.example", NOW.0));
    assert_eq!(signed.sub, "spiffe://cell-3.plant.example/device/press-7");
    let submod = &signed.ear.submods[SUBMOD];
    assert_eq!(submod.ear_status, Tier::Affirming);
    assert_eq!(submod.ear_appraisal_policy_ids, ["zone/cell-3", "release/edge-box@1.4"]);
    let late = verify(&ear, &jwks, NOW.plus(905));
    assert!(matches!(late, Err(TokenError::Ear(_))), "{late:?}");
    bench.clock.set(NOW.plus(900));
    let text = refused!(result(&bench.plant, &Scope::Plant, &press, None, true).await, NotFound);
    assert!(text.contains("touchstone device attest press-7"), "{text}");
    assert!(result(&bench.plant, &Scope::Plant, &press, None, false).await.unwrap().ear.is_none());
}

#[tokio::test]
async fn a_result_does_not_outlive_the_certificates() {
    let (bench, press) = appraised(&["cell-3"], Decision::Trusted).await;
    let mut zone = enforcing("cell-4");
    zone.timing = policy::zone::Timing::new(7_200, 28_800, None).unwrap();
    bench.zone(&zone).await;
    move_to(&bench, &press, "cell-4").await;
    bench.certificate(&press, "cell-4", 0x41).await;
    let attested: Attested = bench.read(attested_key(&press)).await;
    let zones = vec![record("cell-4", ClaimValue::BOOT_APPROVED)];
    let results = Results { device: press.clone(), counter: 2, zones };
    let blob = bench.plant.blobs.put(serde_json::to_vec(&results).unwrap()).await.unwrap();
    let txn = Txn::new().put(attested_key(&press), stored(&Attested { result: blob, ..attested }).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let (_, expires) = token(result(&bench.plant, &Scope::Plant, &press, None, true).await.unwrap());
    assert_eq!(expires, NOW.plus(3_600), "its certificate ends before the next proof is due");
}

#[tokio::test]
async fn one_key_signs_and_is_stored_wrapped() {
    let (bench, press) = appraised(&["cell-3"], Decision::Trusted).await;
    let (first, second) =
        (EarKey::open(&bench.plant).await.unwrap(), EarKey::open(&bench.plant).await.unwrap());
    assert_eq!(first.jwks(), second.jwks());
    let stored: TokenSigning = bench.read(EAR.to_owned()).await;
    let opened = bench.plant.kek.open(EAR.as_bytes(), &stored.wrapped_key.0).unwrap();
    assert_eq!(EarKey::from_pkcs8(&opened).unwrap().jwks(), first.jwks());
    assert!(!stored.wrapped_key.0.windows(opened.len()).any(|window| window == opened.as_slice()));
    let (ear, _) = token(result(&bench.plant, &Scope::Plant, &press, None, true).await.unwrap());
    assert!(verify(&ear, &first.jwks(), NOW).is_ok());
}

#[tokio::test]
async fn a_gateway_must_say_which_zone_is_meant() {
    let (bench, gateway) = appraised(&["cell-3", "cell-4"], Decision::Trusted).await;
    let text = refused!(result(&bench.plant, &Scope::Plant, &gateway, None, true).await, Malformed);
    assert!(text.contains("--zone: cell-3, cell-4"), "{text}");
    let zone = "cell-4".parse().unwrap();
    let recorded = result(&bench.plant, &Scope::Plant, &gateway, Some(&zone), true).await.unwrap();
    assert_eq!(recorded.record.zone, zone);
    let other = "cell-5".parse().unwrap();
    let text = refused!(result(&bench.plant, &Scope::Plant, &gateway, Some(&other), true).await, NotFound);
    assert!(text.contains("no result of press-7 in zone cell-5"), "{text}");
}

#[tokio::test]
async fn nothing_is_signed_for_a_device_that_was_stopped_or_is_silent() {
    let (bench, press) = appraised(&["cell-3"], Decision::Trusted).await;
    let actor = bench.actor(Act::QuarantineDevice).await;
    stop::quarantine(&bench.plant, &actor, &press, "odd traffic").await.unwrap();
    refused!(result(&bench.plant, &Scope::Plant, &press, None, true).await, Quarantined);
    assert!(
        result(&bench.plant, &Scope::Plant, &press, None, false).await.is_ok(),
        "what was recorded is still shown"
    );

    let (bench, press) = appraised(&["cell-3"], Decision::Silent).await;
    let text = refused!(result(&bench.plant, &Scope::Plant, &press, None, true).await, NotFound);
    assert!(text.contains("press-7 is silent"), "{text}");
    let never = bench.device("press-8", &["cell-3"]).await;
    let text = refused!(result(&bench.plant, &Scope::Plant, &never, None, false).await, NotFound);
    assert!(text.contains("has not attested yet"), "{text}");
}

/// The refusal to sign, which asks for a new attestation and hides nothing that was recorded.
async fn unsigned(bench: &Bench, press: &DeviceName) -> String {
    let text = refused!(result(&bench.plant, &Scope::Plant, press, None, true).await, NotFound);
    assert!(text.ends_with("; ask for a new one with `touchstone device attest press-7`"), "{text}");
    assert!(
        result(&bench.plant, &Scope::Plant, press, None, false).await.is_ok(),
        "what was recorded is still shown"
    );
    text
}

#[tokio::test]
async fn nothing_is_signed_once_the_golden_releases_changed() {
    let (bench, press) = appraised(&["cell-3"], Decision::Trusted).await;
    token(result(&bench.plant, &Scope::Plant, &press, None, true).await.unwrap());
    let txn = Txn::new().put(GOLDEN, stored(&GoldenHead { n: 1 }).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let text = unsigned(&bench, &press).await;
    assert!(text.contains("the golden releases or their states were changed since"), "{text}");
}

#[tokio::test]
async fn nothing_is_signed_for_a_tpm_with_a_clone_alarm() {
    let (bench, press) = appraised(&["cell-3"], Decision::Trusted).await;
    let attested: Attested = bench.read(attested_key(&press)).await;
    let attested = Attested { clone_alarm: true, ..attested };
    let txn = Txn::new().put(attested_key(&press), stored(&attested).unwrap());
    bench.plant.store.transact(txn).await.unwrap();
    let text = unsigned(&bench, &press).await;
    assert!(text.contains("press-7 is pending, so its last result no longer speaks for it"), "{text}");
}

#[tokio::test]
async fn nothing_is_signed_for_a_zone_that_the_device_left() {
    let (bench, press) = appraised(&["cell-3"], Decision::Trusted).await;
    bench.zone(&enforcing("cell-4")).await;
    move_to(&bench, &press, "cell-4").await;
    let text = unsigned(&bench, &press).await;
    assert!(text.contains("the device left zone cell-3 since"), "{text}");
}
