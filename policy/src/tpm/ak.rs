//! The attestation key: which public areas may sign evidence.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self as backend, ParsedPublicKey};

use super::alg::HashAlg;
use super::public::{
    AttributeMismatch, Curve, Name, ObjectAttributes, Public, PublicError, PublicKey, Scheme,
};

/// Shortest RSA key that may attest: 112 bits of strength (NIST SP 800-57 Part 1, table 2).
const MIN_RSA_BYTES: usize = 256;

/// A public area is no attestation key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AkError {
    /// Not a public area.
    #[error("the attestation key's public area cannot be read; send it as the TPM returned it")]
    Public(#[source] PublicError),
    /// Attributes of another kind of key.
    #[error("the attestation key's {0}; create it as a restricted signing key that is fixed to its TPM")]
    Attribute(AttributeMismatch),
    /// No fixed scheme, a weak hash, or a scheme that is not supported.
    #[error(
        "the attestation key's scheme is {0:?}; bind it to ECDSA, RSASSA or RSAPSS with sha256 or stronger"
    )]
    Scheme(Scheme),
    /// A curve that attestation keys do not use.
    #[error("the attestation key's curve is {0:?}; use P-256 or P-384")]
    Curve(Curve),
    /// An RSA key that is too short.
    #[error("the attestation key has {0} bits; use RSA 2048 or longer")]
    RsaBits(usize),
    /// The bytes are no key of that algorithm: a point off its curve, an even exponent.
    #[error("the attestation key's public part is no valid key; create the key again")]
    NoKey,
}

/// A public area that may sign evidence: restricted, so it signs only what its TPM made itself, and
/// fixed to that TPM (checklist rows 3 and 12).
///
/// Whether a real TPM holds it is not known from the public area; an activated credential proves
/// that. `noDA` is not demanded: it protects the device against a lockout,
/// which is the device's loss and no weakness of its proof, so a key made by other software is
/// accepted without it.
#[derive(Clone)]
pub struct AttestationKey {
    public: Public,
    name: Name,
    scheme: Scheme,
    verifiers: Vec<ParsedPublicKey>,
}

impl AttestationKey {
    /// Accepts a `TPMT_PUBLIC` as an attestation key, or says which demand it does not meet.
    pub fn accept(tpmt_public: &[u8]) -> Result<Self, AkError> {
        let public = Public::parse(tpmt_public).map_err(AkError::Public)?;
        let set = [
            ObjectAttributes::FIXED_TPM,
            ObjectAttributes::FIXED_PARENT,
            ObjectAttributes::SENSITIVE_DATA_ORIGIN,
            ObjectAttributes::RESTRICTED,
            ObjectAttributes::SIGN,
        ];
        public.attributes().demand(&set, &[ObjectAttributes::DECRYPT]).map_err(AkError::Attribute)?;
        let verifiers = verifiers(public.key(), public.scheme())?;
        Ok(Self { name: public.name(), scheme: public.scheme(), verifiers, public })
    }

    /// The Name, computed from the public area.
    #[must_use]
    pub const fn name(&self) -> Name {
        self.name
    }

    /// The public area.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }

    /// The scheme that the key is bound to.
    #[must_use]
    pub(super) const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The hash of the scheme; a quote's PCR digest is made with it.
    #[must_use]
    pub const fn hash(&self) -> HashAlg {
        match self.scheme {
            Scheme::Ecdsa(hash) | Scheme::RsaSsa(hash) | Scheme::RsaPss(hash) => hash,
            // accept() lets no other scheme in.
            Scheme::Null | Scheme::Other(_) => HashAlg::Sha256,
        }
    }

    /// The key, ready to verify; a signature holds if one of these accepts it.
    pub(super) fn verifiers(&self) -> &[ParsedPublicKey] {
        &self.verifiers
    }
}

impl std::fmt::Debug for AttestationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttestationKey").field("name", &self.name).field("scheme", &self.scheme).finish()
    }
}

