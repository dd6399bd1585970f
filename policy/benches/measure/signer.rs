//! An attestation key of a test, and the check of its signature by the library alone.

use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};
use policy::tpm::public::AttestationKey;
use policy::tpm::signature::Signature;

use super::tpm;

/// A key whose public area and signatures are written as a TPM writes them.
pub(crate) enum Signer {
    P256(tpm::Key),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    pub(crate) fn p256() -> Self {
        Self::P256(tpm::Key::new())
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    /// How many times the floor verification and appraisal may take. The check of an RSA signature takes a
    /// third of one on P-256, so everything else weighs more beside it.
    pub(crate) const fn promised(&self) -> f64 {
        match self {
            Self::P256(_) => 2.0,
            Self::Rsa(_) => 3.0,
        }
    }

    pub(crate) fn ak(&self) -> AttestationKey {
        match self {
            Self::P256(key) => key.ak(),
            Self::Rsa(key) => AttestationKey::accept(&rsa_public(key)).unwrap(),
        }
    }

    /// `TPMT_SIGNATURE` over `message`.
    #[expect(clippy::disallowed_types, reason = "the test key needs randomness to sign")]
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => key.sign(message),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let random = aws_lc_rs::rand::SystemRandom::new();
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                [&[0x00, 0x14, 0x00, 0x0b][..], &tpm::tpm2b(&signature)].concat()
            }
        }
    }

    /// The key as the library wants it, read once as an attestation key is.
    pub(crate) fn verifier(&self) -> ParsedPublicKey {
        match self {
            Self::P256(key) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point()).unwrap(),
            Self::Rsa(key) => {
                ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref()).unwrap()
            }
        }
    }
}

/// The bytes of a `TPMT_SIGNATURE` that the library verifies.
pub(crate) fn library_form(tpmt_signature: &[u8]) -> Vec<u8> {
    match Signature::parse(tpmt_signature).unwrap() {
        Signature::Ecdsa { r, s, .. } => [r, s].concat(),
        Signature::RsaSsa { signature, .. } | Signature::RsaPss { signature, .. } => signature.to_vec(),
    }
}

/// `TPMT_PUBLIC` of a restricted RSASSA key.
fn rsa_public(key: &RsaKeyPair) -> Vec<u8> {
    let modulus = key.public_key().modulus().big_endian_without_leading_zero();
    let mut out = vec![0x00, 0x01, 0x00, 0x0b];
    out.extend(tpm::AK_ATTRIBUTES.to_be_bytes());
    out.extend(tpm::tpm2b(&[]));
    out.extend([0x00, 0x10, 0x00, 0x14, 0x00, 0x0b]);
    out.extend(2048_u16.to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.extend(tpm::tpm2b(modulus));
    out
}
