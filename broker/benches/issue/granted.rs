//! One certificate, from a zone's decision on.

use std::cell::Cell;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use broker::ca::{AuthorityKey, Issuer, Serial, profile};
use policy::digest::Digest;
use policy::evidence::software_key::SoftwareKey;
use policy::grant::{IssuanceGrant, Revision, Subject};
use policy::id::{DeviceName, PlantDomain};
use policy::time::{UnixTime, Validity};
use policy::tpm::alg::HashAlg;
use policy::zone::{Admission, NameConstraint, Role, SoftwareKeys, Trusted, Zone, decide};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::measure::signer::Signer;
use crate::measure::subject;
use crate::measure::tpm;

const NOW: UnixTime = UnixTime(1_800_000_000);
/// Bytes that are signed of a certificate without its signature, about.
const UNSIGNED: usize = 450;

/// A device that its zone trusts, its request, and the authority that signs.
pub(crate) struct Granted {
    trusted: Trusted,
    zone: Zone,
    plant: PlantDomain,
    device: DeviceName,
    issuer: Issuer,
    csr: Csr,
    /// Makes each serial another.
    issued: Cell<u128>,
    signer: EcdsaKeyPair,
}

/// A request, whole and as its signature is checked.
struct Csr {
    der: Vec<u8>,
    point: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl Granted {
    pub(crate) fn new() -> Self {
        let mut zone = Zone::new("cell-3".parse().unwrap());
        zone.software_keys = SoftwareKeys::Allow;
        let plant: PlantDomain = "plant.example".parse().unwrap();
        let validity = Validity { not_before: NOW, not_after: NOW.plus(10 * 365 * 86_400) };
        let key = AuthorityKey::generate().unwrap();
        let (domain, serial) = (plant.trust_domain(&zone.name), Serial::from_random([7; 16]));
        let constraint = NameConstraint::Critical;
        let subnets = std::collections::BTreeSet::new();
        let confined = profile::Confined { constraint, subnets: &subnets };
        let params = profile::zone_authority(&domain, Role::Listener, 1, confined, validity, serial).unwrap();
        let issuer = Issuer::new(key.self_signed(&params).unwrap(), validity.not_after, key).unwrap();
        Self {
            trusted: trusted(),
            zone,
            plant,
            device: "press-7".parse().unwrap(),
            issuer,
            csr: Csr::new(),
            issued: Cell::new(0),
            signer: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
        }
    }

    /// What nobody can leave out.
    pub(crate) fn floor(&self) -> usize {
        let Csr { point, signed, signature, .. } = &self.csr;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(signed, signature).unwrap();
        self.signer.sign(&SystemRandom::new(), &[7; UNSIGNED]).unwrap().as_ref().len()
    }

    /// The check of the request alone.
    pub(crate) fn checked(&self) -> SoftwareKey {
        SoftwareKey::verify(&self.csr.der, &Digest::of(&self.csr.der).0).unwrap()
    }

    /// The certificate.
    pub(crate) fn issue(&self) -> usize {
        let key = self.checked();
        let addresses = &std::collections::BTreeSet::new();
        let subject = Subject {
            plant: &self.plant,
            device: &self.device,
            zone: &self.zone,
            role: Role::Listener,
            addresses,
            workload: None,
        };
        let revisions = vec![Revision { record: "zone/cell-3".to_owned(), revision: 7 }];
        let end = NOW.plus(12 * 3600);
        let grant = IssuanceGrant::for_software_key(&self.trusted, &key, &subject, end, NOW, 300, revisions);
        self.issued.set(self.issued.get() + 1);
        let serial = Serial::from_random(self.issued.get().to_be_bytes());
        self.issuer.issue(&grant.unwrap(), serial).unwrap().der.len()
    }
}

/// The decision of the zone about a device with a boot that a release approves.
fn trusted() -> Trusted {
    let events = tpm::boot();
    let pcrs = tpm::pcrs_after(&events, HashAlg::Sha256, 0);
    let subject = subject::Subject::new(Signer::p256(), pcrs, tpm::write_log(&events), "");
    match decide(&subject.verify_and_appraise(), None) {
        Admission::Trusted(trusted) => trusted,
        Admission::Refused(why) => panic!("{why:?}"),
    }
}

impl Csr {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der()).unwrap();
        // As long as what the request's own signature is over.
        let signed = der[..der.len() - 80].to_vec();
        let signature = signer.sign(&SystemRandom::new(), &signed).unwrap().as_ref().to_vec();
        Self { der, point: signer.public_key().as_ref().to_vec(), signed, signature }
    }
}
