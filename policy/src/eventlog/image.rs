//! The attestor's own log: files, links and containers that it measured before they were used, and again when they
//! changed.
//!
//! One JSON text sequence, written like systemd's, for one PCR:
//!
//! ```text
//! {"pcr":13,"digests":[{"hashAlg":"sha256","digest":"<hex>"}],"content_type":"touchstone-image",
//!  "content":{"kind":"file","path":"/opt/plc/press.bin","digest":"sha256:<hex>","size":4711}}
//! ```
//!
//! What is extended is the hash of `touchstone-image:<kind>:<size>:<digest>:<path>`; the path comes last,
//! so no path can pretend to be another entry. An entry is written and synced first, then extended:
//! after a crash the log may be ahead of the PCR by its last entry, never behind ([`recovery`] says how to go on).
//! Every entry's content is held against its digests here, so none is decoration.

pub mod recovery;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sequence::{Digests, RECORD_SEPARATOR, Record, Register, SequenceError, parse};
use crate::budget::MAX_IMAGE_PATH;
use crate::digest::Digest;
use crate::tpm::alg::HashAlg;
use crate::tpm::pcr::PcrIndex;

/// The PCR of the image log. It is no setting of a device: a release that lists images asks that this
/// PCR holds nothing else, also of a device that sends no log.
pub const IMAGE_PCR: PcrIndex = PcrIndex::IMAGES;

/// The `content_type` of its records, and the beginning of what is extended.
const CONTENT_TYPE: &str = "touchstone-image";

/// An image log cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageLogError {
    /// Not a log of this form.
    #[error("the image log is malformed; let the attestor write it")]
    Sequence(#[from] SequenceError),
    /// An entry for another register.
    #[error(
        "entry {position} of the image log extends {register} instead of PCR {IMAGE_PCR}; let the attestor write it"
    )]
    Register {
        /// Its place, from 0.
        position: usize,
        /// What it extends.
        register: Register,
    },
    /// A path that cannot be shown or is too long.
    #[error(
        "entry {position} of the image log has a path that is empty, longer than {MAX_IMAGE_PATH} bytes, or has control characters"
    )]
    Path {
        /// Its place.
        position: usize,
    },
    /// Content that was not measured.
    #[error("entry {position} of the image log says something else than its {bank} digest; it was changed")]
    Unbound {
        /// Its place.
        position: usize,
        /// The bank.
        bank: HashAlg,
    },
}

/// What was found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// A file: SHA-256 of its content.
    File,
    /// A symbolic link: SHA-256 of the path that it leads to. What is there is no part of it.
    Link,
    /// A container image: its manifest's SHA-256.
    Container,
    /// Nothing any more: digest and size are the last that were measured.
    Removed,
    /// Something that has no content, or whose content cannot be had: a device, a file without the right to read it.
    Unreadable,
    /// A file that went on changing while it was hashed.
    Unstable,
    /// More than the log holds: what was there is not measured, or not all of it.
    Overflow,
}

impl ImageKind {
    /// The name that logs and manifests use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Link => "link",
            Self::Container => "container",
            Self::Removed => "removed",
            Self::Unreadable => "unreadable",
            Self::Unstable => "unstable",
            Self::Overflow => "overflow",
        }
    }
}

impl fmt::Display for ImageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was found at a path before it was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMeasurement {
    /// What it is.
    pub kind: ImageKind,
    /// Where it was found; the reference of a container.
    pub path: String,
    /// Its SHA-256; zeros where nothing was read.
    pub digest: Digest,
    /// Its size in bytes; 0 where it is not known.
    pub size: u64,
}

impl ImageMeasurement {
    /// What is hashed and extended.
    #[must_use]
    pub fn measured_text(&self) -> String {
        let Self { kind, path, digest, size } = self;
        format!("{CONTENT_TYPE}:{kind}:{size}:{digest}:{path}")
    }

    /// The record of this measurement with a digest of each bank, as it is appended to the log.
    #[must_use]
    pub fn to_record(&self, banks: &[HashAlg]) -> Vec<u8> {
        let text = self.measured_text();
        let digests: Vec<_> = banks
            .iter()
            .map(|bank| {
                let digest = bank.hash(&[text.as_bytes()]).to_string();
                serde_json::json!({ "hashAlg": bank.name(), "digest": digest })
            })
            .collect();
        let record = serde_json::json!({
            "pcr": IMAGE_PCR.number(), "digests": digests, "content_type": CONTENT_TYPE, "content": self,
        });
        let mut bytes = vec![RECORD_SEPARATOR];
        bytes.extend(record.to_string().into_bytes());
        bytes.push(b'\n');
        bytes
    }
}

/// One entry: what was measured, and what was extended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageEntry {
    /// Place in the log, from 0.
    pub position: usize,
    /// What was extended; each is the hash of the measurement.
    pub digests: Digests,
    /// What was measured.
    pub image: ImageMeasurement,
}

/// A parsed log; that anything of it was extended is not proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageLog {
    entries: Vec<ImageEntry>,
}

impl ImageLog {
    /// Parses a log, whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageLogError> {
        let records = parse::<ImageMeasurement>(bytes, CONTENT_TYPE)?;
        Ok(Self { entries: records.into_iter().map(entry).collect::<Result<_, _>>()? })
    }

    /// The entries, in the log's order.
    #[must_use]
    pub fn entries(&self) -> &[ImageEntry] {
        &self.entries
    }
}

fn entry(record: Record<ImageMeasurement>) -> Result<ImageEntry, ImageLogError> {
    let Record { position, register, digests, content: image } = record;
    if register != Register::Pcr(IMAGE_PCR) {
        return Err(ImageLogError::Register { position, register });
    }
    let path = &image.path;
    if path.is_empty() || path.len() > MAX_IMAGE_PATH || path.chars().any(char::is_control) {
        return Err(ImageLogError::Path { position });
    }
    let text = image.measured_text();
    for digest in digests.iter() {
        if digest != digest.alg().hash(&[text.as_bytes()]) {
            return Err(ImageLogError::Unbound { position, bank: digest.alg() });
        }
    }
    Ok(ImageEntry { position, digests, image })
}
