//! Advisories: which versions of which packages are vulnerable, from OSV and CSAF 2.0 documents in JSON.
//!
//! What an advisory says in a way that cannot be compared with SBOMs becomes a note, and the question stays open
//! there; it is never read as "not affected".

mod csaf;
mod osv;
mod vers;

use serde::Deserialize;

use crate::component::affected::{Affected, MAX_AFFECTED, MAX_VERSIONS};

/// Largest document in bytes: those about a kernel with every product of a distribution have some 30 MiB.
pub const MAX_ADVISORY_BYTES: usize = 64 * 1024 * 1024;
/// Most JSON objects of a document; each takes at most some 300 bytes of memory while it is read.
const MAX_OBJECTS: usize = 1_000_000;
/// Most notes that are told.
const MAX_NOTES: usize = 20;

/// A document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvisoryError {
    /// Too many bytes.
    #[error("the advisory has {0} bytes, at most {MAX_ADVISORY_BYTES}")]
    TooLarge(usize),
    /// Too many of something.
    #[error("the advisory has more than {limit} {what}; ask about single packages with --purl")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// No such JSON.
    #[error("the advisory cannot be read: {0}")]
    Json(String),
    /// JSON of another kind.
    #[error("this is neither an OSV record (`affected`) nor a CSAF 2.0 document (`product_tree`)")]
    Unknown,
    /// A version that is not read.
    #[error("CSAF {0} is not read, only 2.0")]
    Version(String),
    /// Nothing in it can be looked for.
    #[error("the advisory names no package that an SBOM could name{0}; ask with --purl")]
    NoPackage(String),
}

/// What an advisory is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advisory {
    /// Its name: `CVE-2024-9143`, `DSA-5764-1`.
    pub id: String,
    /// One sentence, if it has one.
    pub summary: String,
    /// The packages.
    pub affected: Vec<Affected>,
    /// What in it cannot be looked for, one sentence each.
    pub notes: Vec<String>,
}

#[derive(Deserialize)]
struct Kind {
    affected: Option<serde::de::IgnoredAny>,
    product_tree: Option<serde::de::IgnoredAny>,
}

impl Advisory {
    /// Reads a document.
    pub fn parse(bytes: &[u8]) -> Result<Self, AdvisoryError> {
        if bytes.len() > MAX_ADVISORY_BYTES {
            return Err(AdvisoryError::TooLarge(bytes.len()));
        }
        if bytes.iter().filter(|byte| **byte == b'{').count() > MAX_OBJECTS {
            return Err(AdvisoryError::TooMany { what: "JSON objects", limit: MAX_OBJECTS });
        }
        let kind: Kind = serde_json::from_slice(bytes).map_err(json)?;
        let mut advisory = match (kind.affected, kind.product_tree) {
            (Some(_), None) => osv::parse(bytes)?,
            (None, Some(_)) => csaf::parse(bytes)?,
            _ => return Err(AdvisoryError::Unknown),
        };
        if advisory.affected.is_empty() {
            let note = advisory.notes.first().map(|note| format!(": {note}")).unwrap_or_default();
            return Err(AdvisoryError::NoPackage(note));
        }
        if advisory.affected.len() > MAX_AFFECTED {
            return Err(AdvisoryError::TooMany { what: "packages", limit: MAX_AFFECTED });
        }
        if advisory.affected.iter().any(|affected| affected.versions.len() > MAX_VERSIONS) {
            return Err(AdvisoryError::TooMany { what: "versions of a package", limit: MAX_VERSIONS });
        }
        let more = advisory.notes.len().saturating_sub(MAX_NOTES);
        advisory.notes.truncate(MAX_NOTES);
        if more > 0 {
            advisory.notes.push(format!("and {more} more that cannot be looked for"));
        }
        Ok(advisory)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn json(error: serde_json::Error) -> AdvisoryError {
    AdvisoryError::Json(error.to_string())
}
