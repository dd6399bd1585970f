//! Software keys in an attestation: what one key is refused for costs the device nothing else.

use policy::digest::Digest;
use policy::time::Validity;
use policy::zone::{Role, SoftwareKeys};
use proto::v1;
use proto::v1::complete_response::Outcome;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};

use super::tpm::TestTpm;
use super::{plant_of, plant_with};
use crate::admin::tests::{NOW, observing};
use crate::record::device::{CertifiedKeyOwner, HeldCertificate, HeldCertificates, certified_key, held_key};
use crate::record::stored;
use crate::store::Txn;

fn csr(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}

/// The certificate as a listener that software keys hang on.
fn own() -> HeldCertificates {
    let validity = Validity { not_before: NOW, not_after: NOW.plus(3600) };
    let (role, serial, spki) = (Role::Listener, hex::encode([0x41; 16]), Digest([0x41; 32]));
    let own = HeldCertificate {
        role,
        generation: 1,
        serial,
        spki,
        validity,
        service: None,
        workload: None,
        addresses: Default::default(),
    };
    HeldCertificates { certificates: vec![own] }
}

#[tokio::test]
async fn a_software_key_that_is_certified_already_is_refused_alone() {
    let mut tpm = TestTpm::new();
    let mut zone = observing("cell-3");
    zone.software_keys = SoftwareKeys::Allow;
    let (bench, name) = plant_with(&zone, &tpm, true).await;
    let (taken, fresh) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let owner = CertifiedKeyOwner {
        device: "press-8".parse().unwrap(),
        zone: zone.name.clone(),
        role: Role::Listener,
        until: None,
    };
    let index = certified_key(&Digest::of(&taken.subject_public_key_info()));
    let txn = Txn::new()
        .put(index.clone(), stored(&owner).unwrap())
        .put(held_key(&name, &zone.name), stored(&own()).unwrap());
    bench.plant.store.transact(txn).await.unwrap();

    tpm.software = vec![("hmi", csr(&taken)), ("opcua", csr(&fresh))];
    let response = tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let Some(Outcome::Issued(issued)) = response.outcome else { panic!("issued") };
    let services: Vec<_> = issued.svids.iter().map(|svid| svid.service.as_str()).collect();
    assert_eq!(services, ["opcua"], "the other key is certified");
    let [refused] = &issued.refused_keys[..] else { panic!("{:?}", issued.refused_keys) };
    let denial = refused.denial.as_ref().unwrap();
    assert_eq!((refused.service.as_str(), denial.reason()), ("hmi", v1::DenialReason::Conflict));
    assert_eq!(
        denial.message,
        "the software key for hmi in cell-3 is certified for press-8 in cell-3 already; make a new key for each certificate"
    );
    assert_eq!(bench.read::<CertifiedKeyOwner>(index).await, owner, "the key stays whose it was");
}

#[tokio::test]
async fn keys_for_zones_that_the_device_is_not_in_are_refused_by_their_reason() {
    let mut tpm = TestTpm::new();
    let (bench, name) = plant_of(&tpm, true).await;
    tpm.asks =
        vec![("cell-3", v1::Role::Caller), ("cell-9", v1::Role::Caller), ("cell-9", v1::Role::Listener)];
    let response = tpm.enroll(&bench.plant, "press-7").await.unwrap();
    let Some(Outcome::Issued(issued)) = response.outcome else { panic!("issued") };
    assert_eq!(issued.svids.iter().map(|svid| svid.zone.as_str()).collect::<Vec<_>>(), ["cell-3"]);
    let [refused] = &issued.refused_keys[..] else { panic!("once: {:?}", issued.refused_keys) };
    let denial = refused.denial.as_ref().unwrap();
    assert_eq!((refused.zone.as_str(), denial.reason()), ("cell-9", v1::DenialReason::NotAdmitted));
    assert!(denial.message.starts_with(&format!("{name} is not in zone cell-9; ")), "{}", denial.message);
}
