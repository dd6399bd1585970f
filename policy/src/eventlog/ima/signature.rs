//! Signatures of files: the values of `security.ima` and `security.evm` that templates `ima-sig`,
//! `ima-sigv2` and `evm-sig` carry (`security/integrity/integrity.h`, `digsig_asymmetric.c` and
//! `evm_crypto.c` of Linux).
//!
//! Version 2 signs the file's digest as it is; version 3 signs the hash of type, algorithm and digest, so
//! that one kind of digest never passes for another. An EVM signature covers the file's attributes, and
//! its content only through the value of `security.ima` among them.
//!
//! Version 1 (before Linux 3.7) rests on SHA-1 and counts only by keys that a release lists for it
//! (`version1`). Appended signatures (`ima-modsig`) are not verified; list such files by digest.

use super::key::ImaKey;
use super::template::{DigestOf, Evm, Fields, FileDigest};
use super::version1::Version1;
use crate::reader::{ReadError, Reader};
use crate::tpm::alg::{HashAlg, HashValue};

/// Types of extended attributes (`enum evm_ima_xattr_type`).
const IMA_DIGEST: u8 = 0x04;
const IMA_SIGNATURE: u8 = 0x03;
const EVM_PORTABLE: u8 = 0x05;
const VERITY_SIGNATURE: u8 = 0x06;
/// Longest signature in bytes: RSA 4096, twice.
const MAX_SIGNATURE: usize = 1024;

/// A file is not vouched for by its signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileSignatureError {
    /// The record has none.
    #[error("it is not signed")]
    Unsigned,
    /// The record has no digest that is known here.
    #[error("its record has no digest that is known here")]
    NoDigest,
    /// Not a signature header.
    #[error("its signature is malformed")]
    Malformed(#[source] ReadError),
    /// Version 1, and no key counts for it.
    #[error(
        "its signature has a version 1 header, which rests on SHA-1; sign it anew with evmctl, or list its key in `version1_keys` of [ima]"
    )]
    Version1,
    /// A type or version that is not known here.
    #[error("its signature is of type {kind:#04x}, version {version}, which is not known here")]
    Unknown {
        /// Type of the attribute.
        kind: u8,
        /// Version of the header.
        version: u8,
    },
    /// SHA-1, or an algorithm that is not known here.
    #[error("its signature has hash algorithm {0}, which is not accepted; sign with SHA-256 or stronger")]
    Algorithm(u8),
    /// The digest is not of the algorithm, or not of the kind, that the signature covers.
    #[error("its signature covers another kind of digest than was measured")]
    OtherDigest,
    /// None of the keys has the id.
    #[error("its signature names key {0:08x}, which the release does not list")]
    UnknownKey(u32),
    /// The signature is wrong.
    #[error("its signature by key {0:08x} is wrong: the file was changed after it was signed")]
    Wrong(u32),
    /// The attributes of the record do not fit together.
    #[error("the attributes that its EVM signature covers are not those of its record")]
    Attributes,
}

/// Verifies that one of `keys` vouches for the file of a record.
pub fn verify(fields: &Fields<'_>, keys: &[ImaKey]) -> Result<(), FileSignatureError> {
    let digest = fields.digest.ok_or(FileSignatureError::NoDigest)?;
    match (fields.signature, fields.evm.signature) {
        (Some(signature), _) if !signature.is_empty() => verify_content(signature, &digest, keys),
        (_, Some(signature)) if !signature.is_empty() => {
            verify_attributes(signature, &fields.evm, &digest, keys)
        }
        _ => Err(FileSignatureError::Unsigned),
    }
}

/// A value of `security.ima` over the digest of the content or of its Merkle tree.
fn verify_content(value: &[u8], digest: &FileDigest, keys: &[ImaKey]) -> Result<(), FileSignatureError> {
    if let [IMA_SIGNATURE, version1 @ ..] = value
        && version1.first() == Some(&1)
    {
        return verify_version1(version1, digest, keys);
    }
    let signature = Signature::parse(value)?;
    let covers = match (signature.kind, signature.version) {
        (IMA_SIGNATURE, 2 | 3) => DigestOf::Content,
        (VERITY_SIGNATURE, 3) => DigestOf::Verity,
        (kind, version) => return Err(FileSignatureError::Unknown { kind, version }),
    };
    // A template that does not say of what its digest is leaves that to a version 3 signature. Version 2
    // does not say either: what it covers is the content.
    let fits = digest.of == covers || digest.of == DigestOf::Unsaid;
    if !fits || digest.value.alg() != signature.alg {
        return Err(FileSignatureError::OtherDigest);
    }
    signature.verify(&digest.value, keys)
}

