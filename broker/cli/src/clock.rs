//! The one place that reads the wall clock; everything else takes the time as a value.

use std::time::{SystemTime, UNIX_EPOCH};

use policy::time::UnixTime;

/// The time now; 1970 on a machine whose clock stands before it.
#[expect(clippy::disallowed_methods, reason = "the clock of this program; all else takes a UnixTime")]
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
