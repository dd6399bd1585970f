//! The key that is said to have signed a quote, in each form in which tools write it down.

use crate::budget::MAX_PUBLIC_BYTES;
use crate::digest::Digest;
use crate::tpm::alg::HashAlg;
use crate::tpm::bare::{BareKey, BareKeyError};
use crate::tpm::public::{AkError, AttestationKey, Public, PublicError};
use crate::tpm::signature::{Signature, SignatureError};
use crate::x509::der::SEQUENCE;
use crate::x509::pem::{self, PemError};
use crate::x509::spki::KeyError;

/// The bytes are no public key in a known form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Too long.
    #[error("the attestation key has {0} bytes; send its public area or its PEM")]
    TooLarge(usize),
    /// Not a public area.
    #[error("the attestation key is neither TPM2B_PUBLIC, TPMT_PUBLIC nor PEM")]
    Public(#[source] PublicError),
    /// Not PEM of a public key.
    #[error("the attestation key cannot be read as PEM")]
    Pem(#[source] PemError),
    /// Not a key.
    #[error("the attestation key cannot be read")]
    Key(#[source] KeyError),
}

/// A signature was not made by an attestation key that may be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// The public area is that of another kind of key.
    #[error("the key is no attestation key")]
    Ak(#[source] AkError),
    /// The signature is not the key's.
    #[error("the quote is not signed by the attestation key")]
    Signature(#[source] SignatureError),
    /// The same under a key without attributes.
    #[error("the quote is not signed by the attestation key")]
    Bare(#[source] BareKeyError),
}

/// Longest PEM: RSA 4096 takes 800 bytes; room for comments.
const MAX_PEM: usize = 8 * MAX_PUBLIC_BYTES;
const PEM: &[u8] = b"-----BEGIN";

/// A public key as it was written down; nothing is proven of it.
#[derive(Debug, Clone)]
pub(super) enum Signer {
    /// A public area, with attributes that must be an attestation key's.
    Area(Box<Public>),
    /// The key alone.
    Bare(BareKey),
}

impl Signer {
    /// Reads `TPM2B_PUBLIC`, bare `TPMT_PUBLIC`, or SubjectPublicKeyInfo in PEM or DER.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SignerError> {
        if bytes.len() > MAX_PEM {
            return Err(SignerError::TooLarge(bytes.len()));
        }
        if bytes.windows(PEM.len()).any(|window| window == PEM) {
            let der = pem::public_key(bytes).map_err(SignerError::Pem)?;
            return BareKey::parse_spki(&der).map(Self::Bare).map_err(SignerError::Key);
        }
        if bytes.first() == Some(&SEQUENCE) {
            return BareKey::parse_spki(bytes).map(Self::Bare).map_err(SignerError::Key);
        }
        let public = if has_length(bytes) { Public::parse_2b(bytes) } else { Public::parse(bytes) };
        public.map(|public| Self::Area(Box::new(public))).map_err(SignerError::Public)
    }

    /// Whether attributes are known, and so were demanded.
    pub(super) const fn has_attributes(&self) -> bool {
        matches!(self, Self::Area(_))
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(super) fn spki_digest(&self) -> Digest {
        match self {
            Self::Area(public) => public.spki_digest(),
            Self::Bare(key) => key.spki_digest(),
        }
    }

    /// Verifies `signature` over `message`; returns the hash of its scheme.
    pub(super) fn verify(&self, signature: &Signature<'_>, message: &[u8]) -> Result<HashAlg, SignedError> {
        match self {
            Self::Area(public) => {
                let ak = AttestationKey::accept(public.as_bytes()).map_err(SignedError::Ak)?;
                signature.verify(&ak, message).map_err(SignedError::Signature)?;
                Ok(ak.hash())
            }
            Self::Bare(key) => key.verify(signature, message).map_err(SignedError::Bare),
        }
    }
}

/// Whether the bytes begin with their own length, as a TPM2B does.
pub(super) fn has_length(bytes: &[u8]) -> bool {
    match bytes {
        [high, low, rest @ ..] => usize::from(u16::from_be_bytes([*high, *low])) == rest.len(),
        _ => false,
    }
}
