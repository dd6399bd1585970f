//! SBOM documents that the broker keeps.

use policy::digest::Digest;
use policy::sbom::SbomFormat;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Prefix of SBOMs.
pub const SBOM: &str = "sbom/";

/// An SBOM; the document is a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SbomRecord {
    /// Blob of the document: the digest that releases state.
    pub document: Digest,
    /// Its form.
    pub format: SbomFormat,
    /// Version of the form.
    pub spec_version: String,
    /// What the document says that it is about.
    pub subject: String,
    /// Components in it.
    pub components: u32,
    /// Bytes of the document.
    pub size: u64,
    /// When it was added.
    pub added_at: UnixTime,
    /// By whom.
    pub added_by: String,
}

impl Record for SbomRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "SBOM";
}

/// Key of an SBOM.
#[must_use]
pub fn sbom_key(document: &Digest) -> String {
    format!("{SBOM}{}", document.hex())
}
