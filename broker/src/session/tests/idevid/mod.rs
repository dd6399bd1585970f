//! Devices that show an IDevID.

mod keyed;
mod maker;

use policy::digest::Digest;
use policy::id::DeviceName;
use policy::tpm::public::{AttestationKey, PublicKey};
use policy::x509::oid;
use policy::zone::Zone;
use proto::v1;
use proto::v1::complete_response::Outcome;
use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose, SubjectPublicKeyInfo, date_time_ymd};

use self::maker::{Maker, TestBox};
use super::tpm::TestTpm;
use crate::admin::Act;
use crate::admin::device::import::{Entry, import};
use crate::admin::device::{admit, retire, stop};
use crate::admin::tests::{Bench, observing, refused};
use crate::record::device::{
    Attested, Decision, Device, Inventory, Pending, Source, Tpm, attested_key, device_key, ek_key,
    inventory_key, pending_key,
};
use crate::record::fetch;
use crate::record::idevid::{BoxIdentity, Tie, idevid_key};
use crate::session::challenge::Door;
use crate::session::{Refusal, complete};

/// A plant that trusts a maker of boxes.
async fn bench() -> (Bench, Maker) {
    let (mut bench, maker) = (Bench::new().await, Maker::new("Box Works Root"));
    bench.plant.idevid_roots = maker.roots();
    bench.zone(&observing("cell-3")).await;
    (bench, maker)
}

async fn register(bench: &Bench, name: &str, zone: &str, digest: Digest) {
    let zones = vec![zone.parse().unwrap()];
    let entry = Entry { name: name.parse().unwrap(), zones, ek: digest, inventory: [].into() };
    import(&bench.plant, &bench.actor(Act::ImportDevices).await, &[entry], false).await.unwrap();
}

fn press(number: u8) -> DeviceName {
    format!("press-{number}").parse().unwrap()
}

/// Enrolls the TPM in the box under `name`, with what `bend` makes of the honest answer.
async fn enroll_bent(
    bench: &Bench,
    (tpm, made): (&mut TestTpm, &TestBox),
    name: &str,
    bend: impl FnOnce(&mut v1::ManufacturerIdentity),
) -> Result<v1::CompleteResponse, Refusal> {
    let request = tpm.answer(&bench.plant, name).await?;
    let mut request = made.shown_by(tpm, request);
    if let Some(shown) = &mut request.idevid {
        bend(shown);
    }
    complete::complete(&bench.plant, request, Door::Enrollment).await
}

async fn enroll(
    bench: &Bench,
    device: (&mut TestTpm, &TestBox),
    name: &str,
) -> Result<v1::CompleteResponse, Refusal> {
    enroll_bent(bench, device, name, |_| {}).await
}

async fn trusted(bench: &Bench, name: &DeviceName) -> bool {
    bench.read::<Attested>(attested_key(name)).await.decision != Decision::Refused
}

#[tokio::test]
async fn a_box_whose_idevid_key_is_in_the_tpm_needs_no_ek_certificate() {
    let (bench, maker) = bench().await;
    let (mut tpm, made) = (TestTpm::new(), maker.in_tpm("4711"));
    let response = enroll(&bench, (&mut tpm, &made), "press-7").await.unwrap();
    let Some(Outcome::Pending(_)) = response.outcome else { panic!("nobody admitted it") };
    let waiting: Pending = bench.read(pending_key(&tpm.ek_digest())).await;
    assert_eq!(waiting.tpm, "IDevID 4711 by Box Works");

    let request = admit::Request {
        device: crate::admin::device::DeviceRef::Ek(tpm.ek_digest()),
        name: None,
        zones: vec!["cell-3".parse().unwrap()],
        seen: None,
    };
    admit::admit(&bench.plant, &bench.actor(Act::AdmitDevice).await, &request).await.unwrap();
    enroll(&bench, (&mut tpm, &made), "press-7").await.unwrap();
    assert!(trusted(&bench, &press(7)).await, "hardware is affirmed");
    let known: BoxIdentity = bench.read(idevid_key(&press(7))).await;
    assert_eq!((known.serial.as_str(), known.manufacturer.as_str()), ("4711", "Box Works"));
    assert_eq!((known.digest, known.tie), (made.digest(&maker), Tie::Certify));
    let inventory: Inventory = bench.read(inventory_key(&press(7))).await;
    for (property, value) in [("model", "EdgeBox 9"), ("serial", "4711"), ("manufacturer", "Box Works")] {
        let known = &inventory.values[property];
        assert_eq!((known.value.as_str(), known.source), (value, Source::Attested), "{property}");
    }

    // Without it nothing vouches for the TPM, which counts at once.
    tpm.enroll(&bench.plant, "press-7").await.unwrap_err();
    assert!(!trusted(&bench, &press(7)).await);
}

