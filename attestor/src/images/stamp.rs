//! What the file system says of a file: two equal stamps mean that its content was not written in between.

use policy::time::UnixTime;
use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

/// Seconds that must lie between the last write and a look: within one tick of the file system's clock (10 ms at most,
/// and whole seconds on some) a second write leaves the times as they are.
const SETTLED: u64 = 2;

/// Which file, how long, written when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified: (i64, u64),
    /// Set by the kernel at every change, and by nobody else.
    changed: (i64, u64),
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        let whole = |value: i64| u64::try_from(value).unwrap_or(0);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: whole(stat.st_size),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl Stamp {
    /// Whether another write after `now`, by the system's own clock, would show. A time far off is another clock's.
    pub(super) fn is_settled(&self, now: UnixTime) -> bool {
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        changed.abs_diff(now.0) > SETTLED
    }
}
