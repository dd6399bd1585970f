//! A plant with a fleet of one zone that is trusted, and the certificates that its devices hold.

use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use broker::admin::{Act, zone};
use broker::ca::{AuthorityKey, Serial};
use broker::plant::Plant;
use broker::record::device::{Attested, held_key};
use broker::record::stored;
use broker::{authority, golden, server};
use policy::digest::Digest;
use policy::evidence::identity::CertifiedKey;
use policy::grant::{IssuanceGrant, Revision, Subject};
use policy::tpm::alg::HashAlg;
use policy::zone::{Admission, Role, Trusted, Zone, decide};

use crate::measure::signer::Signer;
use crate::measure::{subject, tpm};
use crate::rig::{self, record};

/// `TPM_ST_ATTEST_CERTIFY` (TPM 2.0 Part 2, 6.9).
const CERTIFY: u16 = 0x8017;

/// Makes the plant in `dir`. `devices.pem` has the certificate of each device, `devices.key` the key of all.
pub(crate) async fn make(dir: &Path, count: u32) {
    rig::initialized(dir).await;
    let plant = server::open(dir).await.unwrap();
    let zones = ["cell-3", "cell-4"].map(|name| Zone::new(name.parse().unwrap()));
    let actor = rig::actor(&plant, Act::CreateZone).await;
    for zone in &zones {
        zone::create(&plant, &actor, zone, false).await.unwrap();
    }
    let golden = golden::current(&plant).await.unwrap().n;
    let [zone, _] = zones;
    let key = AuthorityKey::generate().unwrap().to_pkcs8().to_vec();
    let (key_proven, trusted) = (certified(&key), trusted());
    let active = authority::active(&plant, &zone.name, Role::Caller).await.unwrap();
    let issuer = authority::issuer(&plant, &active).unwrap();
    let (mut records, mut certificates) = (Vec::new(), String::new());
    for n in 0..count {
        let (name, now, ek) =
            (format!("press-{n}").parse().unwrap(), plant.now(), Digest::of(&n.to_be_bytes()));
        let device = record::device(&name, &zone.name, ek, now);
        records.extend(record::registered(&device, &record::inventory([], now)));
        let attested = record::attested("edge@1.0", ek, now);
        records.push(record::attestation(&name, &Attested { golden, ..attested }));
        let domain = plant.domain();
        let addresses = std::collections::BTreeSet::new();
        let subject = Subject {
            plant: &domain,
            device: &name,
            zone: &zone,
            role: Role::Caller,
            addresses: &addresses,
            workload: None,
        };
        let revisions = vec![Revision { record: "zone/cell-3".to_owned(), revision: 1 }];
        let grant = IssuanceGrant::new(&trusted, &key_proven, &subject, now, 300, revisions).unwrap();
        let serial = serial(&plant);
        let held = record::certificates(grant.spki_digest(), &serial.hex(), now);
        records.push((held_key(&name, &zone.name), stored(&held).unwrap()));
        certificates +=
            &pem::encode(&pem::Pem::new("CERTIFICATE", issuer.issue(&grant, serial).unwrap().der));
    }
    rig::write(plant.store.as_ref(), records).await;
    std::fs::write(dir.join("devices.pem"), certificates).unwrap();
    std::fs::write(dir.join("devices.key"), pem::encode(&pem::Pem::new("PRIVATE KEY", key))).unwrap();
}

fn serial(plant: &Plant) -> Serial {
    let mut random = [0; 16];
    plant.entropy.fill(&mut random).unwrap();
    Serial::from_random(random)
}

/// The decision of cell-3 about a device with a boot that a release approves.
fn trusted() -> Trusted {
    let events = tpm::boot();
    let pcrs = tpm::pcrs_after(&events, HashAlg::Sha256, 0);
    let subject = subject::Subject::new(Signer::p256(), pcrs, tpm::write_log(&events), "");
    match decide(&subject.verify_and_appraise(), None) {
        Admission::Trusted(trusted) => trusted,
        Admission::Refused(why) => unreachable!("{why:?}"),
    }
}

/// The key in `pkcs8`, as if a TPM had certified it.
fn certified(pkcs8: &[u8]) -> CertifiedKey {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).unwrap();
    let public = tpm::ecc_public(tpm::IDENTITY_ATTRIBUTES, &[0x0010], 0x0003, key.public_key().as_ref());
    let name = [&HashAlg::Sha256.id().to_be_bytes()[..], &Digest::of(&public).0].concat();
    let body = [tpm::tpm2b(&name), tpm::tpm2b(&name)].concat();
    let extra_data = tpm::QUALIFYING_DATA.to_vec();
    let attest = tpm::Forged { magic: 0xff54_4347, kind: CERTIFY, extra_data, body }.bytes();
    let ak = tpm::Key::new();
    CertifiedKey::verify(&public, &attest, &ak.sign(&attest), &ak.ak(), tpm::QUALIFYING_DATA).unwrap()
}
