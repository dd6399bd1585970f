//! `TPMT_PUBLIC`: the public area of a TPM key, its Name and its attributes (TPM 2.0 Part 2, 12.2).
//!
//! A parsed public area is a claim. That a TPM holds the key is proven elsewhere: by an activated
//! credential for the attestation key, by TPM2_Certify for every other. A point is not compared with
//! its curve here; whoever uses it does that ([`AttestationKey::accept`], key agreement, a
//! certificate's issuer).

use std::fmt;

use super::alg::{HashAlg, HashValue};
use super::spki;
use crate::budget::{
    MAX_COORDINATE_BYTES, MAX_DIGEST_BYTES, MAX_NAME_BYTES, MAX_PUBLIC_BYTES, MAX_RSA_BYTES,
};
use crate::digest::Digest;
use crate::reader::{ReadError, Reader};

pub use super::ak::{AkError, AttestationKey};
pub use super::ek::{EkError, EkPublic};

/// Bytes are no public area that is understood here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicError {
    /// Neither RSA nor ECC.
    #[error("the key is of type {0:#06x}; use an RSA (0x0001) or ECC (0x0023) key")]
    KeyType(u16),
    /// The Name would be computed with a hash that is broken or not known.
    #[error("the key's nameAlg is {0:#06x}; create it with sha256, sha384 or sha512")]
    NameAlg(u16),
    /// A curve that is not known.
    #[error("the key's curve is {0:#06x}; use P-256, P-384 or P-521")]
    Curve(u16),
    /// The modulus is not as long as the key says.
    #[error(
        "the RSA modulus has {bytes} bytes, the key says {bits} bits; send the public area as the TPM returned it"
    )]
    Modulus {
        /// `keyBits`
        bits: u16,
        /// Length of the modulus.
        bytes: usize,
    },
    /// Not well formed.
    #[error("the public area is malformed; send it exactly as the TPM returned it")]
    Structure(#[from] ReadError),
}

/// `TPMA_OBJECT` (TPM 2.0 Part 2, 8.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectAttributes(u32);

impl ObjectAttributes {
    /// The key never leaves its TPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// The key does not survive a TPM Restart.
    pub const ST_CLEAR: Self = Self(1 << 2);
    /// The key never leaves its parent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// The TPM made the private part.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// The user role is open to a password or HMAC session.
    pub const USER_WITH_AUTH: Self = Self(1 << 6);
    /// The admin role needs a policy session.
    pub const ADMIN_WITH_POLICY: Self = Self(1 << 7);
    /// Failures do not count towards the dictionary-attack lockout.
    pub const NO_DA: Self = Self(1 << 10);
    /// Duplication must be encrypted.
    pub const ENCRYPTED_DUPLICATION: Self = Self(1 << 11);
    /// Signs or decrypts only what the TPM itself made.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// May decrypt.
    pub const DECRYPT: Self = Self(1 << 17);
    /// May sign.
    pub const SIGN: Self = Self(1 << 18);

    const NAMES: [(Self, &'static str); 11] = [
        (Self::FIXED_TPM, "fixedTPM"),
        (Self::ST_CLEAR, "stClear"),
        (Self::FIXED_PARENT, "fixedParent"),
        (Self::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (Self::USER_WITH_AUTH, "userWithAuth"),
        (Self::ADMIN_WITH_POLICY, "adminWithPolicy"),
        (Self::NO_DA, "noDA"),
        (Self::ENCRYPTED_DUPLICATION, "encryptedDuplication"),
        (Self::RESTRICTED, "restricted"),
        (Self::DECRYPT, "decrypt"),
        (Self::SIGN, "sign"),
    ];

    /// The set of these bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The first attribute, by name, in which this set differs from what is demanded.
    pub(crate) fn demand(self, set: &[Self], clear: &[Self]) -> Result<(), AttributeMismatch> {
        let wrong = |attribute: &Self, expected| AttributeMismatch { attribute: attribute.name(), expected };
        if let Some(missing) = set.iter().find(|attribute| !self.contains(**attribute)) {
            return Err(wrong(missing, "set"));
        }
        match clear.iter().find(|attribute| self.contains(**attribute)) {
            Some(surplus) => Err(wrong(surplus, "clear")),
            None => Ok(()),
        }
    }

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(attribute, _)| *attribute == self).map_or("attributes", |(_, name)| name)
    }
}

impl fmt::Debug for ObjectAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(attribute, _)| self.contains(*attribute));
        f.debug_set().entries(names.map(|(_, name)| format_args!("{name}").to_string())).finish()
    }
}

/// An attribute of a key is not what its use demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{attribute} must be {expected}")]
pub struct AttributeMismatch {
    /// Name of the attribute (TPM 2.0 Part 2, 8.3).
    pub attribute: &'static str,
    /// `set` or `clear`.
    pub expected: &'static str,
}

/// The Name of a TPM object: `nameAlg ‖ H(public area)` (TPM 2.0 Part 1, 16).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(HashValue);

