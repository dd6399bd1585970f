//! Seals are believed only of a key that the plant root had certified for them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use policy::audit::seal::{AUDIT_EKU, message};
use policy::audit::{Seal, SealError, SignedSeal};
use policy::time::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SigningKey,
};

use crate::rig::{audit, seal};

struct Plant {
    root: Vec<u8>,
    issuing: (Vec<u8>, Issuer<'static, KeyPair>),
}

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = if ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params
}

fn plant() -> Plant {
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = params("root", true).self_signed(&root_key).unwrap();
    let issuing = params("issuing", true);
    let der = issuing.signed_by(&key, &Issuer::new(params("root", true), root_key)).unwrap().der().to_vec();
    Plant { root: root.der().to_vec(), issuing: (der, Issuer::new(issuing, key)) }
}

impl Plant {
    fn sign(&self, seal: &Seal, eku: ExtendedKeyUsagePurpose) -> SignedSeal {
        let key = KeyPair::generate().unwrap();
        let mut leaf = params("audit", false);
        leaf.extended_key_usages = vec![eku];
        let leaf = leaf.signed_by(&key, &self.issuing.1).unwrap();
        let payload = seal.payload();
        let signature = key.sign(&message(&payload)).unwrap();
        let certificates = [leaf.der().to_vec(), self.issuing.0.clone()];
        SignedSeal {
            payload,
            signature: BASE64_STANDARD.encode(signature),
            certificates: certificates.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
        }
    }
}

fn for_seals() -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::Other(AUDIT_EKU.to_vec())
}

fn example() -> Seal {
    let mut seal = seal(7, audit(&[3]).last().unwrap(), None);
    seal.at = UnixTime(1_800_000_000);
    seal
}

#[test]
fn a_seal_holds_under_its_own_plant_root_only() {
    let (plant, other, seal) = (plant(), plant(), example());
    let signed = plant.sign(&seal, for_seals());
    assert_eq!(signed.verify(&plant.root), Ok(seal.clone()));
    let json = serde_json::to_vec(&signed).unwrap();
    assert_eq!(SignedSeal::parse(&json).unwrap().verify(&plant.root), Ok(seal));
    assert!(matches!(signed.verify(&other.root), Err(SealError::OtherPlant(_))));
    assert_eq!(signed.verify(b"no certificate"), Err(SealError::Certificate));
}

#[test]
fn a_key_for_something_else_seals_nothing() {
    let plant = plant();
    let signed = plant.sign(&example(), ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(signed.verify(&plant.root), Err(SealError::OtherPlant("its key is not certified for seals")));
    let mut shuffled = plant.sign(&example(), for_seals());
    shuffled.certificates.reverse();
    assert!(matches!(shuffled.verify(&plant.root), Err(SealError::OtherPlant(_))));
    shuffled.certificates.pop();
    assert_eq!(shuffled.verify(&plant.root), Err(SealError::Certificate));
}

#[test]
fn a_changed_seal_does_not_hold() {
    let plant = plant();
    let mut signed = plant.sign(&example(), for_seals());
    signed.payload = signed.payload.replace("\"number\":7", "\"number\":8");
    assert_eq!(signed.verify(&plant.root), Err(SealError::Signature));
    signed.payload = Seal { at: UnixTime(1), ..example() }.payload();
    signed.certificates = plant.sign(&example(), for_seals()).certificates;
    assert!(matches!(signed.verify(&plant.root), Err(SealError::Signature | SealError::Time { .. })));
    assert!(matches!(SignedSeal::parse(b"{}"), Err(SealError::Unreadable(_))));
}
