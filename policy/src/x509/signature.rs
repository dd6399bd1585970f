//! Signatures on certificates: over the TBS bytes as received, by a key of the algorithm's own kind.
//!
//! SHA-1 is refused by name, with one exception: RSA PKCS#1 on certificates that began before 2017
//! ([`SHA1_ENDS`]), because TPMs of that time are in the field for life with EK certificates that nobody signs
//! anew. What breaks SHA-1 is collisions, and who exploits one needs the issuer to sign his half of the pair.
//! Before SHAttered (February 2017) nobody was known to make collisions, and to a signature that exists a second
//! message still cannot be found. So an old signature is no forgery of today, as long as its issuer has stopped
//! signing with SHA-1. That it has is not proven here: an issuer that still did could be made to sign for a
//! colliding certificate that is backdated. So [`verify`] says what a signature rests on, and who reports the
//! chain must pass it on.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::certificate::Certificate;
use super::der::{self, Der, DerError};
use super::oid;
use super::spki::{Curve, KeyError, SubjectKey};
use crate::time::UnixTime;

/// 2017-01-01T00:00:00Z: certificates that begin at or after it cannot rest on SHA-1. The last turn of the year
/// before the first public collision (Stevens et al., <https://shattered.io>, 23 February 2017).
pub const SHA1_ENDS: UnixTime = UnixTime(1_483_228_800);

/// Why a certificate's signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// AlgorithmIdentifier cannot be read.
    #[error("the signature algorithm is malformed")]
    Malformed(#[source] DerError),
    /// SHA-1, and not RSA PKCS#1 on a certificate that began before [`SHA1_ENDS`].
    #[error("the signature rests on SHA-1")]
    Sha1,
    /// An algorithm or parameters that are not verified here.
    #[error("signature algorithm {0} is not verified here")]
    Algorithm(String),
    /// The issuer's key is of another kind than the algorithm.
    #[error("the signature algorithm does not fit the issuer's key")]
    KeyMismatch,
    /// The issuer's key cannot be used.
    #[error("the issuer's key cannot be used")]
    Key(#[source] KeyError),
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Wrong,
}

/// What a signature that holds rests on, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// SHA-1, on a certificate that began before [`SHA1_ENDS`].
    Sha1,
    /// A hash of the SHA-2 family.
    Sha2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    RsaPkcs1(Hash),
    /// RSA PKCS#1 with SHA-1, on an old certificate.
    RsaPkcs1Sha1,
    RsaPss(Hash),
    Ecdsa(Hash),
}

impl Scheme {
    const fn strength(self) -> Strength {
        match self {
            Self::RsaPkcs1Sha1 => Strength::Sha1,
            Self::RsaPkcs1(_) | Self::RsaPss(_) | Self::Ecdsa(_) => Strength::Sha2,
        }
    }
}

/// Verifies that `certificate` was signed by the key of `issuer`, and by nothing else than what it says.
pub fn verify(certificate: &Certificate<'_>, issuer: &Certificate<'_>) -> Result<Strength, SignatureError> {
    let scheme = parse_scheme(certificate.signature_algorithm(), certificate.validity().not_before)?;
    let key = SubjectKey::parse(issuer.spki()).map_err(SignatureError::Key)?;
    let (algorithm, bytes): (&dyn VerificationAlgorithm, _) = match (&key, scheme) {
        (SubjectKey::Rsa { .. }, Scheme::RsaPkcs1(hash)) => (hash.rsa_pkcs1(), key.to_der()),
        (SubjectKey::Rsa { .. }, Scheme::RsaPkcs1Sha1) => {
            (&signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, key.to_der())
        }
        (SubjectKey::Rsa { .. }, Scheme::RsaPss(hash)) => (hash.rsa_pss(), key.to_der()),
        (SubjectKey::Ec { curve, point }, Scheme::Ecdsa(hash)) => (curve.ecdsa(hash), point.clone()),
        _ => return Err(SignatureError::KeyMismatch),
    };
    UnparsedPublicKey::new(algorithm, bytes)
        .verify(certificate.tbs(), certificate.signature())
        .map_err(|_| SignatureError::Wrong)?;
    Ok(scheme.strength())
}

/// Whether a certificate names SHA-1 for its signature, whatever the signature is worth; for descriptions.
pub(crate) fn names_sha1(certificate: &Certificate<'_>) -> bool {
    let algorithm = split(certificate.signature_algorithm()).map(|(algorithm, _)| algorithm);
    matches!(algorithm, Ok(oid::SHA1_WITH_RSA | oid::ECDSA_WITH_SHA1))
}