impl Name {
    /// The Name of an object with this public area.
    #[must_use]
    pub fn of(name_alg: HashAlg, public_area: &[u8]) -> Self {
        Self(name_alg.hash(&[public_area]))
    }

    /// Reads the bytes of a Name that was made with an accepted hash.
    pub fn parse(bytes: &[u8]) -> Result<Self, PublicError> {
        let mut reader = Reader::at_most(bytes, MAX_NAME_BYTES, "Name")?;
        let alg = name_alg(reader.u16_be("nameAlg")?)?;
        let offset = reader.offset();
        let digest = reader.rest();
        let wrong = ReadError::Invalid { offset, what: "the Name's digest has not its algorithm's length" };
        HashValue::new(alg, digest).map(Self).ok_or(PublicError::Structure(wrong))
    }

    /// The bytes, algorithm first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.0.alg().id().to_be_bytes().to_vec();
        out.extend_from_slice(self.0.as_bytes());
        out
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An elliptic curve (`TPMI_ECC_CURVE`, TPM 2.0 Part 2, 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// `TPM_ECC_NIST_P256`
    P256,
    /// `TPM_ECC_NIST_P384`
    P384,
    /// `TPM_ECC_NIST_P521`
    P521,
}

impl Curve {
    /// Length of a coordinate in bytes.
    #[must_use]
    pub const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn from_id(id: u16) -> Result<Self, PublicError> {
        match id {
            0x0003 => Ok(Self::P256),
            0x0004 => Ok(Self::P384),
            0x0005 => Ok(Self::P521),
            other => Err(PublicError::Curve(other)),
        }
    }
}

/// The key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// An RSA key.
    Rsa {
        /// Modulus, most significant byte first.
        modulus: Vec<u8>,
        /// Public exponent; a TPM's 0 is read as 65537 (TPM 2.0 Part 2, 12.2.3.5).
        exponent: u32,
    },
    /// A point of an elliptic curve.
    Ecc {
        /// The curve.
        curve: Curve,
        /// Uncompressed point: 4, x, y, coordinates padded to full length (SEC 1, 2.3.3).
        point: Vec<u8>,
    },
}

/// The scheme that a key is bound to (`TPMT_RSA_SCHEME`, `TPMT_ECC_SCHEME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `TPM_ALG_NULL`: chosen at each use.
    Null,
    /// RSASSA-PKCS1-v1_5
    RsaSsa(HashAlg),
    /// RSASSA-PSS
    RsaPss(HashAlg),
    /// ECDSA
    Ecdsa(HashAlg),
    /// Any other, by `TPM_ALG_ID`.
    Other(u16),
}

/// The symmetric algorithm of a storage key (`TPMT_SYM_DEF_OBJECT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symmetric {
    /// `TPM_ALG_ID`
    pub alg: u16,
    /// Key size in bits.
    pub key_bits: u16,
    /// `TPM_ALG_ID` of the mode.
    pub mode: u16,
}

/// A parsed public area together with its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Public {
    encoded: Vec<u8>,
    pub(super) name_alg: HashAlg,
    pub(super) attributes: ObjectAttributes,
    pub(super) auth_policy: Vec<u8>,
    pub(super) symmetric: Option<Symmetric>,
    pub(super) scheme: Scheme,
    /// Exponent written as 0 (RSA) or no KDF scheme (ECC), as every EK template has it.
    pub(super) default_parameters: bool,
    pub(super) key: PublicKey,
}

const ALG_RSA: u16 = 0x0001;
const ALG_NULL: u16 = 0x0010;
const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAES: u16 = 0x0015;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECDAA: u16 = 0x001a;
const ALG_ECC: u16 = 0x0023;
/// The exponent that 0 stands for (TPM 2.0 Part 2, 12.2.3.5).
const DEFAULT_EXPONENT: u32 = 65537;

