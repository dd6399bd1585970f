//! Software bills of materials: CycloneDX 1.4 to 1.6 and SPDX 2.2 and 2.3, both as JSON.
//!
//! A document is untrusted text. It counts for a release that states its digest, and for nothing else. Of a document
//! only the components are read; licences, hashes and relations are not.

mod cyclonedx;
mod spdx;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::component::Component;

/// Largest document in bytes, that of a blob: a Debian system of 3,000 packages with all its files takes some 12 MiB.
pub const MAX_SBOM_BYTES: usize = 16 * 1024 * 1024;
/// Most components: a large image holds some 10,000 packages.
pub const MAX_COMPONENTS: usize = 50_000;
/// Most JSON objects of a document; each takes at most some 300 bytes of memory while it is read.
const MAX_OBJECTS: usize = 500_000;
/// Longest text of a component in bytes; a purl has its own bound below this.
const MAX_TEXT: usize = 4096;

/// The form of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SbomFormat {
    /// ECMA-424.
    CycloneDx,
    /// ISO/IEC 5962.
    Spdx,
}

impl SbomFormat {
    /// As manifests and commands write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CycloneDx => "cyclonedx",
            Self::Spdx => "spdx",
        }
    }
}

impl fmt::Display for SbomFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Not a format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the format of an SBOM is cyclonedx or spdx")]
pub struct ParseFormatError;

impl FromStr for SbomFormat {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        [Self::CycloneDx, Self::Spdx].into_iter().find(|known| known.name() == text).ok_or(ParseFormatError)
    }
}

/// A document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SbomError {
    /// Too many bytes.
    #[error("the SBOM has {0} bytes, at most {MAX_SBOM_BYTES}; make one without files, or one for each part")]
    TooLarge(usize),
    /// Too many objects or components.
    #[error("the SBOM has more than {limit} {what}; make one without files, or one for each part")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// No such JSON.
    #[error("the SBOM cannot be read: {0}")]
    Json(String),
    /// JSON of another kind.
    #[error(
        "this is no CycloneDX and no SPDX document in JSON; it has neither `bomFormat` nor `spdxVersion`"
    )]
    Unknown,
    /// A version that is not read.
    #[error("{format} {found} is not read; make the SBOM as {wanted}")]
    Version {
        /// The format.
        format: SbomFormat,
        /// What it says.
        found: String,
        /// What is read.
        wanted: &'static str,
    },
    /// A text that is too long.
    #[error("a {field} of the SBOM has {found} bytes, at most {MAX_TEXT}")]
    LongText {
        /// Which.
        field: &'static str,
        /// How long it is.
        found: usize,
    },
}

/// A document that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sbom {
    /// Its form.
    pub format: SbomFormat,
    /// The version of the form.
    pub spec_version: String,
    /// What it is about, as it says.
    pub subject: String,
    /// What it lists, nested components too.
    pub components: Vec<Component>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "bomFormat")]
    cyclonedx: Option<String>,
    #[serde(rename = "spdxVersion")]
    spdx: Option<String>,
}

impl Sbom {
    /// Reads a document.
    pub fn parse(bytes: &[u8]) -> Result<Self, SbomError> {
        if bytes.len() > MAX_SBOM_BYTES {
            return Err(SbomError::TooLarge(bytes.len()));
        }
        if bytes.iter().filter(|byte| **byte == b'{').count() > MAX_OBJECTS {
            return Err(SbomError::TooMany { what: "JSON objects", limit: MAX_OBJECTS });
        }
        let kind: Kind = serde_json::from_slice(bytes).map_err(json)?;
        match (kind.cyclonedx.as_deref(), kind.spdx) {
            (Some("CycloneDX"), None) => cyclonedx::parse(bytes),
            (None, Some(_)) => spdx::parse(bytes),
            _ => Err(SbomError::Unknown),
        }
    }
}

/// serde_json refuses more than 128 levels of nesting by itself.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn json(error: serde_json::Error) -> SbomError {
    SbomError::Json(error.to_string())
}

/// What was read so far.
#[derive(Default)]
struct Components(Vec<Component>);

impl Components {
    fn add(&mut self, component: Component) -> Result<(), SbomError> {
        if self.0.len() >= MAX_COMPONENTS {
            return Err(SbomError::TooMany { what: "components", limit: MAX_COMPONENTS });
        }
        self.0.push(component);
        Ok(())
    }
}

/// `text`, if it is not too long.
fn bounded(field: &'static str, text: String) -> Result<String, SbomError> {
    match text.len() {
        found if found > MAX_TEXT => Err(SbomError::LongText { field, found }),
        _ => Ok(text),
    }
}
