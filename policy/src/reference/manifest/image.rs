//! The part of a manifest about images: files, links and containers that the attestor measures itself.
//!
//! ```toml
//! [[image]]
//! path = "/opt/plc/press.bin"
//! digest = ["sha256:<64 hex digits>"]
//! name = "press program"
//! ```
//!
//! A release with such rules is closed: each image that a device measured must satisfy one, and each rule
//! that is not optional must be satisfied. A rule without a path accepts its digests wherever they are. What is
//! optional may also go while the device runs. What could not be measured satisfies no rule.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::digest::Digest;
use crate::eventlog::image::{ImageKind, ImageMeasurement};

/// Most image rules of one release: an edge box runs some dozens of programs and containers.
pub const MAX_IMAGE_RULES: usize = 1024;

/// What a release says about an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRule {
    /// Where it must be; anywhere if not stated.
    pub path: Option<String>,
    /// The SHA-256 that it may have; never empty.
    pub digests: BTreeSet<Digest>,
    /// It may be missing.
    pub optional: bool,
    /// What it is, for people.
    pub name: Option<String>,
}

impl ImageRule {
    /// Whether the rule is about images at this path.
    #[must_use]
    pub fn covers(&self, image: &ImageMeasurement) -> bool {
        self.path.as_ref().is_none_or(|path| *path == image.path)
    }

    /// Whether `image` satisfies the rule.
    #[must_use]
    pub fn is_satisfied_by(&self, image: &ImageMeasurement) -> bool {
        let is_accepted = match image.kind {
            ImageKind::File | ImageKind::Link | ImageKind::Container => true,
            ImageKind::Removed => self.optional,
            ImageKind::Unreadable | ImageKind::Unstable | ImageKind::Overflow => false,
        };
        is_accepted && self.covers(image) && self.digests.contains(&image.digest)
    }
}

/// What people call it: its name, else its path, else a digest.
impl fmt::Display for ImageRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.as_ref().or(self.path.as_ref()), self.digests.first()) {
            (Some(text), _) => f.write_str(text),
            (None, Some(digest)) => digest.fmt(f),
            (None, None) => f.write_str("an image"),
        }
    }
}

impl Serialize for ImageRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            path: Option<&'a str>,
            digest: &'a BTreeSet<Digest>,
            optional: bool,
            name: Option<&'a str>,
        }

        let Self { path, digests, optional, name } = self;
        let (path, name) = (path.as_deref(), name.as_deref());
        Document { path, digest: digests, optional: *optional, name }.serialize(serializer)
    }
}
