//! The identity key's certification: checklist rows 2, 4 and 31.

use policy::evidence::identity::{CertifiedKey, IdentityKeyError};
use policy::tpm::attest::AttestError;
use policy::tpm::public::{AttributeMismatch, Public};
use policy::tpm::signature::SignatureError;

use crate::rig::{
    Forged, IDENTITY_ATTRIBUTES, Key, QUALIFYING_DATA, SHA256, Scene, boot, ecc_public, quote_info, tpm2b,
};

/// A TPM that certifies the key with public area `public`.
struct Certifier {
    ak: Key,
    public: Vec<u8>,
    attest: Forged,
}

impl Certifier {
    fn of(public: Vec<u8>) -> Self {
        let name = Public::parse(&public).unwrap().name().to_bytes();
        let body = [tpm2b(&name), tpm2b(&[0, 0x0b])].concat();
        let extra_data = QUALIFYING_DATA.to_vec();
        Self { ak: Key::new(), public, attest: Forged { magic: 0xff54_4347, kind: 0x8017, extra_data, body } }
    }

    fn verify(&self) -> Result<CertifiedKey, IdentityKeyError> {
        let attest = self.attest.bytes();
        self.verify_signed(&self.ak.sign(&attest))
    }

    fn verify_signed(&self, signature: &[u8]) -> Result<CertifiedKey, IdentityKeyError> {
        let attest = self.attest.bytes();
        CertifiedKey::verify(&self.public, &attest, signature, &self.ak.ak(), QUALIFYING_DATA)
    }
}

#[test]
fn a_certified_key_is_named_by_its_public_area() {
    let key = Key::new();
    let public = key.public(IDENTITY_ATTRIBUTES);
    let certified = Certifier::of(public.clone()).verify().unwrap();
    assert_eq!(certified.name(), Public::parse(&public).unwrap().name());
    assert!(certified.spki_der().ends_with(key.point()));
    assert_eq!(certified.spki_digest(), policy::digest::Digest::of(&certified.spki_der()));
}

/// The encoding that certificate requests carry, so that keys can be compared as bytes.
#[test]
fn the_public_key_info_is_that_of_a_certificate_request() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let public = ecc_public(IDENTITY_ATTRIBUTES, &[0x0018, SHA256], 0x0003, pair.public_key_raw());
    let certified = Certifier::of(public).verify().unwrap();
    assert_eq!(certified.spki_der(), rcgen::PublicKeyData::subject_public_key_info(&pair));
}

#[test]
fn row_2_a_quote_is_no_certification() {
    let mut certifier = Certifier::of(Key::new().public(IDENTITY_ATTRIBUTES));
    certifier.attest.kind = 0x8018;
    certifier.attest.body = quote_info(&[], &[]);
    let wanted = "a certify (0x8017)";
    let error = IdentityKeyError::Certify(AttestError::Type { found: 0x8018, wanted });
    assert_eq!(certifier.verify().unwrap_err(), error);
}

#[test]
fn row_4_another_public_area_is_refused() {
    let mut certifier = Certifier::of(Key::new().public(IDENTITY_ATTRIBUTES));
    certifier.public = Key::new().public(IDENTITY_ATTRIBUTES);
    let name = Public::parse(&certifier.public).unwrap().name();
    assert_eq!(certifier.verify().unwrap_err(), IdentityKeyError::Name(name));
}

#[test]
fn row_31_a_certification_of_another_session_or_tpm_is_refused() {
    let mut certifier = Certifier::of(Key::new().public(IDENTITY_ATTRIBUTES));
    let other_tpm = Key::new().sign(&certifier.attest.bytes());
    let error = IdentityKeyError::Signature(SignatureError::Forged);
    assert_eq!(certifier.verify_signed(&other_tpm).unwrap_err(), error);
    certifier.attest.extra_data = vec![0; 32];
    assert_eq!(certifier.verify().unwrap_err(), IdentityKeyError::QualifyingData);
}

/// A quote's signature over the same bytes is no certification's: the labels differ, and so do types.
#[test]
fn a_quotes_signature_does_not_certify() {
    let certifier = Certifier::of(Key::new().public(IDENTITY_ATTRIBUTES));
    let scene = Scene::of(&boot());
    let evidence = scene.evidence();
    let error = CertifiedKey::verify(
        &certifier.public,
        &evidence.quote.attest,
        &evidence.quote.signature,
        &scene.key.ak(),
        QUALIFYING_DATA,
    );
    assert!(matches!(error.unwrap_err(), IdentityKeyError::Certify(AttestError::Type { .. })));
}

#[test]
fn attributes_of_another_kind_of_key_are_refused() {
    for (flip, attribute, expected) in [
        (1 << 1, "fixedTPM", "set"),
        (1 << 4, "fixedParent", "set"),
        (1 << 5, "sensitiveDataOrigin", "set"),
        (1 << 18, "sign", "set"),
        (1 << 16, "restricted", "clear"),
        (1 << 17, "decrypt", "clear"),
    ] {
        let public = Key::new().public(IDENTITY_ATTRIBUTES ^ flip);
        let error = IdentityKeyError::Attribute(AttributeMismatch { attribute, expected });
        assert_eq!(Certifier::of(public).verify().unwrap_err(), error);
    }
}

#[test]
fn only_a_valid_p256_key_is_an_identity_key() {
    let off_curve = ecc_public(IDENTITY_ATTRIBUTES, &[0x0010], 0x0003, &[4; 65]);
    let p384 = ecc_public(IDENTITY_ATTRIBUTES, &[0x0010], 0x0004, &[4; 97]);
    for public in [off_curve, p384] {
        assert_eq!(Certifier::of(public).verify().unwrap_err(), IdentityKeyError::Key);
    }
}
