//! Keys whose signatures vouch for files, and the short ids by which signatures name them.

use std::fmt;

use aws_lc_rs::digest::Digest;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};

use super::version1::{Version1, Version1Key};
use crate::tpm::alg::HashAlg;
use crate::x509::Certificate;
use crate::x509::der::{self, Der, DerError};
use crate::x509::extension::parse_subject_key_id;
use crate::x509::oid;
use crate::x509::spki::{Curve, KeyError, SubjectKey};

/// Longest key or certificate in bytes.
pub const MAX_KEY_BYTES: usize = 4096;

/// Why a key cannot vouch for files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImaKeyError {
    /// Neither a public key nor a certificate.
    #[error("this is neither a public key (SubjectPublicKeyInfo) nor a certificate in DER")]
    Malformed(#[source] DerError),
    /// Too long.
    #[error("a key or certificate of {0} bytes; {MAX_KEY_BYTES} are allowed")]
    TooLong(usize),
    /// A key that cannot be used.
    #[error("the key cannot be used; give RSA of 2048 bits or more, P-256 or P-384")]
    Key(#[source] KeyError),
    /// A curve whose signatures are not verified here.
    #[error("keys on {0} are not used for files here; give RSA, P-256 or P-384")]
    Curve(&'static str),
    /// A key that makes no version 1 signatures.
    #[error("version 1 signatures are made with RSA; list this key in `keys`")]
    NotRsa,
}

/// A public key whose signatures vouch for files.
#[derive(Clone)]
pub struct ImaKey {
    der: Vec<u8>,
    verifiers: Vec<(HashAlg, ParsedPublicKey)>,
    ids: [Option<u32>; 2],
    version1: Option<Version1Key>,
}

impl ImaKey {
    /// Reads a key from `SubjectPublicKeyInfo` or from an X.509 certificate, of which only the key and the
    /// subject key identifier count: a release names its keys, so nothing else vouches for them.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImaKeyError> {
        Self::read(bytes).map(|(key, _)| key)
    }

    /// Reads a key whose version 1 signatures count too. They rest on SHA-1.
    pub fn parse_version1(bytes: &[u8]) -> Result<Self, ImaKeyError> {
        let (key, subject) = Self::read(bytes)?;
        let version1 = Version1Key::of(&subject).ok_or(ImaKeyError::NotRsa)?;
        Ok(Self { version1: Some(version1), ..key })
    }

    fn read(bytes: &[u8]) -> Result<(Self, SubjectKey), ImaKeyError> {
        if bytes.len() > MAX_KEY_BYTES {
            return Err(ImaKeyError::TooLong(bytes.len()));
        }
        let certificate = Certificate::parse(bytes).ok();
        let spki = certificate.as_ref().map_or(bytes, Certificate::spki);
        let key = SubjectKey::parse(spki).map_err(|error| match error {
            KeyError::Malformed(error) => ImaKeyError::Malformed(error),
            error => ImaKeyError::Key(error),
        })?;
        let verifiers = verifiers(&key)?;
        let stated = certificate.as_ref().and_then(|certificate| {
            let extension = certificate.extension(oid::SUBJECT_KEY_IDENTIFIER)?;
            last_four(parse_subject_key_id(extension.value).ok()?)
        });
        let ids = [stated, computed_id(spki).map_err(ImaKeyError::Malformed)?];
        Ok((Self { der: bytes.to_vec(), verifiers, ids, version1: None }, key))
    }

    /// What it was read from.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether its version 1 signatures count.
    #[must_use]
    pub const fn counts_version1(&self) -> bool {
        self.version1.is_some()
    }

    /// The key as `signature` names it, if its version 1 signatures count.
    pub(super) fn version1(&self, signature: &Version1<'_>) -> Option<&Version1Key> {
        self.version1.as_ref().filter(|key| key.is_named_by(signature))
    }

    /// Whether a signature that names this key id may be of this key.
    #[must_use]
    pub fn is_named(&self, id: u32) -> bool {
        self.ids.contains(&Some(id))
    }

    /// Verifies a signature over a message whose hash is `digest`.
    pub(super) fn verify(&self, alg: HashAlg, digest: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let (_, verifier) = self.verifiers.iter().find(|(of, _)| *of == alg).ok_or(BadSignature)?;
        let digest = Digest::import_less_safe(digest, alg.backend()).map_err(|_| BadSignature)?;
        verifier.verify_digest_sig(&digest, signature).map_err(|_| BadSignature)
    }
}

/// What it was read from, and as what, says everything.
impl PartialEq for ImaKey {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der && self.counts_version1() == other.counts_version1()
    }
}

impl Eq for ImaKey {}

impl fmt::Debug for ImaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImaKey").field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// The key, ready to verify signatures over hashes of each algorithm; never of SHA-1.
fn verifiers(key: &SubjectKey) -> Result<Vec<(HashAlg, ParsedPublicKey)>, ImaKeyError> {
    use HashAlg::{Sha256, Sha384, Sha512};
    let schemes: [(HashAlg, &'static dyn VerificationAlgorithm); 3] = match key {
        SubjectKey::Rsa { .. } => [
            (Sha256, &signature::RSA_PKCS1_2048_8192_SHA256),
            (Sha384, &signature::RSA_PKCS1_2048_8192_SHA384),
            (Sha512, &signature::RSA_PKCS1_2048_8192_SHA512),
        ],
        SubjectKey::Ec { curve: Curve::P256, .. } => [
            (Sha256, &signature::ECDSA_P256_SHA256_ASN1),
            (Sha384, &signature::ECDSA_P256_SHA384_ASN1),
            (Sha512, &signature::ECDSA_P256_SHA512_ASN1),
        ],
        SubjectKey::Ec { curve: Curve::P384, .. } => [
            (Sha256, &signature::ECDSA_P384_SHA256_ASN1),
            (Sha384, &signature::ECDSA_P384_SHA384_ASN1),
            (Sha512, &signature::ECDSA_P384_SHA512_ASN1),
        ],
        SubjectKey::Ec { curve: Curve::P521, .. } => return Err(ImaKeyError::Curve(Curve::P521.name())),
    };
    let (bytes, what) = match key {
        SubjectKey::Rsa { .. } => (key.to_der(), "RSA"),
        SubjectKey::Ec { point, curve } => (point.clone(), curve.name()),
    };
    let parsed = |(alg, scheme)| ParsedPublicKey::new(scheme, &bytes).map(|key| (alg, key));
    let verifiers = schemes.into_iter().map(parsed).collect::<Result<_, _>>();
    verifiers.map_err(|_| ImaKeyError::Key(KeyError::Invalid(what)))
}

/// The signature is not one of this key over this digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadSignature;

/// The last four bytes of the SHA-1 of the key's bits (RFC 5280, section 4.2.1.2, method 1), as evmctl
/// names keys that have no certificate. A name, not a proof.
fn computed_id(spki: &[u8]) -> Result<Option<u32>, DerError> {
    let mut inside = Der::new(spki).expect(der::SEQUENCE, "subjectPublicKeyInfo")?.inside();
    inside.expect(der::SEQUENCE, "algorithm")?;
    let bits = inside.expect(der::BIT_STRING, "subjectPublicKey")?.octets()?;
    Ok(last_four(HashAlg::Sha1.hash(&[bits]).as_bytes()))
}

fn last_four(bytes: &[u8]) -> Option<u32> {
    bytes.last_chunk().map(|id| u32::from_be_bytes(*id))
}
