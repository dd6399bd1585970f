//! The key of a server that cannot use the TPM: made, delivered, held, replaced, refused.

use attestor::status::{Status, Word};
use policy::digest::Digest;
use rcgen::{KeyPair, PublicKeyData};

use crate::broker::{Broker, Software};
use crate::server::serve;
use crate::world::{Device, until};

const KEY: &str = "services/hmi/server.key";
const CERTIFICATE: &str = "services/hmi/server.pem";

/// The private key that a server would read.
fn delivered_key(device: &Device) -> KeyPair {
    KeyPair::from_pem(&device.delivered(KEY)).unwrap()
}

/// SHA-256 of the certified key.
fn certified_key(device: &Device) -> Digest {
    attestor::svid::spki_digest(pem::parse(device.delivered(CERTIFICATE)).unwrap().contents()).unwrap()
}

fn trusted(status: &Status) -> bool {
    status.state == Word::Trusted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_software_key_is_delivered_with_its_certificate_replaced_with_it_and_held_without_broker() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    let (address, serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    let status = device.status("trusted", trusted).await;
    let shown: Vec<String> = status.software_keys.iter().map(|key| key.seat.to_string()).collect();
    assert_eq!((shown, status.certificates.len()), (vec!["hmi in zone press".to_owned()], 2));
    let first = delivered_key(&device);
    assert_eq!(certified_key(&device), Digest::of(&first.subject_public_key_info()));
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(device.path("run/current/press").join(KEY)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // This broker's certificates began long ago, so each attestation replaces them.
    until("watching", || broker.script.lock().unwrap().watchers == 1).await;
    broker.demand();
    until("another key", || delivered_key(&device).der_bytes() != first.der_bytes()).await;
    let second = delivered_key(&device);
    assert_eq!(certified_key(&device), Digest::of(&second.subject_public_key_info()));

    daemon.stop().await;
    serving.abort();
    assert!(serving.await.is_err());
    // A reboot: /run is empty, and the broker is away.
    std::fs::remove_dir_all(device.path("run")).unwrap();
    let daemon = device.start(&broker, address).await;
    let status = device.status("holding", |status| status.state == Word::Holding).await;
    assert_eq!(status.software_keys.len(), 1);
    assert_eq!(delivered_key(&device).der_bytes(), second.der_bytes());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_software_key_is_told_and_takes_nothing_else_away() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    broker.script.lock().unwrap().software = Software::Refused;
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    let told = |status: &Status| trusted(status) && !status.refused_keys.is_empty();
    let status = device.status("trusted without its software key", told).await;
    assert_eq!((status.software_keys.len(), status.certificates.len()), (0, 2));
    let key = &status.refused_keys[0];
    assert_eq!(
        (key.reason.as_str(), key.message.as_str()),
        ("NOT_PERMITTED", "the test allows no software keys")
    );
    assert!(!device.path("run/current/press").join(KEY).exists());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_key_is_never_delivered_beside_a_software_key() {
    let Some(device) = Device::make() else { return };
    let broker = Broker::new();
    broker.script.lock().unwrap().software = Software::Exchanged;
    let (address, _serving) = serve(&broker, "127.0.0.1:0").await;
    let daemon = device.start(&broker, address).await;
    let status = device.status("refusing the answer", |status| status.problem.is_some()).await;
    let problem = status.problem.unwrap();
    assert!(problem.contains("for another key than the device's"), "{problem}");
    assert!(!device.path("run/current/press").join(KEY).exists());

    broker.script.lock().unwrap().software = Software::Certified;
    device.status("trusted", trusted).await;
    daemon.stop().await;
}