/// The ways in which a signature of this key under `scheme` may be made; never with SHA-1.
pub(super) fn verifiers(key: &PublicKey, scheme: Scheme) -> Result<Vec<ParsedPublicKey>, AkError> {
    match key {
        PublicKey::Ecc { curve, point } => ecdsa(*curve, point, scheme),
        PublicKey::Rsa { modulus, exponent } => rsa(modulus, *exponent, scheme),
    }
}

fn ecdsa(curve: Curve, point: &[u8], scheme: Scheme) -> Result<Vec<ParsedPublicKey>, AkError> {
    let algorithm = match (curve, scheme) {
        (Curve::P521, _) => return Err(AkError::Curve(curve)),
        (Curve::P256, Scheme::Ecdsa(HashAlg::Sha256)) => &backend::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, Scheme::Ecdsa(HashAlg::Sha384)) => &backend::ECDSA_P256_SHA384_ASN1,
        (Curve::P256, Scheme::Ecdsa(HashAlg::Sha512)) => &backend::ECDSA_P256_SHA512_ASN1,
        (Curve::P384, Scheme::Ecdsa(HashAlg::Sha256)) => &backend::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, Scheme::Ecdsa(HashAlg::Sha384)) => &backend::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, Scheme::Ecdsa(HashAlg::Sha512)) => &backend::ECDSA_P384_SHA512_ASN1,
        _ => return Err(AkError::Scheme(scheme)),
    };
    Ok(vec![ParsedPublicKey::new(algorithm, point).map_err(|_| AkError::NoKey)?])
}

fn rsa(modulus: &[u8], exponent: u32, scheme: Scheme) -> Result<Vec<ParsedPublicKey>, AkError> {
    if modulus.len() < MIN_RSA_BYTES {
        return Err(AkError::RsaBits(modulus.len().saturating_mul(8)));
    }
    // A TPM salts PSS with as many bytes as the digest has, or with as many as fit
    // (TPM 2.0 Part 1, B.7): both are PSS under this key and hash.
    const MAX: backend::RsaPssSaltLength = backend::RsaPssSaltLength::Max;
    const PSS_256_MAX: backend::RsaParameters = backend::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(MAX);
    const PSS_384_MAX: backend::RsaParameters = backend::RSA_PSS_2048_8192_SHA384.with_pss_salt_length(MAX);
    const PSS_512_MAX: backend::RsaParameters = backend::RSA_PSS_2048_8192_SHA512.with_pss_salt_length(MAX);
    let parameters: &[&'static backend::RsaParameters] = match scheme {
        Scheme::RsaSsa(HashAlg::Sha256) => &[&backend::RSA_PKCS1_2048_8192_SHA256],
        Scheme::RsaSsa(HashAlg::Sha384) => &[&backend::RSA_PKCS1_2048_8192_SHA384],
        Scheme::RsaSsa(HashAlg::Sha512) => &[&backend::RSA_PKCS1_2048_8192_SHA512],
        Scheme::RsaPss(HashAlg::Sha256) => &[&backend::RSA_PSS_2048_8192_SHA256, &PSS_256_MAX],
        Scheme::RsaPss(HashAlg::Sha384) => &[&backend::RSA_PSS_2048_8192_SHA384, &PSS_384_MAX],
        Scheme::RsaPss(HashAlg::Sha512) => &[&backend::RSA_PSS_2048_8192_SHA512, &PSS_512_MAX],
        _ => return Err(AkError::Scheme(scheme)),
    };
    let exponent = exponent.to_be_bytes();
    let first = exponent.iter().position(|byte| *byte != 0).unwrap_or(0);
    let key = PublicKeyComponents { n: modulus, e: exponent.get(first..).unwrap_or_default() };
    parameters.iter().map(|p| key.to_parsed_public_key(p).map_err(|_| AkError::NoKey)).collect()
}
