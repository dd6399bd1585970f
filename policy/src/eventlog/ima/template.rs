//! Templates: which fields a record has (`ima_template.c` and `ima_template_lib.c` of Linux).
//!
//! A template has a standard name, or its name is the list of its fields, separated by `|`. The name is not
//! hashed: whoever sends the list may rename a record and so choose what its bytes are taken for. Every name
//! that is read here therefore has the digest first, the path second, and neither again, so renaming cannot
//! move them. Any other name is kept opaque: its data is hashed like any other and says nothing.

use std::collections::BTreeSet;

use super::list::ImaListError;
use crate::budget::{IMA_LEGACY_NAME, MAX_IMA_BYTES};
use crate::reader::Reader;
use crate::tpm::alg::{HashAlg, HashValue};

/// The first template: it states no total length and hashes its fields without their lengths.
pub(super) const LEGACY: &str = "ima";
/// Length of a file's digest in the first template: SHA-1.
const LEGACY_DIGEST: usize = 20;

/// The standard templates and their fields.
const STANDARD: [(&str, &str); 7] = [
    ("ima-ng", "d-ng|n-ng"),
    ("ima-sig", "d-ng|n-ng|sig"),
    ("ima-ngv2", "d-ngv2|n-ng"),
    ("ima-sigv2", "d-ngv2|n-ng|sig"),
    ("ima-buf", "d-ng|n-ng|buf"),
    ("ima-modsig", "d-ng|n-ng|sig|d-modsig|modsig"),
    ("evm-sig", "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"),
];

/// What a digest in a record is of (field `d-ngv2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DigestOf {
    /// The template does not say: of the content, on all but the newest kernels.
    Unsaid,
    /// The file's content.
    Content,
    /// fs-verity's Merkle tree of the content.
    Verity,
}

/// The digest of a file, or of a buffer, that a record measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigest {
    /// What it is of.
    pub of: DigestOf,
    /// Its value.
    pub value: HashValue,
}

/// The fields of a record that are used here. A field that the template does not have, or whose contents
/// cannot be read, is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'a> {
    /// Path of the file, or what the kernel calls a buffer; without terminator.
    pub name: Option<&'a [u8]>,
    /// Its digest, if this crate knows the algorithm.
    pub digest: Option<FileDigest>,
    /// The value of the file's `security.ima`; empty without one.
    pub signature: Option<&'a [u8]>,
    /// What the template `evm-sig` tells of the file.
    pub evm: Evm<'a>,
}

/// The attributes of a file that its EVM signature covers, as the record tells them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Evm<'a> {
    /// The value of `security.evm`; empty without one.
    pub signature: Option<&'a [u8]>,
    /// Names of the extended attributes, separated by `|`.
    pub names: &'a [u8],
    /// Their lengths, four bytes each.
    pub lengths: &'a [u8],
    /// Their values, one after the other.
    pub values: &'a [u8],
    /// Owner, four bytes.
    pub uid: &'a [u8],
    /// Group, four bytes.
    pub gid: &'a [u8],
    /// Type and permissions, two bytes.
    pub mode: &'a [u8],
}

/// Reads the data of a record of `template`.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    template: &str,
) -> Result<(&'a [u8], Fields<'a>), ImaListError> {
    if template == LEGACY {
        return legacy(reader);
    }
    let len = reader.u32_le("length of the template data")?;
    let offset = reader.offset();
    // Bounded by the list, which is bounded: nothing is copied.
    let data = reader.bounded(len.into(), MAX_IMA_BYTES, "template data")?;
    let Some(format) = format(template) else { return Ok((data, Fields::default())) };
    let mut fields = Fields::default();
    let mut inside = Reader::within(data, offset);
    for field in format.split('|') {
        let len = inside.u32_le("length of a field")?;
        fields.set(field, inside.bounded(len.into(), MAX_IMA_BYTES, "field")?);
    }
    if !inside.is_empty() {
        let fields = format.split('|').count();
        return Err(ImaListError::Fields { offset, template: template.to_owned(), fields });
    }
    Ok((data, fields))
}

