//! Public keys of certificates, and the canonical form by which a key is recognised.
//!
//! The same key can come as rsaEncryption, as id-RSAES-OAEP (EKs of STMicroelectronics) or out of a TPM's
//! public area. [`SubjectKey::to_der`] writes one form for all of them, so its digest names the key:
//! rsaEncryption with NULL parameters, or id-ecPublicKey with a named curve and an uncompressed point.

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};

use super::der::{self, Der, DerError};
use super::oid;
use crate::digest::Digest;

/// A curve of NIST (RFC 5480, section 2.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1
    P256,
    /// secp384r1
    P384,
    /// secp521r1
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The name that people use: `P-256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Length of a coordinate in bytes.
    #[must_use]
    pub const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    const fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => oid::P256,
            Self::P384 => oid::P384,
            Self::P521 => oid::P521,
        }
    }
}

/// Why a public key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// SubjectPublicKeyInfo cannot be read.
    #[error("the public key is malformed")]
    Malformed(#[source] DerError),
    /// Neither RSA nor an elliptic curve.
    #[error("the public key has algorithm {0}; RSA and elliptic curves are read")]
    Algorithm(String),
    /// A curve that is not read here.
    #[error("the public key is on curve {0}; P-256, P-384 and P-521 are read")]
    Curve(String),
    /// Not a key of its kind: a point off the curve, a modulus of a wrong size.
    #[error("the public key is no valid {0} key")]
    Invalid(&'static str),
}

/// A public key with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectKey {
    /// An RSA key.
    Rsa {
        /// The modulus, most significant byte first, no leading zeros.
        modulus: Vec<u8>,
        /// The public exponent, likewise.
        exponent: Vec<u8>,
    },
    /// A point on an elliptic curve.
    Ec {
        /// The curve.
        curve: Curve,
        /// 04, x, y: the uncompressed form (SEC 1, section 2.3.3).
        point: Vec<u8>,
    },
}

impl SubjectKey {
    /// Reads SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7). The key is not validated: see
    /// [`Self::validate`].
    pub fn parse(spki: &[u8]) -> Result<Self, KeyError> {
        let Parts { algorithm, parameters, key } = split(spki).map_err(KeyError::Malformed)?;
        match algorithm {
            oid::RSA_ENCRYPTION | oid::RSAES_OAEP | oid::RSASSA_PSS => {
                let (modulus, exponent) = parse_rsa(key).map_err(KeyError::Malformed)?;
                Ok(Self::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
            }
            oid::EC_PUBLIC_KEY => parse_ec(parameters, key),
            other => Err(KeyError::Algorithm(oid::text(other))),
        }
    }

    /// The key with this modulus and public exponent (most significant byte first).
    #[must_use]
    pub fn rsa(modulus: &[u8], exponent: u32) -> Self {
        let trim = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        Self::Rsa { modulus: trim(modulus), exponent: trim(&exponent.to_be_bytes()) }
    }

    /// The point with these coordinates, which are padded on the left to the curve's length; `None` if one
    /// is too long.
    #[must_use]
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Option<Self> {
        let mut point = vec![4];
        for coordinate in [x, y] {
            let padding = curve.coordinate_len().checked_sub(coordinate.len())?;
            point.extend(std::iter::repeat_n(0, padding));
            point.extend_from_slice(coordinate);
        }
        Some(Self::Ec { curve, point })
    }

    /// SubjectPublicKeyInfo in its canonical form.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let oid_of = |oid: &[u8]| der::encode(der::OBJECT_IDENTIFIER, &[oid]);
        let (algorithm, key) = match self {
            Self::Rsa { modulus, exponent } => {
                let numbers = [der::encode_unsigned(modulus), der::encode_unsigned(exponent)];
                let [modulus, exponent] = &numbers;
                let null = der::encode(der::NULL, &[]);
                let algorithm = der::encode(der::SEQUENCE, &[&oid_of(oid::RSA_ENCRYPTION), &null]);
                (algorithm, der::encode(der::SEQUENCE, &[modulus, exponent]))
            }
            Self::Ec { curve, point } => {
                let parts = [oid_of(oid::EC_PUBLIC_KEY), oid_of(curve.oid())];
                let [algorithm, curve] = &parts;
                (der::encode(der::SEQUENCE, &[algorithm, curve]), point.clone())
            }
        };
        der::encode(der::SEQUENCE, &[&algorithm, &der::encode(der::BIT_STRING, &[&[0], &key])])
    }

    /// The name of the key: the SHA-256 of its canonical form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_der())
    }

    /// `rsa` or `ecc`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "rsa",
            Self::Ec { .. } => "ecc",
        }
    }

    /// `2048` (bits of the modulus) or `P-256`.
    #[must_use]
    pub fn size(&self) -> String {
        match self {
            Self::Rsa { modulus, .. } => modulus_bits(modulus).to_string(),
            Self::Ec { curve, .. } => curve.name().to_owned(),
        }
    }

    /// Lets the cryptographic library judge the numbers: a point must be on its curve, a modulus odd and of
    /// 2048 to 8192 bits.
    pub fn validate(&self) -> Result<(), KeyError> {
        let (algorithm, bytes, what): (&'static dyn VerificationAlgorithm, Vec<u8>, _) = match self {
            Self::Rsa { .. } => (&signature::RSA_PKCS1_2048_8192_SHA256, self.to_der(), "RSA"),
            Self::Ec { curve, point } => (curve.any_ecdsa(), point.clone(), curve.name()),
        };
        ParsedPublicKey::new(algorithm, bytes).map(drop).map_err(|_| KeyError::Invalid(what))
    }
}

/// The number of significant bits of a modulus without leading zeros.
#[must_use]
pub fn modulus_bits(modulus: &[u8]) -> usize {
    let unused = modulus.first().map_or(0, |first| first.leading_zeros());
    modulus.len().saturating_mul(8).saturating_sub(usize::try_from(unused).unwrap_or(0))
}

/// The parts of SubjectPublicKeyInfo.
struct Parts<'a> {
    algorithm: &'a [u8],
    /// DER, empty if absent.
    parameters: &'a [u8],
    key: &'a [u8],
}

fn split(spki: &[u8]) -> Result<Parts<'_>, DerError> {
    let mut outer = Der::new(spki);
    let mut inside = outer.expect(der::SEQUENCE, "subjectPublicKeyInfo")?.inside();
    outer.finish("subjectPublicKeyInfo")?;
    let mut identifier = inside.expect(der::SEQUENCE, "algorithm")?.inside();
    let algorithm = identifier.expect(der::OBJECT_IDENTIFIER, "algorithm")?.bytes();
    let key = inside.expect(der::BIT_STRING, "subjectPublicKey")?.octets()?;
    inside.finish("subjectPublicKey")?;
    Ok(Parts { algorithm, parameters: identifier.rest(), key })
}

/// RSAPublicKey (RFC 8017, appendix A.1.1).
fn parse_rsa(key: &[u8]) -> Result<(&[u8], &[u8]), DerError> {
    let mut outer = Der::new(key);
    let mut inside = outer.expect(der::SEQUENCE, "RSAPublicKey")?.inside();
    outer.finish("RSAPublicKey")?;
    let modulus = inside.expect(der::INTEGER, "modulus")?.magnitude()?;
    let exponent = inside.expect(der::INTEGER, "publicExponent")?.magnitude()?;
    inside.finish("RSAPublicKey")?;
    Ok((modulus, exponent))
}

/// The name of the curve in the parameters (RFC 5480, section 2.1.1); curves spelled out are not read.
fn parse_named_curve(parameters: &[u8]) -> Result<&[u8], DerError> {
    let mut outer = Der::new(parameters);
    let named = outer.expect(der::OBJECT_IDENTIFIER, "named curve")?.bytes();
    outer.finish("named curve")?;
    Ok(named)
}

fn parse_ec(parameters: &[u8], key: &[u8]) -> Result<SubjectKey, KeyError> {
    let named = parse_named_curve(parameters).map_err(KeyError::Malformed)?;
    let curve = Curve::ALL.into_iter().find(|curve| curve.oid() == named);
    let curve = curve.ok_or_else(|| KeyError::Curve(oid::text(named)))?;
    match key {
        [4, coordinates @ ..] if coordinates.len() == 2 * curve.coordinate_len() => {
            Ok(SubjectKey::Ec { curve, point: key.to_vec() })
        }
        _ => Err(KeyError::Invalid(curve.name())),
    }
}
