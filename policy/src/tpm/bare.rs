//! A signing key of which only the key itself is known, as a PEM file tells it.
//!
//! What this does not promise: that a TPM holds the key, or that it signs only what its TPM made. A
//! public area says that ([`AttestationKey`](super::public::AttestationKey)); a PEM file says nothing
//! about attributes. So nothing that leads to a certificate takes a bare key.

use super::ak::{self, AkError};
use super::alg::HashAlg;
use super::public::{Curve, PublicKey, Scheme};
use super::signature::{Signature, SignatureError};
use super::spki;
use crate::digest::Digest;
use crate::x509::spki::{Curve as SubjectCurve, KeyError, SubjectKey};

/// A signature does not hold under a bare key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BareKeyError {
    /// The signature's scheme is weak, or none of this key.
    #[error("the key cannot have made this signature")]
    Key(#[source] AkError),
    /// The signature is not the key's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// A public key without attributes and without a scheme of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareKey(PublicKey);

impl BareKey {
    /// Reads SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
    pub fn parse_spki(der: &[u8]) -> Result<Self, KeyError> {
        let key = SubjectKey::parse(der)?;
        key.validate()?;
        Ok(Self(match key {
            SubjectKey::Rsa { modulus, exponent } => {
                let exponent = exponent
                    .iter()
                    .try_fold(0_u32, |number, byte| number.checked_mul(256)?.checked_add(u32::from(*byte)));
                PublicKey::Rsa { modulus, exponent: exponent.ok_or(KeyError::Invalid("RSA"))? }
            }
            SubjectKey::Ec { curve, point } => PublicKey::Ecc { curve: curve_of(curve), point },
        }))
    }

    /// SHA-256 of the SubjectPublicKeyInfo in DER, as [`Public::spki_digest`](super::public::Public::spki_digest) has it.
    #[must_use]
    pub fn spki_digest(&self) -> Digest {
        Digest::of(&spki::encode(&self.0))
    }

    /// Verifies `signature` over `message` in the scheme that the signature names, which must be a
    /// strong one; returns its hash, under which a quote's PCR digest is made.
    pub fn verify(&self, signature: &Signature<'_>, message: &[u8]) -> Result<HashAlg, BareKeyError> {
        let verifiers = ak::verifiers(&self.0, signature.scheme()).map_err(BareKeyError::Key)?;
        signature.verify_under(&verifiers, message)?;
        match signature.scheme() {
            Scheme::Ecdsa(hash) | Scheme::RsaSsa(hash) | Scheme::RsaPss(hash) => Ok(hash),
            other @ (Scheme::Null | Scheme::Other(_)) => Err(BareKeyError::Key(AkError::Scheme(other))),
        }
    }
}

const fn curve_of(curve: SubjectCurve) -> Curve {
    match curve {
        SubjectCurve::P256 => Curve::P256,
        SubjectCurve::P384 => Curve::P384,
        SubjectCurve::P521 => Curve::P521,
    }
}