impl Public {
    /// Parses a `TPMT_PUBLIC`, whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, PublicError> {
        let mut reader = Reader::at_most(bytes, MAX_PUBLIC_BYTES, "TPMT_PUBLIC")?;
        let kind = reader.u16_be("type")?;
        if kind != ALG_RSA && kind != ALG_ECC {
            return Err(PublicError::KeyType(kind));
        }
        let name_alg = name_alg(reader.u16_be("nameAlg")?)?;
        let attributes = ObjectAttributes(reader.u32_be("objectAttributes")?);
        let auth_policy = reader.tpm2b(MAX_DIGEST_BYTES, "authPolicy")?.to_vec();
        let symmetric = symmetric(&mut reader)?;
        let scheme = scheme(&mut reader)?;
        let (default_parameters, key) = if kind == ALG_RSA { rsa(&mut reader)? } else { ecc(&mut reader)? };
        reader.finish("TPMT_PUBLIC")?;
        let encoded = bytes.to_vec();
        Ok(Self { encoded, name_alg, attributes, auth_policy, symmetric, scheme, default_parameters, key })
    }

    /// Parses a `TPM2B_PUBLIC`, whole: a length and a `TPMT_PUBLIC` (TPM 2.0 Part 2, 12.2.5).
    pub fn parse_2b(bytes: &[u8]) -> Result<Self, PublicError> {
        let mut reader = Reader::new(bytes);
        let inner = reader.tpm2b(MAX_PUBLIC_BYTES, "TPM2B_PUBLIC")?;
        reader.finish("TPM2B_PUBLIC")?;
        Self::parse(inner)
    }

    /// The `TPMT_PUBLIC` as it was read.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.encoded
    }

    /// The Name, computed from the bytes.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::of(self.name_alg, &self.encoded)
    }

    /// The hash of the Name.
    #[must_use]
    pub const fn name_alg(&self) -> HashAlg {
        self.name_alg
    }

    /// The attributes.
    #[must_use]
    pub const fn attributes(&self) -> ObjectAttributes {
        self.attributes
    }

    /// The policy digest; empty if the key has none.
    #[must_use]
    pub fn auth_policy(&self) -> &[u8] {
        &self.auth_policy
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The scheme that the key is bound to.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The key as SubjectPublicKeyInfo in DER; the same bytes for the same key whatever its scheme
    /// (RSA is always `rsaEncryption`).
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        spki::encode(&self.key)
    }

    /// SHA-256 of [`Self::spki_der`].
    #[must_use]
    pub fn spki_digest(&self) -> Digest {
        Digest::of(&self.spki_der())
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Public")
            .field("name", &self.name())
            .field("attributes", &self.attributes)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

fn name_alg(id: u16) -> Result<HashAlg, PublicError> {
    HashAlg::from_id(id).filter(|alg| *alg != HashAlg::Sha1).ok_or(PublicError::NameAlg(id))
}

fn symmetric(reader: &mut Reader<'_>) -> Result<Option<Symmetric>, ReadError> {
    let alg = reader.u16_be("symmetric algorithm")?;
    if alg == ALG_NULL {
        return Ok(None);
    }
    let key_bits = reader.u16_be("symmetric key size")?;
    let mode = reader.u16_be("symmetric mode")?;
    Ok(Some(Symmetric { alg, key_bits, mode }))
}

/// Every scheme but NULL and RSAES carries a hash; ECDAA a count as well (TPM 2.0 Part 2, 11.2).
fn scheme(reader: &mut Reader<'_>) -> Result<Scheme, ReadError> {
    let id = reader.u16_be("scheme")?;
    if id == ALG_NULL {
        return Ok(Scheme::Null);
    }
    if id == ALG_RSAES {
        return Ok(Scheme::Other(id));
    }
    let hash = HashAlg::from_id(reader.u16_be("hash of the scheme")?);
    if id == ALG_ECDAA {
        reader.u16_be("count of the scheme")?;
    }
    Ok(match (id, hash) {
        (ALG_RSASSA, Some(hash)) => Scheme::RsaSsa(hash),
        (ALG_RSAPSS, Some(hash)) => Scheme::RsaPss(hash),
        (ALG_ECDSA, Some(hash)) => Scheme::Ecdsa(hash),
        _ => Scheme::Other(id),
    })
}

fn rsa(reader: &mut Reader<'_>) -> Result<(bool, PublicKey), PublicError> {
    let bits = reader.u16_be("keyBits")?;
    let raw = reader.u32_be("exponent")?;
    let modulus = reader.tpm2b(MAX_RSA_BYTES, "modulus")?;
    // The top bit too, or the key would be shorter than it says.
    let full = modulus.len().checked_mul(8) == Some(usize::from(bits));
    if !full || modulus.first().is_none_or(|byte| byte & 0x80 == 0) {
        return Err(PublicError::Modulus { bits, bytes: modulus.len() });
    }
    let exponent = if raw == 0 { DEFAULT_EXPONENT } else { raw };
    Ok((raw == 0, PublicKey::Rsa { modulus: modulus.to_vec(), exponent }))
}

fn ecc(reader: &mut Reader<'_>) -> Result<(bool, PublicKey), PublicError> {
    let curve = Curve::from_id(reader.u16_be("curveID")?)?;
    let kdf = reader.u16_be("kdf")?;
    if kdf != ALG_NULL {
        reader.u16_be("hash of the kdf")?;
    }
    let mut point = vec![4];
    for what in ["x", "y"] {
        let offset = reader.offset();
        let coordinate = reader.tpm2b(MAX_COORDINATE_BYTES, what)?;
        let Some(padding) = curve.coordinate_len().checked_sub(coordinate.len()) else {
            return Err(ReadError::Invalid { offset, what: "a coordinate is longer than its curve's" }.into());
        };
        point.extend(std::iter::repeat_n(0, padding));
        point.extend_from_slice(coordinate);
    }
    Ok((kdf == ALG_NULL, PublicKey::Ecc { curve, point }))
}
