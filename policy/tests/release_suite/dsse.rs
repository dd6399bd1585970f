//! An envelope is a release only with enough signatures of keys for its product.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use policy::digest::Digest;
use policy::id::ProductName;
use policy::reference::dsse::{Envelope, EnvelopeError, MAX_SIGNATURES, PAYLOAD_TYPE, Unsigned, pae};
use policy::reference::keys::{ReleaseKey, ReleaseKeyError, ReleaseKeys, ReleaseKeysError};
use policy::reference::manifest::{Manifest, ManifestProblem};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData, SigningKey,
};

use crate::manifest::minimal;

pub(crate) fn products(names: &[&str]) -> BTreeSet<ProductName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

pub(crate) fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(crate) fn ed25519() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

pub(crate) fn release_key(key: &KeyPair, names: &[&str]) -> ReleaseKey {
    ReleaseKey::from_spki(&key.subject_public_key_info(), products(names)).unwrap()
}

pub(crate) fn keys(list: &[(&KeyPair, &[&str])], threshold: u8) -> ReleaseKeys {
    let keys = list.iter().map(|(key, names)| release_key(key, names)).collect();
    ReleaseKeys::new(keys, NonZeroU8::new(threshold).unwrap()).unwrap()
}

pub(crate) fn unsigned() -> Unsigned {
    Unsigned::new(&Manifest::parse(&minimal()).unwrap())
}

pub(crate) fn signature(key: &KeyPair, message: &[u8]) -> (Digest, Vec<u8>) {
    (Digest::of(&key.subject_public_key_info()), key.sign(message).unwrap())
}

pub(crate) fn envelope(signers: &[&KeyPair]) -> Envelope {
    let unsigned = unsigned();
    let signatures: Vec<_> = signers.iter().map(|key| signature(key, &unsigned.to_be_signed())).collect();
    Envelope::new(&unsigned, &signatures)
}

/// An envelope over any payload, signed by `key`.
fn envelope_over(key: &KeyPair, payload_type: &str, payload: &[u8]) -> Envelope {
    let sig = key.sign(&pae(payload_type, payload)).unwrap();
    let json = serde_json::json!({
        "payload": BASE64_URL_SAFE_NO_PAD.encode(payload),
        "payloadType": payload_type,
        "signatures": [{ "sig": BASE64_STANDARD.encode(sig) }],
        "comment": "unknown fields are ignored",
    });
    Envelope::parse(json.to_string().as_bytes()).unwrap()
}

#[test]
fn the_encoding_is_the_one_of_the_specification() {
    // The example of the DSSE protocol document.
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}

#[test]
fn either_kind_of_key_makes_a_release() {
    for key in [p256(), ed25519()] {
        let release = envelope(&[&key]).verify(&keys(&[(&key, &["edge-box"])], 1)).unwrap();
        assert_eq!(release.id().to_string(), "edge-box@1.4.0");
        assert_eq!(*release.signers(), [Digest::of(&key.subject_public_key_info())].into());
    }
}

#[test]
fn an_envelope_survives_its_json() {
    let key = ed25519();
    let envelope = envelope(&[&key]);
    assert_eq!(Envelope::parse(envelope.to_json().as_bytes()), Ok(envelope));
    let by_others = envelope_over(&key, PAYLOAD_TYPE, unsigned_text().as_bytes());
    assert!(by_others.verify(&keys(&[(&key, &["edge-box"])], 1)).is_ok());
}

fn unsigned_text() -> String {
    Manifest::parse(&minimal()).unwrap().render()
}

#[test]
fn a_key_that_is_not_registered_signs_nothing() {
    let (signer, other) = (ed25519(), ed25519());
    let registered = keys(&[(&other, &["edge-box"])], 1);
    assert_eq!(envelope(&[&signer]).verify(&registered), Err(EnvelopeError::UnknownSigner(1)));
}

#[test]
fn a_signature_over_something_else_counts_for_nothing() {
    let key = ed25519();
    let registered = keys(&[(&key, &["edge-box"])], 1);
    let raw = signature(&key, unsigned_text().as_bytes());
    let envelope = Envelope::new(&unsigned(), &[raw]);
    assert_eq!(envelope.verify(&registered), Err(EnvelopeError::UnknownSigner(1)));
    let other_type = envelope_over(&key, "application/vnd.in-toto+json", unsigned_text().as_bytes());
    assert_eq!(
        other_type.verify(&registered),
        Err(EnvelopeError::PayloadType("application/vnd.in-toto+json".to_owned()))
    );
}