#[tokio::test]
async fn a_box_with_a_tpm_that_nobody_registered_is_let_in_where_its_zone_says_so() {
    let (bench, maker) = bench().await;
    bench.zone(&Zone { idevid_admits: true, ..observing("cell-4") }).await;
    let (mut tpm, in_file) = (TestTpm::new(), maker.in_file("4711"));
    tpm.zones = vec!["cell-4".to_owned()];
    let refusal = enroll_bent(&bench, (&mut tpm, &in_file), "press-7", |shown| shown.certify.clear()).await;
    assert!(refusal.is_err(), "a key in a file vouches for no TPM");
    let made = maker.in_tpm("4711");
    let response = enroll(&bench, (&mut tpm, &made), "press-7").await.unwrap();
    let Some(Outcome::Issued(issued)) = response.outcome else { panic!("not admitted") };
    assert_eq!((issued.device.as_str(), issued.zones), ("press-7", vec!["cell-4".to_owned()]));
    let device: Device = bench.read(device_key(&press(7))).await;
    assert_eq!(device.admitted_by, "IDevID 4711 by Box Works");
    assert!(trusted(&bench, &press(7)).await);
    let (mut other, made) = (TestTpm::new(), maker.in_tpm("4712"));
    other.zones = vec!["cell-4".to_owned()];
    let text = refused!(enroll(&bench, (&mut other, &made), "press-7").await, Conflict);
    assert!(text.contains("the name press-7 belongs to another TPM"), "{text}");
}

#[tokio::test]
async fn a_device_is_registered_by_its_idevid_and_comes_with_its_tpm() {
    let (bench, maker) = bench().await;
    let (mut tpm, made) = (TestTpm::new(), maker.in_tpm("4711"));
    register(&bench, "press-7", "cell-3", made.digest(&maker)).await;
    let response = enroll(&bench, (&mut tpm, &made), "any-name").await.unwrap();
    let Some(Outcome::Issued(issued)) = response.outcome else { panic!("not admitted") };
    assert_eq!((issued.device.as_str(), issued.zones.len()), ("press-7", 1), "the registered name");
    let device: Device = bench.read(device_key(&press(7))).await;
    assert_eq!((device.ek, device.admitted_by.as_str()), (tpm.ek_digest(), "ada"));
    let left = fetch::<Tpm>(bench.plant.store.as_ref(), ek_key(&made.digest(&maker))).await.unwrap();
    assert!(left.is_none(), "the registration became the TPM's");
    assert!(!bench.read::<Tpm>(ek_key(&tpm.ek_digest())).await.registered, "its EK is nobody's word");
    enroll(&bench, (&mut tpm, &made), "press-7").await.unwrap();

    // The same box is no second device, by list or by itself.
    let (zones, ek) = (vec!["cell-3".parse().unwrap()], made.digest(&maker));
    let entry = Entry { name: press(8), zones, ek, inventory: [].into() };
    let actor = bench.actor(Act::ImportDevices).await;
    let text = refused!(import(&bench.plant, &actor, &[entry], false).await, Conflict);
    assert!(text.contains("is press-7's, the list gives it to press-8"), "{text}");
    tpm.switch_ek();
    tpm.switch_ak();
    let text = refused!(enroll(&bench, (&mut tpm, &made), "press-8").await, Conflict);
    assert!(
        text.contains("is press-7 already") && text.contains("touchstone device replace press-7"),
        "{text}"
    );
}

