//! Release keys: whose signature makes a manifest a release, and for which products.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU8;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, referenced::OwnedToRef};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::digest::Digest;
use crate::id::{ProductName, ReleaseKeyName};
use crate::time::UnixTime;
use crate::tpm::spki::ecdsa_signature;
use crate::x509::pem;

/// Most release keys of a plant: a handful of people for each of some products. Each signature of an
/// envelope may be tried against each of them.
pub const MAX_RELEASE_KEYS: usize = 64;
/// Most removed keys that are known by name: several for each key that can be in force. They are tried only where
/// the others do not suffice.
pub const MAX_REMOVED_KEYS: usize = 256;
/// Longest public key in bytes: a P-256 key has 91, an Ed25519 key 44.
pub const MAX_SPKI_BYTES: usize = 256;
/// Bytes of each of the two numbers of a P-256 signature.
const COORDINATE: usize = 32;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The signature scheme of a release key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseKeyAlg {
    /// ECDSA on P-256 with SHA-256; signatures are DER (ASN.1), as cosign and openssl write them.
    EcdsaP256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

impl ReleaseKeyAlg {
    /// The scheme as people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "P-256",
            Self::Ed25519 => "Ed25519",
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            Self::Ed25519 => &ED25519,
        }
    }
}

/// A key is no release key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseKeyError {
    /// Not a public key.
    #[error(
        "this is no public key; give the PEM block PUBLIC KEY that `openssl pkey -in release.key -pubout` writes"
    )]
    NotAKey,
    /// A private key, which nobody else must see.
    #[error(
        "this is a private key: keep it to yourself, and give its public half, which `openssl pkey -in release.key -pubout` writes"
    )]
    Private,
    /// A key of another kind.
    #[error(
        "release keys are P-256 or Ed25519, and this key is of type {0}; make one with `openssl genpkey -algorithm ED25519`"
    )]
    Unsupported(String),
    /// A key that may sign nothing.
    #[error("name at least one product that the key may sign")]
    NoProduct,
}

/// A public key that can be a release key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    id: Digest,
    alg: ReleaseKeyAlg,
    point: Vec<u8>,
}

impl PublicKey {
    /// The key with this `SubjectPublicKeyInfo` in DER (RFC 5280, section 4.1.2.7).
    pub fn from_spki(der: &[u8]) -> Result<Self, ReleaseKeyError> {
        if der.len() > MAX_SPKI_BYTES {
            return Err(ReleaseKeyError::NotAKey);
        }
        let spki = SubjectPublicKeyInfoOwned::from_der(der).map_err(|_| ReleaseKeyError::NotAKey)?;
        let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok());
        let alg = match (spki.algorithm.oid, curve) {
            (EC_PUBLIC_KEY, Some(P256)) => ReleaseKeyAlg::EcdsaP256,
            (ED25519_KEY, None) => ReleaseKeyAlg::Ed25519,
            (other, _) => return Err(ReleaseKeyError::Unsupported(other.to_string())),
        };
        let bits = spki.subject_public_key.owned_to_ref();
        let point = bits.as_bytes().ok_or(ReleaseKeyError::NotAKey)?.to_vec();
        // A point that is not on the curve would be a key that verifies nothing.
        ParsedPublicKey::new(alg.verification(), &point).map_err(|_| ReleaseKeyError::NotAKey)?;
        Ok(Self { spki: der.to_vec(), id: Digest::of(der), alg, point })
    }

    /// The same, from the PEM block `PUBLIC KEY` (RFC 7468, section 13).
    pub fn from_pem(text: &str) -> Result<Self, ReleaseKeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(ReleaseKeyError::Private);
        }
        let der = pem::public_key(text.as_bytes()).map_err(|_| ReleaseKeyError::NotAKey)?;
        Self::from_spki(&der)
    }

    /// Its `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key's name: the SHA-256 of its `SubjectPublicKeyInfo`.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// The signature scheme.
    #[must_use]
    pub const fn alg(&self) -> ReleaseKeyAlg {
        self.alg
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.alg, self.id)
    }
}

/// A public key and the products that it may sign releases of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseKey {
    key: PublicKey,
    products: BTreeSet<ProductName>,
}

impl ReleaseKey {
    /// The key, for these products.
    pub fn new(key: PublicKey, products: BTreeSet<ProductName>) -> Result<Self, ReleaseKeyError> {
        if products.is_empty() {
            return Err(ReleaseKeyError::NoProduct);
        }
        Ok(Self { key, products })
    }