/// A version 1 value over the digest of the content.
fn verify_version1(value: &[u8], digest: &FileDigest, keys: &[ImaKey]) -> Result<(), FileSignatureError> {
    if !keys.iter().any(ImaKey::counts_version1) {
        return Err(FileSignatureError::Version1);
    }
    let signature = Version1::parse(value).map_err(FileSignatureError::Malformed)?;
    if digest.of == DigestOf::Verity {
        return Err(FileSignatureError::OtherDigest);
    }
    let key = keys.iter().find_map(|key| key.version1(&signature));
    let key = key.ok_or(FileSignatureError::UnknownKey(signature.short_id()))?;
    let good = key.verify(&signature, digest.value.as_bytes());
    good.then_some(()).ok_or(FileSignatureError::Wrong(signature.short_id()))
}

/// A portable value of `security.evm` over the file's attributes.
fn verify_attributes(
    value: &[u8],
    evm: &Evm<'_>,
    digest: &FileDigest,
    keys: &[ImaKey],
) -> Result<(), FileSignatureError> {
    let signature = Signature::parse(value)?;
    let (EVM_PORTABLE, 2 | 3) = (signature.kind, signature.version) else {
        return Err(FileSignatureError::Unknown { kind: signature.kind, version: signature.version });
    };
    if (evm.uid.len(), evm.gid.len(), evm.mode.len()) != (4, 4, 2) {
        return Err(FileSignatureError::Attributes);
    }
    // `struct h_misc` of a 64-bit kernel: inode and generation are zero in a portable signature.
    let signed = signature.alg.hash(&[evm.values, &[0; 12], evm.uid, evm.gid, evm.mode, &[0; 2]]);
    signature.verify(&signed, keys)?;
    let ima = attribute(evm, b"security.ima").ok_or(FileSignatureError::Attributes)?;
    match ima {
        [IMA_DIGEST, alg, stated @ ..] => {
            let same = algorithm(*alg) == Some(digest.value.alg()) && stated == digest.value.as_bytes();
            let content = digest.of != DigestOf::Verity;
            (same && content).then_some(()).ok_or(FileSignatureError::OtherDigest)
        }
        _ => verify_content(ima, digest, keys),
    }
}

/// The value of one of the extended attributes. Names, lengths and values must make each other up.
fn attribute<'a>(evm: &Evm<'a>, wanted: &[u8]) -> Option<&'a [u8]> {
    let (mut lengths, mut values) = (Reader::new(evm.lengths), Reader::new(evm.values));
    let mut found = None;
    for name in evm.names.split(|byte| *byte == b'|') {
        let len = usize::try_from(lengths.u32_le("length").ok()?).ok()?;
        let value = values.take(len, "value").ok()?;
        if name == wanted && found.replace(value).is_some() {
            return None;
        }
    }
    found.filter(|_| lengths.is_empty() && values.is_empty())
}

/// `struct signature_v2_hdr` and the signature behind it.
struct Signature<'a> {
    kind: u8,
    version: u8,
    alg: HashAlg,
    key: u32,
    bytes: &'a [u8],
}

impl<'a> Signature<'a> {
    fn parse(value: &'a [u8]) -> Result<Self, FileSignatureError> {
        let malformed = FileSignatureError::Malformed;
        let mut reader = Reader::new(value);
        let kind = reader.u8("type").map_err(malformed)?;
        let version = reader.u8("version").map_err(malformed)?;
        match version {
            1 => return Err(FileSignatureError::Version1),
            2 | 3 => {}
            _ => return Err(FileSignatureError::Unknown { kind, version }),
        }
        let hash = reader.u8("hash algorithm").map_err(malformed)?;
        let key = reader.u32_be("key id").map_err(malformed)?;
        let bytes = reader.tpm2b(MAX_SIGNATURE, "signature").map_err(malformed)?;
        reader.finish("signature").map_err(malformed)?;
        let alg = algorithm(hash).ok_or(FileSignatureError::Algorithm(hash))?;
        Ok(Self { kind, version, alg, key, bytes })
    }

    /// Verifies it over `digest`, which is of its algorithm.
    fn verify(&self, digest: &HashValue, keys: &[ImaKey]) -> Result<(), FileSignatureError> {
        let signed = match self.version {
            2 => *digest,
            // `struct ima_file_id`
            _ => self.alg.hash(&[&[self.kind, hash_id(self.alg)], digest.as_bytes()]),
        };
        let mut named = keys.iter().filter(|key| key.is_named(self.key)).peekable();
        if named.peek().is_none() {
            return Err(FileSignatureError::UnknownKey(self.key));
        }
        let good = named.any(|key| key.verify(self.alg, signed.as_bytes(), self.bytes).is_ok());
        good.then_some(()).ok_or(FileSignatureError::Wrong(self.key))
    }
}

/// `enum hash_algo` of Linux (`include/uapi/linux/hash_info.h`); SHA-1 is not accepted (row 15).
fn algorithm(id: u8) -> Option<HashAlg> {
    [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512].into_iter().find(|alg| hash_id(*alg) == id)
}

const fn hash_id(alg: HashAlg) -> u8 {
    match alg {
        HashAlg::Sha1 => 2,
        HashAlg::Sha256 => 4,
        HashAlg::Sha384 => 5,
        HashAlg::Sha512 => 6,
    }
}
