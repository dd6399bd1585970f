//! Conduits: who may open which service of whom, and when.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hours::Hours;
use super::schedule::Schedule;
use crate::id::{ServiceName, ZoneName};
use crate::time::UnixTime;

/// An explicit allow: devices of `from` may open `service` of devices of `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conduit {
    /// The zone of the caller.
    pub from: ZoneName,
    /// The zone of the listener.
    pub to: ZoneName,
    /// The one service that it opens.
    pub service: ServiceName,
    /// The hours of the week in which it is open; always, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The first second at which it is closed for good.
    #[serde(default)]
    pub expires: Option<UnixTime>,
    /// Whether it was said by name that an observing zone may reach an enforcing one.
    #[serde(default)]
    pub accept_observed: bool,
}

impl Conduit {
    /// When it is open.
    #[must_use]
    pub const fn hours(&self) -> Hours<'_> {
        Hours { schedule: self.schedule.as_ref(), expires: self.expires }
    }

    /// Whether the conduit is open at `now`.
    #[must_use]
    pub fn is_open(&self, now: UnixTime) -> bool {
        self.hours().is_open(now)
    }

    /// Whether it is closed for good.
    #[must_use]
    pub fn has_ended(&self, now: UnixTime) -> bool {
        self.hours().has_ended(now)
    }
}

impl fmt::Display for Conduit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.from, self.to, self.service)
    }
}
