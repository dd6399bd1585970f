//! `TPMT_SIGNATURE`: parse, and verify under an attestation key (TPM 2.0 Part 2, 11.3).
//!
//! Algorithm and hash come from the key. What the signature says about itself must agree, and is
//! never what decides (checklist row 12).

use aws_lc_rs::signature::ParsedPublicKey;

use super::alg::HashAlg;
use super::public::{AttestationKey, Scheme};
use super::spki;
use crate::budget::{MAX_COORDINATE_BYTES, MAX_RSA_BYTES, MAX_SIGNATURE_BYTES};
use crate::reader::{ReadError, Reader};

const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_ECDSA: u16 = 0x0018;

/// A signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// An algorithm or hash that is not known.
    #[error("the signature's algorithm is {0:#06x}; use ECDSA, RSASSA or RSAPSS")]
    Algorithm(u16),
    /// A hash that is not known.
    #[error("the signature's hash is {0:#06x}; use sha256, sha384 or sha512")]
    Hash(u16),
    /// The signature says it was made with another scheme than the key is bound to.
    #[error(
        "the signature is {found:?}, the attestation key signs only {expected:?}; sign with the key's own scheme"
    )]
    Scheme {
        /// The key's scheme.
        expected: Scheme,
        /// What the signature says.
        found: Scheme,
    },
    /// It is no signature by this key over these bytes.
    #[error(
        "the signature does not verify under the attestation key; the evidence was changed or another key signed it"
    )]
    Forged,
    /// Not well formed.
    #[error("the signature is malformed; send it exactly as the TPM returned it")]
    Structure(#[from] ReadError),
}

/// A parsed `TPMT_SIGNATURE`; nothing is proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature<'a> {
    /// `TPMS_SIGNATURE_ECDSA`
    Ecdsa {
        /// The hash it says was used.
        hash: HashAlg,
        /// The number r, most significant byte first.
        r: &'a [u8],
        /// The number s.
        s: &'a [u8],
    },
    /// `TPMS_SIGNATURE_RSASSA`
    RsaSsa {
        /// The hash it says was used.
        hash: HashAlg,
        /// The signature's bytes.
        signature: &'a [u8],
    },
    /// `TPMS_SIGNATURE_RSAPSS`
    RsaPss {
        /// The hash it says was used.
        hash: HashAlg,
        /// The signature's bytes.
        signature: &'a [u8],
    },
}

impl<'a> Signature<'a> {
    /// Parses a `TPMT_SIGNATURE`, whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SignatureError> {
        let mut reader = Reader::at_most(bytes, MAX_SIGNATURE_BYTES, "TPMT_SIGNATURE")?;
        let algorithm = reader.u16_be("sigAlg")?;
        if ![ALG_RSASSA, ALG_RSAPSS, ALG_ECDSA].contains(&algorithm) {
            return Err(SignatureError::Algorithm(algorithm));
        }
        let id = reader.u16_be("hash")?;
        let hash = HashAlg::from_id(id).ok_or(SignatureError::Hash(id))?;
        let signature = if algorithm == ALG_ECDSA {
            let r = reader.tpm2b(MAX_COORDINATE_BYTES, "r")?;
            Self::Ecdsa { hash, r, s: reader.tpm2b(MAX_COORDINATE_BYTES, "s")? }
        } else {
            let signature = reader.tpm2b(MAX_RSA_BYTES, "signature")?;
            if algorithm == ALG_RSASSA {
                Self::RsaSsa { hash, signature }
            } else {
                Self::RsaPss { hash, signature }
            }
        };
        reader.finish("TPMT_SIGNATURE")?;
        Ok(signature)
    }

    /// The scheme that it says it was made with.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Ecdsa { hash, .. } => Scheme::Ecdsa(*hash),
            Self::RsaSsa { hash, .. } => Scheme::RsaSsa(*hash),
            Self::RsaPss { hash, .. } => Scheme::RsaPss(*hash),
        }
    }

    /// Verifies it as a signature over `message` by `key`.
    pub fn verify(&self, key: &AttestationKey, message: &[u8]) -> Result<(), SignatureError> {
        let (expected, found) = (key.scheme(), self.scheme());
        if expected != found {
            return Err(SignatureError::Scheme { expected, found });
        }
        self.verify_under(key.verifiers(), message)
    }

    /// Verifies it by the key and in one of the ways that `verifiers` stand for.
    pub(super) fn verify_under(
        &self,
        verifiers: &[ParsedPublicKey],
        message: &[u8],
    ) -> Result<(), SignatureError> {
        let bytes = match self {
            Self::Ecdsa { r, s, .. } => spki::ecdsa_signature(r, s),
            Self::RsaSsa { signature, .. } | Self::RsaPss { signature, .. } => signature.to_vec(),
        };
        let valid = verifiers.iter().any(|verifier| verifier.verify_sig(message, &bytes).is_ok());
        valid.then_some(()).ok_or(SignatureError::Forged)
    }
}
