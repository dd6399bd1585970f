//! Attestation and endorsement keys: checklist rows 3, 4 and 12.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaPssSaltLength, RsaSignatureEncoding,
};
use policy::tpm::alg::HashAlg;
use policy::tpm::public::{
    AkError, AttestationKey, AttributeMismatch, Curve, EkError, EkPublic, Name, ObjectAttributes, Public,
    PublicError, PublicKey, Scheme,
};
use policy::tpm::signature::{Signature, SignatureError};

use crate::rig::{AK_ATTRIBUTES, Key, SHA256, ecc_public, tpm2b};

#[test]
fn row_3_every_demanded_attribute_is_demanded() {
    for (flip, attribute, expected) in [
        (1 << 1, "fixedTPM", "set"),
        (1 << 4, "fixedParent", "set"),
        (1 << 5, "sensitiveDataOrigin", "set"),
        (1 << 16, "restricted", "set"),
        (1 << 18, "sign", "set"),
        (1 << 17, "decrypt", "clear"),
    ] {
        let error = AttestationKey::accept(&Key::new().public(AK_ATTRIBUTES ^ flip)).unwrap_err();
        assert_eq!(error, AkError::Attribute(AttributeMismatch { attribute, expected }));
    }
}

#[test]
fn no_da_is_not_demanded() {
    let key = Key::new().public(AK_ATTRIBUTES & !ObjectAttributes::NO_DA.bits());
    AttestationKey::accept(&key).unwrap();
}

#[test]
fn row_4_the_name_covers_every_bit_of_the_public_area() {
    let public = Key::new().public(AK_ATTRIBUTES);
    let name = Public::parse(&public).unwrap().name();
    assert_eq!(name, Name::of(HashAlg::Sha256, &public));
    assert_eq!(Name::parse(&name.to_bytes()), Ok(name));
    for bit in 0..public.len() * 8 {
        let mut changed = public.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Public::parse(&changed).map_or(true, |other| other.name() != name), "bit {bit}");
    }
}

#[test]
fn row_12_the_scheme_is_fixed_and_strong() {
    let key = Key::new();
    for (scheme, found) in [
        (&[0x0010][..], Scheme::Null),
        (&[0x0018, 0x0004], Scheme::Ecdsa(HashAlg::Sha1)),
        (&[0x0018, 0x0012], Scheme::Other(0x0018)),
        (&[0x001a, SHA256, 0], Scheme::Other(0x001a)),
    ] {
        let public = ecc_public(AK_ATTRIBUTES, scheme, 0x0003, key.point());
        assert_eq!(AttestationKey::accept(&public).unwrap_err(), AkError::Scheme(found));
    }
}

#[test]
fn curves_and_points_are_checked() {
    let p521 = ecc_public(AK_ATTRIBUTES, &[0x0018, SHA256], 0x0005, &[4; 133]);
    assert_eq!(AttestationKey::accept(&p521).unwrap_err(), AkError::Curve(Curve::P521));
    let off = ecc_public(AK_ATTRIBUTES, &[0x0018, SHA256], 0x0003, &[4; 65]);
    assert_eq!(AttestationKey::accept(&off).unwrap_err(), AkError::NoKey);
    let unknown = ecc_public(AK_ATTRIBUTES, &[0x0018, SHA256], 0x0020, &[4; 65]);
    assert_eq!(AttestationKey::accept(&unknown).unwrap_err(), AkError::Public(PublicError::Curve(0x0020)));
}

#[test]
fn a_sha1_name_is_refused() {
    let mut public = Key::new().public(AK_ATTRIBUTES);
    public[2..4].copy_from_slice(&[0, 4]);
    assert_eq!(AttestationKey::accept(&public).unwrap_err(), AkError::Public(PublicError::NameAlg(4)));
    public[..2].copy_from_slice(&[0, 8]);
    assert_eq!(AttestationKey::accept(&public).unwrap_err(), AkError::Public(PublicError::KeyType(8)));
}

