//! The stamps of measured files, kept beside the image log: an attestor that starts again hashes only what changed since.
//!
//! Promises: a stamp counts only while the last entry of its path is of the content that was hashed with it, however old the
//! kept stamps are; it ends with the log, at the latest with the boot. Does not promise more than the log's folder does:
//! whoever writes there is the attestor, or root. Nor does it tell two read-only file systems with fixed times (squashfs,
//! erofs) apart that are mounted one after the other at the same device number; a reboot does, everything is hashed then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use policy::digest::Digest;
use policy::eventlog::image::{ImageKind, ImageMeasurement};
use serde::{Deserialize, Serialize};

use super::stamp::Stamp;
use super::walk::MAX_IMAGES;
use crate::durable;

/// Version of the form.
const SCHEMA: u32 = 2;
/// Longest file in bytes: a path of the longest, with its stamp, for each image.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// Of each file, the last content that was hashed with a stamp in which another write would have shown.
#[derive(Debug)]
pub(super) struct Stamps {
    file: PathBuf,
    held: BTreeMap<String, Stamped>,
    /// The file does not say the same.
    changed: bool,
}

/// What a file held while it had this stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamped {
    stamp: Stamp,
    digest: Digest,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    schema: u32,
    stamps: BTreeMap<String, Stamped>,
}

impl Stamps {
    /// Those that were kept beside `log`; what cannot be read is none, and everything is hashed again.
    pub(super) fn beside(log: &Path) -> Self {
        let mut name = log.file_name().unwrap_or_default().to_owned();
        name.push(".stamps");
        let file = log.with_file_name(name);
        let read = durable::read_bounded(&file, MAX_FILE).ok();
        let stored = read.and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
        let stored = stored.filter(|stored| stored.schema == SCHEMA && stored.stamps.len() <= MAX_IMAGES);
        Self { file, held: stored.map(|stored| stored.stamps).unwrap_or_default(), changed: false }
    }

    /// Whether a file with this stamp holds what the last entry of its path says.
    pub(super) fn confirm(&self, last: &ImageMeasurement, stamp: &Stamp) -> bool {
        let stamped = Stamped { stamp: *stamp, digest: last.digest };
        last.kind == ImageKind::File && self.held.get(&last.path) == Some(&stamped)
    }

    pub(super) fn insert(&mut self, path: String, stamp: Stamp, digest: Digest) {
        let stamped = Stamped { stamp, digest };
        self.changed |= self.held.insert(path, stamped) != Some(stamped);
    }

    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let before = self.held.len();
        self.held.retain(|path, _| is_there(path));
        self.changed |= self.held.len() != before;
    }

    /// Writes them where they differ from what is written.
    pub(super) fn keep(&mut self) {
        if !self.changed {
            return;
        }
        let stored = Stored { schema: SCHEMA, stamps: self.held.clone() };
        let json = serde_json::to_vec(&stored).map_err(std::io::Error::other);
        match json.and_then(|json| durable::replace(&self.file, &json, 0o600)) {
            Ok(()) => self.changed = false,
            Err(error) => {
                let file = self.file.display();
                tracing::warn!(%error, "{file} cannot be written: after a restart of the attestor every image is hashed again; free space");
            }
        }
    }
}