#[tokio::test]
async fn an_idevid_that_does_not_hold_vouches_for_nothing() {
    let (bench, maker) = bench().await;
    let (mut tpm, made) = (TestTpm::new(), maker.in_tpm("4711"));
    let in_tpm: [&[u8]; 2] = [oid::TCG_VERIFIED_RESIDENCY, oid::TCG_VERIFIED_FIXED];
    let stranger = Maker::new("Other Root").certify(&made.key, "4711", &in_tpm, |_| {});
    let ended =
        maker.certify(&made.key, "4711", &in_tpm, |params| params.not_after = date_time_ymd(2026, 1, 1));
    let authority = maker.certify(&made.key, "4711", &in_tpm, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    });
    let other_key = maker.in_tpm("4711").certificate;
    let cases = [
        (stranger, "does not chain to a root of the device's manufacturer"),
        (ended, "does not chain to a root of the device's manufacturer: "),
        (authority, "is a certification authority, no device"),
        (other_key, "did not sign this challenge and statement"),
        (vec![0x30], "the IDevID certificate"),
    ];
    let before = bench.revision();
    for (certificate, reason) in cases {
        let bend = |shown: &mut v1::ManufacturerIdentity| shown.certificate = certificate;
        let text = refused!(enroll_bent(&bench, (&mut tpm, &made), "press-7", bend).await, NotEndorsed);
        assert!(
            text.contains("its IDevID does not vouch for it: ") && text.contains(reason),
            "{reason}: {text}"
        );
    }
    assert_eq!(bench.revision(), before, "nobody is stored");
}

#[tokio::test]
async fn a_signature_of_another_session_is_no_proof() {
    let (bench, maker) = bench().await;
    let (mut tpm, made) = (TestTpm::new(), maker.in_tpm("4711"));
    let old = tpm.answer(&bench.plant, "press-7").await.unwrap();
    let old = made.shown_by(&mut tpm, old).idevid.unwrap();
    let (signature, certify) = (old.signature.clone(), old);
    let bend = |shown: &mut v1::ManufacturerIdentity| shown.signature = signature;
    let text = refused!(enroll_bent(&bench, (&mut tpm, &made), "press-7", bend).await, NotEndorsed);
    assert!(text.contains("did not sign this challenge and statement"), "{text}");
    let bend = |shown: &mut v1::ManufacturerIdentity| {
        (shown.certify, shown.certify_signature) = (certify.certify, certify.certify_signature);
    };
    let text = refused!(enroll_bent(&bench, (&mut tpm, &made), "press-7", bend).await, NotEndorsed);
    assert!(text.contains("the certification answers another challenge or another statement"), "{text}");
}

#[tokio::test]
async fn the_idevid_of_box_a_does_not_vouch_for_the_tpm_of_box_b() {
    let (bench, maker) = bench().await;
    let (mut tpm, mut other, made) = (TestTpm::new(), TestTpm::new(), maker.in_tpm("4711"));
    // A signs for B, and its TPM certifies the key; B's AK cannot.
    let request = other.answer(&bench.plant, "press-8").await.unwrap();
    let relayed = made.shown_by(&mut tpm, request);
    let text = refused!(complete::complete(&bench.plant, relayed, Door::Enrollment).await, NotEndorsed);
    assert!(text.contains("is not signed by the device's attestation key"), "{text}");
    let bare = |shown: &mut v1::ManufacturerIdentity| shown.certify.clear();
    let text = refused!(enroll_bent(&bench, (&mut other, &made), "press-8", bare).await, NotEndorsed);
    assert!(text.contains("the attestation key does not certify its key"), "{text}");

    // Once A is a device, whoever shows its IDevID is told so.
    register(&bench, "press-7", "cell-3", made.digest(&maker)).await;
    enroll(&bench, (&mut tpm, &made), "press-7").await.unwrap();
    let text = refused!(enroll_bent(&bench, (&mut other, &made), "press-8", bare).await, Conflict);
    assert!(text.contains("is press-7 already"), "{text}");
}

