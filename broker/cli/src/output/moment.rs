//! A time that people read as an age, and programs as RFC 3339.

use serde::{Serialize, Serializer};

use super::words;

/// Seconds since 1970 as the broker sends them; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        words::json_time(self.0).serialize(serializer)
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&words::rfc3339(self.0))
    }
}
