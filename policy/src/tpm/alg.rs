//! Algorithm identifiers (TCG Algorithm Registry; TPM 2.0 Part 2, 6.3).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

use crate::budget::MAX_DIGEST_BYTES;

/// A hash algorithm that a PCR bank can have and that this crate can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlg {
    /// `TPM_ALG_SHA1`: read in logs, never accepted as proof (row 15 of the checklist).
    Sha1,
    /// `TPM_ALG_SHA256`
    Sha256,
    /// `TPM_ALG_SHA384`
    Sha384,
    /// `TPM_ALG_SHA512`
    Sha512,
}

impl HashAlg {
    /// Every algorithm, weakest first.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The `TPM_ALG_ID`.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The algorithm with this `TPM_ALG_ID`, if it is one that this crate computes.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.id() == id)
    }

    /// Length of a digest in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no digest is empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The name that tools use: `sha256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm in the cryptographic library.
    pub(crate) fn backend(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// The hash of the concatenation of `parts`.
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> HashValue {
        // A context is memory from the heap, which costs as much as hashing a short part.
        if let [whole] = parts {
            return HashValue::filled(self, digest::digest(self.backend(), whole).as_ref());
        }
        let mut context = digest::Context::new(self.backend());
        for part in parts {
            context.update(part);
        }
        HashValue::filled(self, context.finish().as_ref())
    }
}

impl fmt::Display for HashAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no hash algorithm that is read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no PCR bank that is known here; use sha1, sha256, sha384 or sha512")]
pub struct ParseHashAlgError(String);

impl FromStr for HashAlg {
    type Err = ParseHashAlgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|alg| alg.name() == text).ok_or_else(|| ParseHashAlgError(text.to_owned()))
    }
}

/// A digest together with its algorithm; held inline, without allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashValue {
    alg: HashAlg,
    bytes: [u8; 64],
}

impl HashValue {
    /// A digest made of `byte` alone: PCR reset values, violation records.
    #[must_use]
    pub fn repeated(alg: HashAlg, byte: u8) -> Self {
        Self::filled(alg, &[byte; 64])
    }

    /// The digest of algorithm `alg` with these bytes; `None` if their number is not the algorithm's.
    #[must_use]
    pub fn new(alg: HashAlg, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == alg.len()).then(|| Self::filled(alg, bytes))
    }

    fn filled(alg: HashAlg, from: &[u8]) -> Self {
        let mut bytes = [0; 64];
        if let (Some(to), Some(from)) = (bytes.get_mut(..alg.len()), from.get(..alg.len())) {
            to.copy_from_slice(from);
        }
        Self { alg, bytes }
    }

    /// The algorithm.
    #[must_use]
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// The bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.alg.len()).unwrap_or(&self.bytes)
    }

    /// The PCR value after extending `self` by `digest` (TPM 2.0 Part 1, 17.4): `H(self ‖ digest)`.
    #[must_use]
    pub fn extend(&self, digest: &[u8]) -> Self {
        // Side by side on the stack: an IMA list has tens of thousands of these.
        let mut both = [0; 2 * MAX_DIGEST_BYTES];
        let len = self.alg.len().saturating_add(digest.len());
        let Some(both) = both.get_mut(..len) else { return self.alg.hash(&[self.as_bytes(), digest]) };
        let (before, after) = both.split_at_mut(self.alg.len());
        before.copy_from_slice(self.as_bytes());
        after.copy_from_slice(digest);
        self.alg.hash(&[both])
    }

    /// Reads the hex digits of a digest of algorithm `alg`.
    #[must_use]
    pub fn from_hex(alg: HashAlg, digits: &str) -> Option<Self> {
        Self::new(alg, &hex::decode(digits).ok()?)
    }
}

impl fmt::Display for HashValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for HashValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.alg)
    }
}