#[test]
#[expect(clippy::disallowed_types, reason = "the test key needs randomness to sign")]
fn p384_signs_with_sha384() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let public = ecc_public(AK_ATTRIBUTES, &[0x0018, 0x000c], 0x0004, pair.public_key().as_ref());
    let ak = AttestationKey::accept(&public).unwrap();
    assert_eq!(ak.hash(), HashAlg::Sha384);
    let raw = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), b"message").unwrap();
    let (r, s) = raw.as_ref().split_at(48);
    // Leading zeros may be left out: numbers, not strings.
    let signature = [vec![0, 0x18, 0, 0x0c], tpm2b(r), tpm2b(s)].concat();
    Signature::parse(&signature).unwrap().verify(&ak, b"message").unwrap();
    let forged = Signature::parse(&signature).unwrap().verify(&ak, b"massage");
    assert_eq!(forged.unwrap_err(), SignatureError::Forged);
}

fn rsa_public(attributes: u32, symmetric: &[u16], scheme: &[u16], exponent: u32, modulus: &[u8]) -> Vec<u8> {
    let mut out = [0x0001_u16.to_be_bytes(), SHA256.to_be_bytes()].concat();
    out.extend(attributes.to_be_bytes());
    out.extend(tpm2b(&[]));
    for word in symmetric.iter().chain(scheme) {
        out.extend(word.to_be_bytes());
    }
    out.extend(u16::try_from(modulus.len() * 8).unwrap().to_be_bytes());
    out.extend(exponent.to_be_bytes());
    out.extend(tpm2b(modulus));
    out
}

#[test]
#[expect(clippy::disallowed_types, reason = "the test key needs randomness to sign")]
fn rsa_keys_sign_with_the_scheme_they_are_bound_to() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let sign = |encoding: &'static RsaSignatureEncoding, alg: u8| {
        let mut raw = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &aws_lc_rs::rand::SystemRandom::new(), b"message", &mut raw).unwrap();
        [vec![0, alg, 0, 0x0b], tpm2b(&raw)].concat()
    };
    static LONG_SALT: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
    let signatures = [sign(&RSA_PKCS1_SHA256, 0x14), sign(&RSA_PSS_SHA256, 0x16), sign(&LONG_SALT, 0x16)];
    for (scheme, accepted) in [(0x0014, [true, false, false]), (0x0016, [false, true, true])] {
        let public = rsa_public(AK_ATTRIBUTES, &[0x10], &[scheme, SHA256], 0, &modulus);
        let ak = AttestationKey::accept(&public).unwrap();
        assert_eq!(ak.public().spki_der(), pair.public_key().as_der().unwrap().as_ref());
        for (signature, accepted) in signatures.iter().zip(accepted) {
            let verified = Signature::parse(signature).unwrap().verify(&ak, b"message");
            match verified {
                Ok(()) => assert!(accepted),
                Err(SignatureError::Scheme { .. }) => assert!(!accepted),
                Err(other) => panic!("refused for another reason: {other:?}"),
            }
        }
    }
}

#[test]
fn row_12_an_rsa_key_takes_no_ecdsa_signature() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let public = rsa_public(AK_ATTRIBUTES, &[0x10], &[0x14, SHA256], 0, &modulus);
    let ak = AttestationKey::accept(&public).unwrap();
    let ecdsa = Key::new().sign(b"message");
    let error = Signature::parse(&ecdsa).unwrap().verify(&ak, b"message").unwrap_err();
    let (expected, found) = (Scheme::RsaSsa(HashAlg::Sha256), Scheme::Ecdsa(HashAlg::Sha256));
    assert_eq!(error, SignatureError::Scheme { expected, found });
}

/// As on virtual machines of some clouds: an RSA key that signs with SHA-1, by default and by scheme.
#[test]
fn row_15_an_rsa_key_that_signs_with_sha1_is_refused() {
    for (scheme, found) in [(0x14, Scheme::RsaSsa(HashAlg::Sha1)), (0x16, Scheme::RsaPss(HashAlg::Sha1))] {
        let public = rsa_public(AK_ATTRIBUTES, &[0x10], &[scheme, 0x0004], 0, &[0xff; 256]);
        assert_eq!(AttestationKey::accept(&public).unwrap_err(), AkError::Scheme(found));
    }
}

