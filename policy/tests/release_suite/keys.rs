//! Release keys as people bring them, removed ones, and signatures that were made outside.

use std::num::NonZeroU8;

use policy::digest::Digest;
use policy::reference::dsse::{Envelope, EnvelopeError, ForeignSignature};
use policy::reference::keys::{ReleaseKey, ReleaseKeyAlg, ReleaseKeyError, ReleaseKeys, RemovedKey};
use policy::time::UnixTime;
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PublicKeyData, SigningKey};

use crate::dsse::{ed25519, envelope, keys, p256, products, release_key, unsigned};

const WHEN: UnixTime = UnixTime(1_800_000_000);

fn removed(key: &KeyPair, name: &str) -> RemovedKey {
    RemovedKey { key: release_key(key, &["edge-box"]), name: name.parse().unwrap(), at: WHEN }
}

fn from_pem(text: &str) -> Result<ReleaseKey, ReleaseKeyError> {
    ReleaseKey::from_pem(text, products(&["edge-box"]))
}

#[test]
fn a_key_is_read_from_the_pem_of_its_public_half_alone() {
    for (key, alg) in [(p256(), ReleaseKeyAlg::EcdsaP256), (ed25519(), ReleaseKeyAlg::Ed25519)] {
        let read = from_pem(&format!("# of ada\n{}", key.public_key_pem())).unwrap();
        assert_eq!((read.id(), read.alg()), (Digest::of(&key.subject_public_key_info()), alg));
        let error = from_pem(&key.serialize_pem()).unwrap_err();
        assert_eq!(error, ReleaseKeyError::Private);
        assert!(error.to_string().contains("openssl pkey -in release.key -pubout"), "{error}");
        let both = format!("{}{}", key.public_key_pem(), key.serialize_pem());
        assert_eq!(from_pem(&both), Err(ReleaseKeyError::Private));
    }
    let legacy = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n";
    assert_eq!(from_pem(legacy), Err(ReleaseKeyError::Private));
}

#[test]
fn what_is_no_release_key_is_refused_with_the_remedy() {
    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let error = from_pem(&other.public_key_pem()).unwrap_err();
    assert!(matches!(error, ReleaseKeyError::Unsupported(_)));
    assert!(error.to_string().contains("openssl genpkey -algorithm ED25519"), "{error}");
    for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"] {
        assert_eq!(from_pem(text), Err(ReleaseKeyError::NotAKey), "{text}");
    }
    let mut off_curve = p256().subject_public_key_info();
    *off_curve.last_mut().unwrap() ^= 1;
    assert_eq!(ReleaseKey::from_spki(&off_curve, products(&["edge-box"])), Err(ReleaseKeyError::NotAKey));
}

#[test]
fn a_removed_key_is_refused_by_name_and_date() {
    let (gone, stays, stranger) = (p256(), ed25519(), ed25519());
    let of = |threshold: u8| {
        keys(&[(&stays, &["edge-box"])], threshold).remembering(vec![removed(&gone, "build")])
    };
    let expected = || EnvelopeError::RemovedSigner {
        name: "build".parse().unwrap(),
        key: Digest::of(&gone.subject_public_key_info()),
        at: WHEN,
    };
    assert_eq!(envelope(&[&gone]).verify(&of(1)), Err(expected()));
    assert_eq!(envelope(&[&gone, &stays]).verify(&of(2)), Err(expected()), "it does not count as the second");
    assert!(expected().to_string().contains("build") && expected().to_string().contains("2027-01-15"));
    // What is needed is there without it.
    let release = envelope(&[&gone, &stays]).verify(&of(1)).unwrap();
    assert_eq!(*release.signers(), [Digest::of(&stays.subject_public_key_info())].into());
    assert_eq!(envelope(&[&stranger]).verify(&of(1)), Err(EnvelopeError::UnknownSigner(1)));
    let none = ReleaseKeys::new(Vec::new(), NonZeroU8::MIN).unwrap();
    assert_eq!(envelope(&[&gone]).verify(&none), Err(EnvelopeError::UnknownSigner(1)));
}

/// The two numbers of a DER signature, each in 32 bytes.
fn raw(der: &[u8]) -> Vec<u8> {
    // SEQUENCE, its length, then tag, length and digits of each number.
    let (_, numbers) = der.split_at(2);
    let (r, s) = numbers.split_at(2 + usize::from(numbers.get(1).copied().unwrap()));
    let number = |tlv: &[u8]| {
        let digits: Vec<u8> = tlv.iter().skip(2).copied().skip_while(|byte| *byte == 0).collect();
        [vec![0; 32 - digits.len()], digits].concat()
    };
    [number(r), number(s)].concat()
}

#[test]
fn a_signature_made_outside_is_taken_in_either_form() {
    let message = unsigned().to_be_signed();
    let key = p256();
    let registered = keys(&[(&key, &["edge-box"])], 1);
    // Some numbers begin with a zero, which DER leaves out.
    for _ in 0..300 {
        let der = key.sign(&message).unwrap();
        for form in [raw(&der), der] {
            let signed = unsigned().signed_by(&release_key(&key, &["edge-box"]), &form).unwrap();
            let envelope = Envelope::new(&unsigned(), &[signed]);
            envelope.verify(&registered).unwrap();
            assert!(envelope.is_signed_by(&release_key(&key, &["edge-box"])));
        }
    }
    let key = ed25519();
    let signed =
        unsigned().signed_by(&release_key(&key, &["edge-box"]), &key.sign(&message).unwrap()).unwrap();
    Envelope::new(&unsigned(), &[signed]).verify(&keys(&[(&key, &["edge-box"])], 1)).unwrap();
}

#[test]
fn a_signature_over_anything_else_is_not_attached() {
    for key in [p256(), ed25519()] {
        let release_key = release_key(&key, &["edge-box"]);
        let foreign = ForeignSignature { key: release_key.id(), release: "edge-box@1.4.0".parse().unwrap() };
        let other = key.sign(b"the manifest itself").unwrap();
        for bytes in [other, Vec::new(), vec![0; 64], vec![7; 64], vec![7; 72]] {
            assert_eq!(unsigned().signed_by(&release_key, &bytes), Err(foreign.clone()), "{bytes:?}");
        }
        assert!(foreign.to_string().contains("touchstone golden payload"), "{foreign}");
        assert!(!envelope(&[&ed25519()]).is_signed_by(&release_key));
    }
}
