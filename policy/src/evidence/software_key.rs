//! A key that lives in software, for a server that cannot use one in a TPM: its certificate request, verified.
//!
//! Promises: a [`SoftwareKey`] is a P-256 key; whoever made the request had its private half; and the request is the
//! one whose digest the device stated. Quote and Certify sign the statement, so the key is bound to fresh evidence of
//! one device: it is certified *through* it. A request that asks for names or extensions is refused.
//! Does not promise that the key stays where it was made: it can be copied, so a zone has to allow such keys by name
//! ([`crate::grant::IssuanceGrant::for_software_key`]).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::budget::MAX_CSR_BYTES;
use crate::digest::Digest;
use crate::x509::der::DerError;
use crate::x509::oid;
use crate::x509::request::{Asks, Request};
use crate::x509::spki::{Curve, KeyError, SubjectKey};

/// A certificate request is not one for a software key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SoftwareKeyError {
    /// Longer than any request for a P-256 key.
    #[error("the request has {0} bytes; one for a P-256 key has at most {MAX_CSR_BYTES}")]
    TooLong(usize),
    /// Not the request that the statement names.
    #[error("the statement does not name this request; state the digest of the request that is sent")]
    NotStated,
    /// No PKCS#10 request.
    #[error("the request cannot be read as PKCS#10")]
    Malformed(#[source] DerError),
    /// It asks for more than its key certified.
    #[error(transparent)]
    Asks(#[from] Asks),
    /// The key in it cannot be used.
    #[error("the request's key cannot be used")]
    Key(#[source] KeyError),
    /// A key of another kind.
    #[error("the request is for a key of kind {0}; make a P-256 key")]
    Kind(String),
    /// Another signature algorithm.
    #[error("the request is signed with {0}; sign it with ECDSA and SHA-256")]
    Algorithm(String),
    /// The private half was not there when the request was made, or the request was changed.
    #[error("the request is not signed by the key that it is for")]
    Possession,
}

/// A software key whose request was stated and is signed by it. Only [`SoftwareKey::verify`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftwareKey {
    key: SubjectKey,
}

impl SoftwareKey {
    /// Verifies a certificate request (PKCS#10, DER) that the statement names by the digest `stated`.
    pub fn verify(csr: &[u8], stated: &[u8]) -> Result<Self, SoftwareKeyError> {
        if csr.len() > MAX_CSR_BYTES {
            return Err(SoftwareKeyError::TooLong(csr.len()));
        }
        if Digest::of(csr).0 != stated {
            return Err(SoftwareKeyError::NotStated);
        }
        let request = Request::parse(csr).map_err(SoftwareKeyError::Malformed)?;
        let key = SubjectKey::parse(request.spki).map_err(SoftwareKeyError::Key)?;
        let SubjectKey::Ec { curve: Curve::P256, point } = &key else {
            return Err(SoftwareKeyError::Kind(format!("{} {}", key.kind(), key.size())));
        };
        if request.algorithm != oid::ECDSA_WITH_SHA256 {
            return Err(SoftwareKeyError::Algorithm(oid::text(request.algorithm)));
        }
        key.validate().map_err(SoftwareKeyError::Key)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(request.info, request.signature)
            .map_err(|_| SoftwareKeyError::Possession)?;
        request.only_for_its_key()?;
        Ok(Self { key })
    }

    /// The key as SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.key.to_der()
    }

    /// SHA-256 of [`Self::spki_der`].
    #[must_use]
    pub fn spki_digest(&self) -> Digest {
        self.key.digest()
    }
}
