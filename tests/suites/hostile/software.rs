//! Software keys: who gets a certificate for one, and each refusal by its reason.

use attestor::config::{KeyPlace, Service};
use e2e::World;
use proto::v1;
use proto::v1::DenialReason as Reason;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};

use super::thief::{Thief, denied, issued};

fn request(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(key).expect("a request").der().to_vec()
}

fn software_key(zone: &str, service: &str, csr: Vec<u8>) -> v1::SoftwareKey {
    v1::SoftwareKey { zone: zone.into(), service: service.into(), csr, ..v1::SoftwareKey::default() }
}

fn new_key(zone: &str, service: &str) -> v1::SoftwareKey {
    software_key(zone, service, request(&KeyPair::generate().expect("a key")))
}

fn offer(thief: &mut Thief, services: &[&str]) {
    let service =
        |name: &&str| Service { name: name.parse().expect("a name"), port: 443, key: KeyPlace::Software };
    thief.services = services.iter().map(service).collect();
}

/// The end of the certificate for `service`, empty for the device's own, as a listener of `zone`.
fn end(issued: &v1::Issued, zone: &str, service: &str) -> u64 {
    let mut listeners =
        issued.svids.iter().filter(|svid| svid.role() == v1::Role::Listener && svid.zone == zone);
    listeners.find(|svid| svid.service == service).expect("a certificate").not_after
}

