//! Points in time as values. There is no clock in this crate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted (POSIX time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The instant `seconds` later; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// The instant `seconds` earlier; stays at 1970 instead of wrapping.
    #[must_use]
    pub const fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// Seconds from `earlier` to `self`, 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = i64::try_from(self.0)
            .ok()
            .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
            .and_then(|t| t.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "@{}", self.0),
        }
    }
}

/// The text is not an RFC 3339 time at or after 1970.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time; write it as RFC 3339, for example 2026-01-31T12:00:00Z")]
pub struct ParseTimeError(String);

impl FromStr for UnixTime {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseTimeError(text.to_owned());
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| refuse())?;
        u64::try_from(parsed.unix_timestamp()).map(Self).map_err(|_| refuse())
    }
}

/// A closed interval of time, as in a certificate (RFC 5280, section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// First second at which it holds.
    pub not_before: UnixTime,
    /// Last second at which it holds.
    pub not_after: UnixTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_round_trips() {
        let t: UnixTime = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(t.to_string(), "2026-01-31T12:00:00Z");
    }

    #[test]
    fn a_time_before_1970_is_refused_by_name() {
        let error = "1960-01-01T00:00:00Z".parse::<UnixTime>().unwrap_err();
        assert!(error.to_string().contains("1960-01-01"));
    }
}