/// Digest without length, then the name with its own.
fn legacy<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Fields<'a>), ImaListError> {
    let all = reader.rest();
    let digest = reader.take(LEGACY_DIGEST, "file digest")?;
    let len = reader.u32_le("length of the file name")?;
    // The terminator counts: the kernel hashes a buffer of 256 bytes.
    let name = reader.bounded(len.into(), IMA_LEGACY_NAME.saturating_sub(1), "file name")?;
    let data = all.get(..all.len().saturating_sub(reader.rest().len())).unwrap_or_default();
    let value = HashValue::new(HashAlg::Sha1, digest);
    let fields = Fields {
        name: Some(name),
        digest: value.map(|value| FileDigest { of: DigestOf::Unsaid, value }),
        ..Fields::default()
    };
    Ok((data, fields))
}

/// What the kernel hashes of a record of the first template: its digest and its name.
pub(super) fn legacy_parts(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (digest, name) = data.split_at_checked(LEGACY_DIGEST)?;
    Some((digest, name.get(size_of::<u32>()..)?))
}

/// The fields of a template; `None` if it is not known.
fn format(template: &str) -> Option<&str> {
    let standard = STANDARD.iter().find(|(name, _)| *name == template).map(|(_, format)| *format);
    standard.or_else(|| is_free_format(template).then_some(template))
}

/// Whether a list of fields has digest and path where every standard template has them, and no field twice.
fn is_free_format(template: &str) -> bool {
    let mut fields = template.split('|');
    let first = (fields.next(), fields.next());
    let mut seen = BTreeSet::new();
    matches!(first, (Some("d"), Some("n")) | (Some("d-ng" | "d-ngv2"), Some("n-ng")))
        && fields.all(|field| is_further_field(field) && seen.insert(field))
}

/// The fields that Linux has beside digest and path (`supported_fields` in `ima_template.c`).
fn is_further_field(name: &str) -> bool {
    matches!(
        name,
        "sig"
            | "buf"
            | "d-modsig"
            | "modsig"
            | "evmsig"
            | "iuid"
            | "igid"
            | "imode"
            | "xattrnames"
            | "xattrlengths"
            | "xattrvalues"
    )
}

impl<'a> Fields<'a> {
    fn set(&mut self, field: &str, value: &'a [u8]) {
        match field {
            "n" | "n-ng" => self.name = Some(value.strip_suffix(&[0]).unwrap_or(value)),
            "d" => {
                let value = HashValue::new(HashAlg::Sha1, value);
                self.digest = value.map(|value| FileDigest { of: DigestOf::Unsaid, value });
            }
            "d-ng" => self.digest = digest(DigestOf::Unsaid, value),
            "d-ngv2" => self.digest = typed_digest(value),
            "sig" => self.signature = Some(value),
            "evmsig" => self.evm.signature = Some(value),
            "xattrnames" => self.evm.names = value.strip_suffix(&[0]).unwrap_or(value),
            "xattrlengths" => self.evm.lengths = value,
            "xattrvalues" => self.evm.values = value,
            "iuid" => self.evm.uid = value,
            "igid" => self.evm.gid = value,
            "imode" => self.evm.mode = value,
            // Buffers and appended signatures: bound by the digests beside them.
            _ => {}
        }
    }
}

/// `ima:sha256:`, a zero byte and the digest; `verity:` likewise.
fn typed_digest(field: &[u8]) -> Option<FileDigest> {
    let content = field.strip_prefix(b"ima:").and_then(|rest| digest(DigestOf::Content, rest));
    content.or_else(|| field.strip_prefix(b"verity:").and_then(|rest| digest(DigestOf::Verity, rest)))
}

/// `sha256:`, a zero byte and the digest.
fn digest(of: DigestOf, field: &[u8]) -> Option<FileDigest> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    let (name, rest) = field.split_at_checked(colon)?;
    let alg = HashAlg::ALL.into_iter().find(|alg| alg.name().as_bytes() == name)?;
    let value = HashValue::new(alg, rest.strip_prefix(b":\0")?)?;
    Some(FileDigest { of, value })
}