/// What was issued beside a refused key: how many certificates, and why there is none for the key.
fn without_key(issued: &v1::Issued) -> (usize, Reason, String) {
    let [refused] = &issued.refused_keys[..] else { panic!("one key is refused: {issued:?}") };
    let denial = refused.denial.as_ref().expect("a reason");
    (issued.svids.len(), denial.reason(), denial.message.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn software_keys_are_certified_where_a_zone_allows_them_and_revoked_with_their_device() {
    let Some((world, devices)) = World::with_devices(["press-1"]) else { return };
    world.admin("zone create press --mode observe --software-keys allow");
    world.admin("zone create strict --mode observe");
    assert_eq!(world.admin("zone show press")["software_keys"], "allow");
    assert_eq!(world.admin("zone show strict")["software_keys"], "refuse");
    devices[0].measure("boot-a");
    world.register(&devices[0], "press --zone strict");
    let mut press = Thief::of(&devices[0]).await;
    press.make_keys("press").await;
    press.make_keys("strict").await;
    offer(&mut press, &["hmi"]);
    press.software_keys = vec![new_key("press", "hmi"), new_key("strict", "hmi")];
    let got = press.enroll().await;
    assert_eq!(got.svids.len(), 5, "two roles in two zones, and one software key");
    assert_eq!(end(&got, "press", "hmi"), end(&got, "press", ""), "it ends with the device's own");
    assert_eq!(got.valid_serials.len(), 5);
    let [refused] = got.refused_keys.as_slice() else { panic!("{:?}", got.refused_keys) };
    let denial = refused.denial.as_ref().expect("a reason");
    assert_eq!((refused.zone.as_str(), denial.reason()), ("strict", Reason::NotPermitted));
    assert!(
        denial.message.contains("zone strict") && denial.message.contains("--software-keys allow"),
        "{denial:?}"
    );

    let shown = world.admin("device show press-1");
    let certificates = shown["certificates"].as_array().expect("certificates");
    let software: Vec<_> = certificates.iter().filter(|one| one["key"] == "software").collect();
    assert_eq!(
        (software.len(), &software[0]["service"], &software[0]["role"]),
        (1, &"hmi".into(), &"listener".into())
    );
    let told = world.admin("audit list").to_string();
    assert!(
        told.contains("software key of hmi in press certified; software key of hmi in strict refused"),
        "{told}"
    );

    assert_eq!(world.admin("device quarantine press-1 --reason lost")["revoked"], 5);
    let authorities = world.admin("authority list").to_string();
    assert_eq!(authorities.matches("\"revoked\":2").count(), 1, "listener of press: {authorities}");
    assert_eq!(world.admin("device show press-1")["certificates"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_software_key_that_is_not_proven_or_not_new_is_refused_by_its_reason() {
    let Some((world, devices)) = World::with_devices(["press-1", "press-2"]) else { return };
    world.admin("zone create press --mode observe --software-keys allow");
    world.admin("zone create cell --mode observe --software-keys allow");
    devices.iter().for_each(|device| device.measure("boot-a"));
    world.register(&devices[0], "press");
    world.register(&devices[1], "cell");
    let (mut press, mut cell) = (Thief::of(&devices[0]).await, Thief::of(&devices[1]).await);
    press.make_keys("press").await;
    cell.make_keys("cell").await;
    offer(&mut press, &["hmi"]);
    offer(&mut cell, &["a", "b", "c", "d", "e"]);
    press.software_keys = vec![new_key("press", "hmi")];
    assert_eq!(press.enroll().await.svids.len(), 3);
    cell.enroll().await;

    // A key that is certified already costs the device that key and nothing else.
    let used = press.software_keys[0].csr.clone();
    let (certificates, reason, message) = without_key(&press.enroll().await);
    assert_eq!((certificates, reason), (2, Reason::Conflict), "the same key again: {message}");
    assert!(message.contains("make a new key for each certificate"), "{message}");

    cell.software_keys = vec![software_key("cell", "a", used)];
    let (certificates, reason, message) = without_key(&cell.enroll().await);
    assert_eq!((certificates, reason), (2, Reason::Conflict), "a key of another device: {message}");
    assert!(message.contains("certified for press-1 in press already"), "{message}");
    let before = world.store();

    let mut swapped = {
        press.software_keys = vec![new_key("press", "hmi")];
        press.request().await
    };
    swapped.software_keys = vec![new_key("press", "hmi")];
    let (reason, message) = denied(press.complete(swapped).await);
    assert_eq!(reason, Reason::EvidenceInvalid, "a request that is not stated: {message}");
    assert!(message.contains("the statement does not name this request"), "{message}");

    let (own, other) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut stolen = request(&own);
    let at = stolen.windows(65).position(|part| part == own.der_bytes()).expect("the key in its request");
    stolen[at..at + 65].copy_from_slice(other.der_bytes());
    press.software_keys = vec![software_key("press", "hmi", stolen)];
    let (reason, message) = denied(press.complete(press.request().await).await);
    assert_eq!(reason, Reason::EvidenceInvalid, "somebody else's key: {message}");
    assert!(message.contains("not signed by the key that it is for"), "{message}");

    press.software_keys = vec![new_key("press", "ssh")];
    let (reason, message) = denied(press.complete(press.request().await).await);
    assert_eq!(reason, Reason::Malformed, "a service that is not offered: {message}");
    assert!(message.contains("does not offer ssh"), "{message}");
    assert_eq!(world.store(), before, "a refusal changes nothing");

    cell.software_keys = ["a", "b", "c", "d", "e"].map(|service| new_key("cell", service)).to_vec();
    let got = issued(cell.complete(cell.request().await).await.expect("the device itself is good"));
    assert_eq!(got.svids.iter().filter(|svid| !svid.service.is_empty()).count(), 4);
    let [refused] = got.refused_keys.as_slice() else { panic!("{:?}", got.refused_keys) };
    let denial = refused.denial.as_ref().expect("a reason");
    assert_eq!((refused.service.as_str(), denial.reason()), ("e", Reason::NotPermitted));
    assert!(denial.message.contains("software keys for 4 services and workloads"), "{denial:?}");

    cell.software_keys = vec![new_key("press", "a")];
    let got = issued(cell.complete(cell.request().await).await.expect("the device itself is good"));
    assert!(got.svids.iter().all(|svid| svid.service.is_empty()), "a zone that is not the device's");
}
