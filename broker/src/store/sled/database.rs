//! One sled database, and what makes it durable.

use super::damage::contained;
use crate::store::{
    commit::Position,
    record::{self, DecodeError},
};
use std::{fmt, fs::File, io, path::Path};

/// Memory for sled's pages.
const CACHE_BYTES: u64 = 64 << 20;

/// Bytes of a segment of sled's log.
///
/// sled takes what it wrote for stable before any sync, and may reuse or cut off a segment whose content it
/// has moved since (`pagecache/segment.rs`: `next`, `truncate`). A power cut in between finds neither the old
/// nor the new; with segments of 512 KiB, bulk writes and dropped trees it did so in about 1 cut of 40. It
/// takes more than a segment between two syncs, so segments are large, [`super::committer::GROUP_BYTES`] is
/// small, and bulk writes go to a database of their own. Costs about 10 MiB of memory and 16 MiB of disk.
const SEGMENT_BYTES: usize = 8 << 20;

/// The position, out of every reader's sight.
pub(super) const POSITION: &str = "\0position";

/// Makes everything that was applied durable.
pub(super) type Sync = Box<dyn FnMut() -> io::Result<()> + Send>;

/// An open database. All content is in its default tree.
pub(super) struct Database {
    pub(super) tree: ::sled::Tree,
    pub(super) sync: Sync,
    /// Keeps the lock.
    _db: ::sled::Db,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// Why a database did not open.
#[derive(Debug)]
pub(super) enum Fault {
    /// Somebody holds the lock.
    Taken,
    Io(io::Error),
    Damaged(String),
}

impl Database {
    /// Opens sled's files in `folder`, or creates them, and makes them durable.
    pub(super) fn open(folder: &Path) -> Result<Self, Fault> {
        let config =
            ::sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).segment_size(SEGMENT_BYTES);
        let mut refused = None;
        let opened = contained(|| {
            config.open().inspect_err(|error| {
                if let ::sled::Error::Io(error) = error {
                    refused = Some(io::Error::new(error.kind(), error.to_string()));
                }
            })
        });
        match (opened, refused) {
            (Ok(db), _) => Self::of(db, folder).map_err(Fault::Io),
            (Err(_), Some(error)) if is_lock(&error) => Err(Fault::Taken),
            (Err(_), Some(error)) => Err(Fault::Io(error)),
            (Err(why), None) => Err(Fault::Damaged(why)),
        }
    }

    /// sled's `flush` writes its log but never syncs it (`sync_file_range` has no barrier). The descriptor is
    /// our own, so a write error is reported to us even if sled's own thread was told of it before.
    fn of(db: ::sled::Db, folder: &Path) -> io::Result<Self> {
        let file = File::open(folder.join("db"))?;
        file.sync_all()?;
        File::open(folder.join("conf"))?.sync_all()?;
        File::open(folder)?.sync_all()?;
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
        let tree = ::sled::Tree::clone(&db);
        let flushed = tree.clone();
        let sync = Box::new(move || {
            flushed.flush()?;
            file.sync_data()
        });
        Ok(Self { tree, sync, _db: db })
    }

    /// The position stored here, if there is one.
    pub(super) fn position(&self) -> Result<Option<Position>, String> {
        let found = contained(|| self.tree.get(POSITION))?;
        let decoded = found.map(|bytes| record::decode(POSITION, &bytes)).transpose();
        decoded.map_err(|error: DecodeError| error.to_string())
    }

    /// Makes everything durable, with the position as the last of it.
    pub(super) fn seal(&mut self, position: &Position) -> Result<(), String> {
        let bytes = encoded(position)?;
        contained(|| self.tree.insert(POSITION, bytes))?;
        contained(&mut self.sync)
    }
}

/// The stored form of a position.
pub(super) fn encoded(position: &Position) -> Result<Vec<u8>, String> {
    record::encode(position).map_err(|error| error.to_string())
}

/// sled 0.34.7 reports the WouldBlock of its lock as an error of kind Other with this text.
fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
