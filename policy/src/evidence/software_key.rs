//! A key that lives in software, for a server that cannot use one in a TPM: its certificate request, verified.
//!
//! Promises: a [`SoftwareKey`] is a P-256 key; whoever made the request had its private half; and the request is the
//! one whose digest the device stated. Quote and Certify sign the statement, so the key is bound to fresh evidence of
//! one device: it is certified *through* it. Names and extensions of the request are not looked at.
//! Does not promise that the key stays where it was made: it can be copied, so a zone has to allow such keys by name
//! ([`crate::grant::IssuanceGrant::for_software_key`]).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::budget::MAX_CSR_BYTES;
use crate::digest::Digest;
use crate::x509::der::{self, Der, DerError};
use crate::x509::oid;
use crate::x509::spki::{Curve, KeyError, SubjectKey};

/// Tag of `[0] attributes`.
const ATTRIBUTES: u8 = 0xa0;

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

/// The parts of a CertificationRequest (RFC 2986, section 4.2) that are verified.
struct Request<'a> {
    /// CertificationRequestInfo as it was signed.
    info: &'a [u8],
    spki: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, DerError> {
        let mut outer = Der::new(bytes);
        let mut inside = outer.expect(der::SEQUENCE, "certificationRequest")?.inside();
        outer.finish("certificationRequest")?;
        let info = inside.expect(der::SEQUENCE, "certificationRequestInfo")?;
        let mut identifier = inside.expect(der::SEQUENCE, "signatureAlgorithm")?.inside();
        let algorithm = identifier.expect(der::OBJECT_IDENTIFIER, "algorithm")?.bytes();
        let signature = inside.expect(der::BIT_STRING, "signature")?.octets()?;
        inside.finish("signature")?;
        let mut fields = info.inside();
        let version = fields.expect(der::INTEGER, "version")?;
        if version.number()? != 0 {
            return Err(version.invalid("a certification request has version 0"));
        }
        fields.expect(der::SEQUENCE, "subject")?;
        let spki = fields.expect(der::SEQUENCE, "subjectPKInfo")?.raw();
        fields.optional(ATTRIBUTES, "attributes")?;
        fields.finish("certificationRequestInfo")?;
        Ok(Self { info: info.raw(), spki, algorithm, signature })
    }
}