#[test]
fn short_rsa_keys_are_refused() {
    let public = rsa_public(AK_ATTRIBUTES, &[0x10], &[0x14, SHA256], 0, &[0xff; 128]);
    assert_eq!(AttestationKey::accept(&public).unwrap_err(), AkError::RsaBits(1024));
    let padded = rsa_public(AK_ATTRIBUTES, &[0x10], &[0x14, SHA256], 0, &[0x7f; 256]);
    let modulus = PublicError::Modulus { bits: 2048, bytes: 256 };
    assert_eq!(AttestationKey::accept(&padded).unwrap_err(), AkError::Public(modulus));
}

const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
const POLICY_B: &str = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";

/// An EK of template L-2 or H-2, with fields that a test may set wrong.
fn ek(attributes: u32, policy: &str, symmetric: [u16; 3], scheme: u16, kdf: &[u16]) -> Vec<u8> {
    let mut out = [0x0023_u16.to_be_bytes(), SHA256.to_be_bytes()].concat();
    out.extend(attributes.to_be_bytes());
    out.extend(tpm2b(&hex::decode(policy).unwrap()));
    for word in symmetric.iter().chain(&[scheme, 0x0003]).chain(kdf) {
        out.extend(word.to_be_bytes());
    }
    out.extend(tpm2b(&[1; 32]));
    out.extend(tpm2b(&[2; 31]));
    out
}

const AES_128_CFB: [u16; 3] = [0x0006, 128, 0x0043];

#[test]
fn default_templates_are_told_apart() {
    let low = EkPublic::parse(&ek(0x0003_00b2, POLICY_A, AES_128_CFB, 0x10, &[0x10])).unwrap();
    let high = EkPublic::parse(&ek(0x0003_00f2, POLICY_B, AES_128_CFB, 0x10, &[0x10])).unwrap();
    assert_eq!((low.template(), high.template()), ("L-2", "H-2"));
    // One key is one EK whatever template loaded it, and has two Names.
    assert_eq!(low.digest(), high.digest());
    assert_ne!(low.name(), high.name());
    let PublicKey::Ecc { point, .. } = low.key() else { panic!("an ECC key") };
    assert_eq!(point[..34], [&[4][..], &[1; 32], &[0]].concat(), "coordinates are padded on the left");
}

#[test]
fn anything_but_a_default_template_is_refused() {
    let no_kdf: &[u16] = &[0x10];
    for (public, template, field) in [
        (ek(0x0003_00b0, POLICY_A, AES_128_CFB, 0x10, no_kdf), "L-2", "attributes"),
        (ek(0x0007_00b2, POLICY_A, AES_128_CFB, 0x10, no_kdf), "L-2", "attributes"),
        (ek(0x0003_04b2, POLICY_A, AES_128_CFB, 0x10, no_kdf), "L-2", "attributes"),
        (ek(0x0003_00b2, POLICY_B, AES_128_CFB, 0x10, no_kdf), "L-2", "authPolicy"),
        (ek(0x0003_00f2, POLICY_A, AES_128_CFB, 0x10, no_kdf), "H-2", "authPolicy"),
        (ek(0x0003_00b2, "", AES_128_CFB, 0x10, no_kdf), "L-2", "authPolicy"),
        (ek(0x0003_00b2, POLICY_A, [6, 256, 0x43], 0x10, no_kdf), "L-2", "symmetric algorithm"),
        (ek(0x0003_00b2, POLICY_A, AES_128_CFB, 0x10, &[0x20, SHA256]), "L-2", "exponent or kdf"),
    ] {
        assert_eq!(EkPublic::parse(&public).unwrap_err(), EkError::Template { template, field });
    }
    let rsa = rsa_public(0x0003_00b2, &[6, 128, 0x43], &[0x10], 0, &[0xff; 128]);
    assert_eq!(EkPublic::parse(&rsa).unwrap_err(), EkError::RsaBits(1024));
}

#[test]
fn an_attestation_key_is_no_endorsement_key() {
    let error = EkPublic::parse(&Key::new().public(AK_ATTRIBUTES)).unwrap_err();
    assert_eq!(error, EkError::Template { template: "L-2", field: "attributes" });
}