/// The scheme of a certificate that began at `not_before`.
fn parse_scheme(identifier: &[u8], not_before: UnixTime) -> Result<Scheme, SignatureError> {
    let (algorithm, parameters) = split(identifier).map_err(SignatureError::Malformed)?;
    let scheme = match algorithm {
        oid::SHA1_WITH_RSA if not_before < SHA1_ENDS => Scheme::RsaPkcs1Sha1,
        oid::SHA1_WITH_RSA | oid::ECDSA_WITH_SHA1 => return Err(SignatureError::Sha1),
        oid::RSASSA_PSS => return parse_pss(parameters),
        oid::SHA256_WITH_RSA => Scheme::RsaPkcs1(Hash::Sha256),
        oid::SHA384_WITH_RSA => Scheme::RsaPkcs1(Hash::Sha384),
        oid::SHA512_WITH_RSA => Scheme::RsaPkcs1(Hash::Sha512),
        oid::ECDSA_WITH_SHA256 => Scheme::Ecdsa(Hash::Sha256),
        oid::ECDSA_WITH_SHA384 => Scheme::Ecdsa(Hash::Sha384),
        oid::ECDSA_WITH_SHA512 => Scheme::Ecdsa(Hash::Sha512),
        other => return Err(SignatureError::Algorithm(oid::text(other))),
    };
    match parameters {
        [] | [der::NULL, 0] => Ok(scheme),
        _ => Err(SignatureError::Algorithm(format!("{} with parameters", oid::text(algorithm)))),
    }
}

/// RSASSA-PSS-params (RFC 4055, section 3.1). One form is accepted for each hash: MGF1 with the same hash and
/// a salt as long as the hash; all others, the SHA-1 defaults among them, have another encoding.
fn parse_pss(parameters: &[u8]) -> Result<Scheme, SignatureError> {
    let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
    let accepted = hashes.into_iter().find(|hash| hash.pss_forms().iter().any(|form| form == parameters));
    accepted.map(Scheme::RsaPss).ok_or_else(|| {
        SignatureError::Algorithm(format!("{} with its parameters", oid::text(oid::RSASSA_PSS)))
    })
}

/// The object identifier and the DER of the parameters of an AlgorithmIdentifier.
fn split(identifier: &[u8]) -> Result<(&[u8], &[u8]), DerError> {
    let mut outer = Der::new(identifier);
    let mut inside = outer.expect(der::SEQUENCE, "signatureAlgorithm")?.inside();
    let algorithm = inside.expect(der::OBJECT_IDENTIFIER, "algorithm")?.bytes();
    Ok((algorithm, inside.rest()))
}

impl Hash {
    fn rsa_pkcs1(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        }
    }

    fn rsa_pss(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Sha256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Sha384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Sha512 => &signature::RSA_PSS_2048_8192_SHA512,
        }
    }

    /// The accepted parameters: with the hash's own parameters NULL or absent (RFC 4055, section 2.1).
    fn pss_forms(self) -> [Vec<u8>; 2] {
        let (hash, salt): (&[u8], u8) = match self {
            Self::Sha256 => (oid::SHA256, 32),
            Self::Sha384 => (oid::SHA384, 48),
            Self::Sha512 => (oid::SHA512, 64),
        };
        let object = |oid: &[u8]| der::encode(der::OBJECT_IDENTIFIER, &[oid]);
        let form = |null: &[u8]| {
            let hash = der::encode(der::SEQUENCE, &[&object(hash), null]);
            let mgf = der::encode(der::SEQUENCE, &[&object(oid::MGF1), &hash]);
            let salt = der::encode(0xa2, &[&der::encode_unsigned(&[salt])]);
            der::encode(der::SEQUENCE, &[&der::encode(0xa0, &[&hash]), &der::encode(0xa1, &[&mgf]), &salt])
        };
        [form(&[der::NULL, 0]), form(&[])]
    }
}

impl Curve {
    fn ecdsa(self, hash: Hash) -> &'static dyn VerificationAlgorithm {
        match (self, hash) {
            (Self::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Self::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (Self::P256, Hash::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
            (Self::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (Self::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Self::P384, Hash::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
            (Self::P521, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
            (Self::P521, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
            (Self::P521, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
        }
    }

    /// Any algorithm on this curve, to have a point judged.
    pub(super) fn any_ecdsa(self) -> &'static dyn VerificationAlgorithm {
        self.ecdsa(Hash::Sha512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(algorithm: &[u8], not_before: UnixTime) -> Result<Scheme, SignatureError> {
        let algorithm = der::encode(der::OBJECT_IDENTIFIER, &[algorithm]);
        parse_scheme(&der::encode(der::SEQUENCE, &[&algorithm, &[der::NULL, 0]]), not_before)
    }

    #[test]
    fn sha_1_is_accepted_of_rsa_on_certificates_that_began_before_2017() {
        assert_eq!(SHA1_ENDS.to_string(), "2017-01-01T00:00:00Z");
        let last = SHA1_ENDS.minus(1);
        let old = scheme(oid::SHA1_WITH_RSA, last).unwrap();
        assert_eq!((old, old.strength()), (Scheme::RsaPkcs1Sha1, Strength::Sha1));
        assert_eq!(scheme(oid::SHA1_WITH_RSA, SHA1_ENDS), Err(SignatureError::Sha1));
        assert_eq!(scheme(oid::ECDSA_WITH_SHA1, last), Err(SignatureError::Sha1));
        assert_eq!(scheme(oid::SHA256_WITH_RSA, last).unwrap().strength(), Strength::Sha2);
    }
}
