//! Requests for software keys: what is taken, and each refusal by its reason.

use policy::digest::Digest;
use policy::evidence::software_key::{SoftwareKey, SoftwareKeyError};
use policy::x509::request::Asks;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SignatureAlgorithm};

fn request(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}

fn of_kind(kind: &'static SignatureAlgorithm) -> Vec<u8> {
    request(&KeyPair::generate_for(kind).unwrap())
}

fn verify(csr: &[u8]) -> Result<SoftwareKey, SoftwareKeyError> {
    SoftwareKey::verify(csr, &Digest::of(csr).0)
}

#[test]
fn a_stated_request_proves_the_key_that_signed_it() {
    let key = KeyPair::generate().unwrap();
    let proven = verify(&request(&key)).unwrap();
    assert_eq!(proven.spki_der(), key.subject_public_key_info());
    assert_eq!(proven.spki_digest(), Digest::of(&key.subject_public_key_info()));
}

#[test]
fn a_request_that_is_not_stated_is_refused() {
    let (sent, stated) = (of_kind(&rcgen::PKCS_ECDSA_P256_SHA256), of_kind(&rcgen::PKCS_ECDSA_P256_SHA256));
    let refusal = SoftwareKey::verify(&sent, &Digest::of(&stated).0).unwrap_err();
    assert_eq!(refusal, SoftwareKeyError::NotStated);
    assert_eq!(SoftwareKey::verify(&sent, &[]).unwrap_err(), SoftwareKeyError::NotStated);
}

#[test]
fn a_request_for_somebody_elses_key_proves_no_possession() {
    let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut csr = request(&own);
    let at = csr.windows(65).position(|part| part == own.der_bytes()).unwrap();
    csr[at..at + 65].copy_from_slice(other.der_bytes());
    assert_eq!(verify(&csr).unwrap_err(), SoftwareKeyError::Possession);

    let mut csr = request(&own);
    *csr.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&csr).unwrap_err(), SoftwareKeyError::Possession, "a changed signature");
}

#[test]
fn other_kinds_of_keys_and_signatures_are_refused() {
    let refusal = verify(&of_kind(&rcgen::PKCS_ECDSA_P384_SHA384)).unwrap_err();
    assert_eq!(refusal, SoftwareKeyError::Kind("ecc P-384".to_owned()));
    let refusal = verify(&of_kind(&rcgen::PKCS_ED25519)).unwrap_err();
    assert!(matches!(refusal, SoftwareKeyError::Key(_)), "{refusal:?}");

    // ecdsa-with-SHA256 turned into ecdsa-with-SHA384, which has the same length.
    let mut csr = of_kind(&rcgen::PKCS_ECDSA_P256_SHA256);
    let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let at = csr.windows(8).position(|part| part == oid).unwrap();
    csr[at + 7] = 3;
    assert!(matches!(verify(&csr).unwrap_err(), SoftwareKeyError::Algorithm(_)));

    let point_off_the_curve = {
        let key = KeyPair::generate().unwrap();
        let mut csr = request(&key);
        let at = csr.windows(65).position(|part| part == key.der_bytes()).unwrap();
        csr[at + 64] ^= 1;
        verify(&csr).unwrap_err()
    };
    assert!(matches!(point_off_the_curve, SoftwareKeyError::Key(_)), "{point_off_the_curve:?}");
}

#[test]
fn bytes_that_are_no_request_are_refused() {
    let csr = of_kind(&rcgen::PKCS_ECDSA_P256_SHA256);
    for cut in 0..csr.len() {
        assert!(matches!(verify(&csr[..cut]).unwrap_err(), SoftwareKeyError::Malformed(_)), "cut at {cut}");
    }
    let surplus = [csr.as_slice(), &[0]].concat();
    assert!(matches!(verify(&surplus).unwrap_err(), SoftwareKeyError::Malformed(_)));
    assert_eq!(verify(&vec![0x30; 4097]).unwrap_err(), SoftwareKeyError::TooLong(4097));
}

#[test]
fn a_request_that_asks_for_names_or_extensions_is_refused() {
    let of = |params: CertificateParams| {
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let mut named = CertificateParams::default();
    named.distinguished_name.push(rcgen::DnType::CommonName, "press-1.cell-3.plant.example");
    assert_eq!(verify(&of(named)).unwrap_err(), SoftwareKeyError::Asks(Asks::Subject));
    let mut alternative = CertificateParams::new(["press-1.cell-3.plant.example".to_owned()]).unwrap();
    alternative.distinguished_name = rcgen::DistinguishedName::new();
    let refusal = verify(&of(alternative)).unwrap_err();
    assert_eq!(refusal, SoftwareKeyError::Asks(Asks::Attributes));
    assert!(refusal.to_string().contains("make it without attributes"), "{refusal}");
}