    /// The key with this `SubjectPublicKeyInfo` in DER, for these products.
    pub fn from_spki(der: &[u8], products: BTreeSet<ProductName>) -> Result<Self, ReleaseKeyError> {
        Self::new(PublicKey::from_spki(der)?, products)
    }

    /// The same, from the PEM block `PUBLIC KEY`.
    pub fn from_pem(text: &str, products: BTreeSet<ProductName>) -> Result<Self, ReleaseKeyError> {
        Self::new(PublicKey::from_pem(text)?, products)
    }

    /// The key's name: the SHA-256 of its `SubjectPublicKeyInfo`.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.key.id
    }

    /// The signature scheme.
    #[must_use]
    pub const fn alg(&self) -> ReleaseKeyAlg {
        self.key.alg
    }

    /// The products that it may sign.
    #[must_use]
    pub const fn products(&self) -> &BTreeSet<ProductName> {
        &self.products
    }

    /// Verifies a signature over `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let key = UnparsedPublicKey::new(self.key.alg.verification(), &self.key.point);
        key.verify(message, signature).map_err(|_| BadSignature)
    }

    /// A signature over `message` as envelopes hold it. Tools that know no ASN.1 write the two numbers of a P-256
    /// signature one after the other (IEEE P1363).
    pub(super) fn signature(&self, message: &[u8], bytes: &[u8]) -> Result<Vec<u8>, BadSignature> {
        if self.verify(message, bytes).is_ok() {
            return Ok(bytes.to_vec());
        }
        match bytes.split_at_checked(COORDINATE) {
            Some((r, s)) if self.alg() == ReleaseKeyAlg::EcdsaP256 && s.len() == COORDINATE => {
                let der = ecdsa_signature(r, s);
                self.verify(message, &der).map(|()| der)
            }
            _ => Err(BadSignature),
        }
    }
}

/// The signature is not one of this key over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadSignature;

/// A set of release keys is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseKeysError {
    /// The same key twice would count for two people.
    #[error("release key {0} is registered twice; register it once with all its products")]
    Duplicate(Digest),
    /// More keys than are tried.
    #[error("{0} release keys; {MAX_RELEASE_KEYS} are allowed")]
    TooMany(usize),
}

/// A key whose signatures count for nothing new since it was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedKey {
    /// The key.
    pub key: ReleaseKey,
    /// What people called it.
    pub name: ReleaseKeyName,
    /// When it was removed.
    pub at: UnixTime,
}

/// The release keys in force and how many of them must sign a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseKeys {
    keys: BTreeMap<Digest, ReleaseKey>,
    removed: Vec<RemovedKey>,
    threshold: NonZeroU8,
}

impl ReleaseKeys {
    /// These keys, `threshold` different ones of which must sign each release.
    pub fn new(keys: Vec<ReleaseKey>, threshold: NonZeroU8) -> Result<Self, ReleaseKeysError> {
        if keys.len() > MAX_RELEASE_KEYS {
            return Err(ReleaseKeysError::TooMany(keys.len()));
        }
        let mut by_id = BTreeMap::new();
        for key in keys {
            if let Some(twin) = by_id.insert(key.id(), key) {
                return Err(ReleaseKeysError::Duplicate(twin.id()));
            }
        }
        Ok(Self { keys: by_id, removed: Vec::new(), threshold })
    }

    /// The same, with keys that were removed, the latest first: a refusal names those that signed. Of more than
    /// [`MAX_REMOVED_KEYS`] the others stay nameless.
    #[must_use]
    pub fn remembering(mut self, mut removed: Vec<RemovedKey>) -> Self {
        removed.truncate(MAX_REMOVED_KEYS);
        self.removed = removed;
        self
    }

    /// How many different keys must sign.
    #[must_use]
    pub const fn threshold(&self) -> u8 {
        self.threshold.get()
    }

    /// The key with this id.
    #[must_use]
    pub fn key(&self, id: &Digest) -> Option<&ReleaseKey> {
        self.keys.get(id)
    }

    /// Every key in force, by id.
    pub fn iter(&self) -> impl Iterator<Item = &ReleaseKey> {
        self.keys.values()
    }

    /// The keys that were removed.
    pub(super) fn removed(&self) -> &[RemovedKey] {
        &self.removed
    }
}
