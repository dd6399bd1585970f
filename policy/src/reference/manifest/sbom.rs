//! The part of a manifest that says which SBOMs describe the release.
//!
//! ```toml
//! [[sbom]]
//! digest = "sha256:<64 hex digits>"
//! format = "cyclonedx"
//! name = "root file system"
//! ```
//!
//! It constrains nothing that a device measures. It binds documents, by their digests, to what the release keys signed.

use serde::Serialize;

use crate::digest::Digest;
use crate::sbom::SbomFormat;

/// Most SBOMs of one release: firmware, root file system, and some dozens of containers.
pub const MAX_SBOMS: usize = 64;

/// An SBOM that describes the release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SbomRef {
    /// The SHA-256 of the document's bytes.
    pub digest: Digest,
    /// Its form.
    pub format: SbomFormat,
    /// What it describes, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
