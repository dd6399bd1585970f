//! The stamps of measured files, kept beside the image log: an attestor that starts again hashes only what changed since.
//!
//! Promises: a stamp is kept after the entry of what its file held was logged, and ends with the log, at the latest with the
//! boot. Does not promise more than the log's folder does: whoever writes there is the attestor, or root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::stamp::Stamp;
use super::walk::MAX_IMAGES;
use crate::durable;

/// Version of the form.
const SCHEMA: u32 = 1;
/// Longest file in bytes: a path of the longest, with its stamp, for each image.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// The stamps of files whose last entry is of what they hold.
#[derive(Debug)]
pub(super) struct Stamps {
    file: PathBuf,
    held: BTreeMap<String, Stamp>,
    /// The file does not say the same.
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    schema: u32,
    stamps: BTreeMap<String, Stamp>,
}

impl Stamps {
    /// Those that were kept beside `log`; what cannot be read is none, and everything is hashed again.
    pub(super) fn beside(log: &Path) -> Self {
        let file = log.with_extension("stamps");
        let read = durable::read_bounded(&file, MAX_FILE).ok();
        let stored = read.and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
        let stored = stored.filter(|stored| stored.schema == SCHEMA && stored.stamps.len() <= MAX_IMAGES);
        Self { file, held: stored.map(|stored| stored.stamps).unwrap_or_default(), changed: false }
    }

    pub(super) const fn all(&self) -> &BTreeMap<String, Stamp> {
        &self.held
    }

    pub(super) fn insert(&mut self, path: String, stamp: Stamp) {
        self.changed |= self.held.insert(path, stamp) != Some(stamp);
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