#[test]
fn a_key_signs_its_own_products_only() {
    let (key, second) = (p256(), p256());
    let registered = keys(&[(&key, &["press"]), (&second, &["edge-box"])], 1);
    let error = envelope(&[&key]).verify(&registered).unwrap_err();
    assert!(matches!(&error, EnvelopeError::OtherProduct { product, .. } if product.as_str() == "edge-box"));
}

#[test]
fn a_threshold_counts_different_keys() {
    let (a, b, c) = (p256(), ed25519(), ed25519());
    let registered = keys(&[(&a, &["edge-box"]), (&b, &["edge-box"]), (&c, &["press", "edge-box"])], 2);
    let too_few = |found| {
        Err(EnvelopeError::TooFewSigners { release: "edge-box@1.4.0".parse().unwrap(), found, needed: 2 })
    };
    assert_eq!(envelope(&[&a]).verify(&registered), too_few(1));
    assert_eq!(envelope(&[&a, &a]).verify(&registered), too_few(1));
    assert_eq!(envelope(&[&a, &c]).verify(&registered).unwrap().signers().len(), 2);
    let merged = envelope(&[&a]).merge(&envelope(&[&b])).unwrap().verify(&registered).unwrap();
    assert_eq!((merged.signers().len(), merged.needed()), (2, 2));
}

#[test]
fn a_payload_in_another_form_is_refused_with_its_line() {
    let key = ed25519();
    let registered = keys(&[(&key, &["edge-box"])], 1);
    let loose = unsigned_text().replace("counter = 7", "counter  =  7");
    let error = envelope_over(&key, PAYLOAD_TYPE, loose.as_bytes()).verify(&registered).unwrap_err();
    assert_eq!(error, EnvelopeError::NotCanonical { line: 4 });
}

#[test]
fn a_signed_payload_that_is_no_manifest_is_refused_with_its_faults() {
    let key = ed25519();
    let registered = keys(&[(&key, &["edge-box"])], 1);
    let error = envelope_over(&key, PAYLOAD_TYPE, b"schema = 1").verify(&registered).unwrap_err();
    let EnvelopeError::Manifest(faults) = error else { panic!("{error:?}") };
    assert!(matches!(faults.faults()[0].problem, ManifestProblem::Missing { field: "product", .. }));
    let error = envelope_over(&key, PAYLOAD_TYPE, &[0xff]).verify(&registered).unwrap_err();
    assert_eq!(error, EnvelopeError::NotText);
}

#[test]
fn signatures_are_bounded_and_needed() {
    let key = ed25519();
    let parse = |signers: &[&KeyPair]| Envelope::parse(envelope(signers).to_json().as_bytes());
    assert_eq!(parse(&[]), Err(EnvelopeError::Unsigned));
    let many = vec![&key; MAX_SIGNATURES + 1];
    assert_eq!(parse(&many), Err(EnvelopeError::TooManySignatures(MAX_SIGNATURES + 1)));
    assert!(matches!(Envelope::parse(b"{}"), Err(EnvelopeError::NotAnEnvelope(_))));
}

#[test]
fn signatures_of_two_texts_are_not_in_one_envelope() {
    let (a, b) = (ed25519(), p256());
    let loose = unsigned_text().replace("counter = 7", "counter  =  7");
    let earlier = envelope_over(&a, PAYLOAD_TYPE, loose.as_bytes());
    assert_eq!(earlier.merge(&envelope(&[&b])), Err(EnvelopeError::OtherPayload));
    let many = vec![&a; MAX_SIGNATURES];
    let full = envelope(&many).merge(&envelope(&[&b]));
    assert_eq!(full.unwrap_err(), EnvelopeError::TooManySignatures(MAX_SIGNATURES + 1));
}

#[test]
fn sets_of_keys_are_well_formed() {
    let (key, other) = (p256(), KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
    let two = NonZeroU8::new(2).unwrap();
    let twin = vec![release_key(&key, &["edge-box"]), release_key(&key, &["press"])];
    let id = Digest::of(&key.subject_public_key_info());
    assert_eq!(ReleaseKeys::new(twin, two), Err(ReleaseKeysError::Duplicate(id)));
    let spki = other.subject_public_key_info();
    assert!(matches!(
        ReleaseKey::from_spki(&spki, products(&["edge-box"])),
        Err(ReleaseKeyError::Unsupported(_))
    ));
    assert_eq!(
        ReleaseKey::from_spki(&key.subject_public_key_info(), BTreeSet::new()),
        Err(ReleaseKeyError::NoProduct)
    );
    assert_eq!(ReleaseKey::from_spki(b"x", products(&["a"])), Err(ReleaseKeyError::NotAKey));
}
