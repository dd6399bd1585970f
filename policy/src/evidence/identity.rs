//! The identity key: proven by its attestation key to live in the same TPM.
//!
//! TPM2_Certify says that a key with this Name is loaded in the TPM that holds the attestation key.
//! The Name covers the public area, so the attributes in it are true of the key. It does not say who
//! may use the key: certification works without the key's own authorization.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};

use crate::digest::Digest;
use crate::tpm::attest::{Attest, AttestError};
use crate::tpm::public::{
    AttestationKey, AttributeMismatch, Curve, Name, ObjectAttributes, Public, PublicError, PublicKey,
};
use crate::tpm::signature::{Signature, SignatureError};

/// A key is not proven to be an identity key of the attesting TPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityKeyError {
    /// Not a public area.
    #[error("the identity key's public area cannot be read; send it as the TPM returned it")]
    Public(#[source] PublicError),
    /// Not a certification.
    #[error("the identity key's certification cannot be read as TPM2_Certify")]
    Certify(#[source] AttestError),
    /// Not signed by the attestation key.
    #[error("the identity key's certification is not signed by the device's attestation key")]
    Signature(#[source] SignatureError),
    /// Made for another challenge, another statement or another use.
    #[error(
        "the certification answers another challenge or another statement; ask for a new challenge and certify again"
    )]
    QualifyingData,
    /// A certification of another key.
    #[error("the certification is of another key than {0}; certify the key that the certificate is for")]
    Name(Name),
    /// Attributes of another kind of key.
    #[error("the identity key's {0}; create it as a signing key that is fixed to its TPM and not restricted")]
    Attribute(AttributeMismatch),
    /// Not a P-256 key, or a point off the curve.
    #[error("the identity key is no valid P-256 key; create a P-256 key")]
    Key,
}

/// A key that the attestation key certified to live in its own TPM, never to leave it, and to sign
/// what software asks. Only [`CertifiedKey::verify`] makes it.
#[derive(Debug, Clone)]
pub struct CertifiedKey {
    public: Public,
    name: Name,
}

impl CertifiedKey {
    /// Verifies a certification of the key with public area `public` (`TPMT_PUBLIC`) by `ak`.
    ///
    /// `attest` and `signature` are `TPMS_ATTEST` and `TPMT_SIGNATURE` as TPM2_Certify returns them.
    pub fn verify(
        public: &[u8],
        attest: &[u8],
        signature: &[u8],
        ak: &AttestationKey,
        qualifying_data: [u8; 32],
    ) -> Result<Self, IdentityKeyError> {
        let public = resident(public, (attest, signature), ak, qualifying_data)?;
        demand_p256(&public)?;
        Ok(Self { name: public.name(), public })
    }

    /// The key as SubjectPublicKeyInfo in DER, to compare with a certificate request's.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.public.spki_der()
    }

    /// SHA-256 of [`Self::spki_der`].
    #[must_use]
    pub fn spki_digest(&self) -> Digest {
        self.public.spki_digest()
    }

    /// The TPM Name.
    #[must_use]
    pub const fn name(&self) -> Name {
        self.name
    }

    /// The public area; its policy and `userWithAuth` tell how the key is authorized.
    #[must_use]
    pub const fn public(&self) -> &Public {
        &self.public
    }
}

/// The public area of a key of any kind that `ak` certified to live in its own TPM, fixed there, and to sign what
/// software asks.
pub(super) fn resident(
    public: &[u8],
    (attest, signature): (&[u8], &[u8]),
    ak: &AttestationKey,
    qualifying_data: [u8; 32],
) -> Result<Public, IdentityKeyError> {
    let public = Public::parse(public).map_err(IdentityKeyError::Public)?;
    let parsed = Attest::parse(attest).map_err(IdentityKeyError::Certify)?;
    let certify = parsed.certify().map_err(IdentityKeyError::Certify)?;
    Signature::parse(signature)
        .and_then(|signature| signature.verify(ak, attest))
        .map_err(IdentityKeyError::Signature)?;
    if parsed.extra_data != qualifying_data {
        return Err(IdentityKeyError::QualifyingData);
    }
    let name = public.name();
    if certify.name != name.to_bytes() {
        return Err(IdentityKeyError::Name(name));
    }
    demand_signer(&public)?;
    Ok(public)
}

fn demand_signer(public: &Public) -> Result<(), IdentityKeyError> {
    let set = [
        ObjectAttributes::FIXED_TPM,
        ObjectAttributes::FIXED_PARENT,
        ObjectAttributes::SENSITIVE_DATA_ORIGIN,
        ObjectAttributes::SIGN,
    ];
    // A restricted key would sign what the TPM makes, so it could pose as an attestation key.
    let clear = [ObjectAttributes::RESTRICTED, ObjectAttributes::DECRYPT];
    public.attributes().demand(&set, &clear).map_err(IdentityKeyError::Attribute)
}

fn demand_p256(public: &Public) -> Result<(), IdentityKeyError> {
    match public.key() {
        PublicKey::Ecc { curve: Curve::P256, point } => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).map(drop).map_err(|_| IdentityKeyError::Key)
        }
        PublicKey::Ecc { .. } | PublicKey::Rsa { .. } => Err(IdentityKeyError::Key),
    }
}