#[tokio::test]
async fn who_has_an_idevid_key_in_a_file_poses_as_no_tpm() {
    let (bench, maker) = bench().await;
    let (mut tpm, made) = (TestTpm::new(), maker.in_file("4711"));
    register(&bench, "press-7", "cell-3", made.digest(&maker)).await;
    let text = refused!(enroll(&bench, (&mut tpm, &made), "press-7").await, NotEndorsed);
    assert!(text.contains("lacks policy tcg-cap-verifiedTPMResidency"), "{text}");
    assert!(text.contains("register the device's EK"), "{text}");
}

#[tokio::test]
async fn the_makers_certificate_of_the_attestation_key_vouches_for_it() {
    let (bench, maker) = bench().await;
    let (mut tpm, made) = (TestTpm::new(), maker.in_file("4711"));
    register(&bench, "press-7", "cell-3", made.digest(&maker)).await;
    let policies: [&[u8]; 3] =
        [oid::TCG_VERIFIED_RESIDENCY, oid::TCG_VERIFIED_FIXED, oid::TCG_VERIFIED_RESTRICTED];
    let request = tpm.answer(&bench.plant, "press-7").await.unwrap();
    let ak = AttestationKey::accept(&request.ak_public).unwrap();
    let PublicKey::Ecc { .. } = ak.public().key() else { panic!("an AK on P-256") };
    let spki = SubjectPublicKeyInfo::from_der(&ak.public().spki_der()).unwrap();
    let of = |serial| maker.certify(&spki, serial, &policies, |_| {});
    let show = |iak_certificate| {
        let idevid = made.identity(&request.sealed, &request.statement);
        let idevid = Some(v1::ManufacturerIdentity { iak_certificate, ..idevid });
        v1::CompleteRequest { idevid, ..request.clone() }
    };
    let other = complete::complete(&bench.plant, show(of("4712")), Door::Enrollment).await;
    let text = refused!(other, NotEndorsed);
    assert!(text.contains("is of box `4711`, the IAK certificate of box `4712`"), "{text}");
    complete::complete(&bench.plant, show(of("4711")), Door::Enrollment).await.unwrap();
    assert!(trusted(&bench, &press(7)).await);
    assert_eq!(bench.read::<BoxIdentity>(idevid_key(&press(7))).await.tie, Tie::IakCertificate);
}

#[tokio::test]
async fn a_stop_holds_for_whoever_shows_the_idevid() {
    let (bench, maker) = bench().await;
    let (mut tpm, made) = (TestTpm::new(), maker.in_tpm("4711"));
    register(&bench, "press-7", "cell-3", made.digest(&maker)).await;
    enroll(&bench, (&mut tpm, &made), "press-7").await.unwrap();
    let actor = bench.actor(Act::QuarantineDevice).await;
    stop::quarantine(&bench.plant, &actor, &press(7), "stolen").await.unwrap();
    // Under another EK and another AK only the IDevID tells.
    tpm.switch_ek();
    tpm.switch_ak();
    let text = refused!(enroll(&bench, (&mut tpm, &made), "press-8").await, Quarantined);
    assert!(text.contains("press-7 is quarantined") && text.contains("stolen"), "{text}");
    let actor = bench.actor(Act::RetireDevice).await;
    stop::readmit(&bench.plant, &actor, (&press(7), None), "found").await.unwrap();
    retire::retire(&bench.plant, &actor, &press(7), "sold", false).await.unwrap();
    refused!(enroll(&bench, (&mut tpm, &made), "press-8").await, Retired);
}
