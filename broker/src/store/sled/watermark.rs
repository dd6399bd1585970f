//! The highest revision that was acknowledged, kept outside sled's log.
//!
//! sled cuts its log at the first damaged segment and opens with what came before, without a word. A
//! store that comes back with less than was acknowledged must not start: revocations and quarantines
//! would be among what is lost.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::store::Revision;

const NAME: &str = "db.acknowledged";
/// Two numbers of twenty digits, a space and a line feed: well within one sector, so never half written.
const WIDTH: usize = 42;

/// The file, open.
#[derive(Debug)]
pub(super) struct Watermark(File);

impl Watermark {
    /// Opens the file below `root`, or creates it.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(root.join(NAME))?;
        Ok(Self(file))
    }

    /// What was acknowledged of the content in folder `number`; zero if nothing is known of it.
    pub(super) fn acknowledged(&self, number: u64) -> io::Result<Revision> {
        let mut bytes = [0; WIDTH];
        let length = self.0.read_at(&mut bytes, 0)?;
        if length == 0 {
            return Ok(Revision(0));
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{NAME} holds no revision"));
        let text = std::str::from_utf8(&bytes).map_err(|_| damaged())?;
        let (of, revision) = text.trim_end().split_once(' ').ok_or_else(damaged)?;
        let of: u64 = of.parse().map_err(|_| damaged())?;
        let revision: u64 = revision.parse().map_err(|_| damaged())?;
        Ok(Revision(if of == number { revision } else { 0 }))
    }

    /// Writes down, durably, that everything up to `revision` is about to be acknowledged.
    pub(super) fn raise(&self, number: u64, revision: Revision) -> io::Result<()> {
        self.0.write_all_at(format!("{number:020} {:020}\n", revision.0).as_bytes(), 0)?;
        self.0.sync_data()
    }
}
