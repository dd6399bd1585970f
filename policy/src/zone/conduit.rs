//! Conduits: who may open which service of whom, and when.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// Whether the conduit is open at `now`.
    #[must_use]
    pub fn is_open(&self, now: UnixTime) -> bool {
        !self.has_ended(now) && self.schedule.as_ref().is_none_or(|schedule| schedule.is_open(now))
    }

    /// Whether it is closed for good.
    #[must_use]
    pub fn has_ended(&self, now: UnixTime) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// The first second after `now` at which it opens or closes, if it ever does.
    #[must_use]
    pub fn next_edge(&self, now: UnixTime) -> Option<UnixTime> {
        if self.has_ended(now) {
            return None;
        }
        let scheduled = self.schedule.as_ref().and_then(|schedule| schedule.next_edge(now));
        // An edge at or after the end changes nothing that the end does not; the end of a closed conduit does nothing.
        match (scheduled, self.expires) {
            (Some(edge), Some(end)) if edge >= end => self.is_open(now).then_some(end),
            (Some(edge), _) => Some(edge),
            (None, end) => end,
        }
    }

    /// The first second from `now` on at which it is open, if it ever is.
    #[must_use]
    pub fn next_opening(&self, now: UnixTime) -> Option<UnixTime> {
        if self.is_open(now) {
            return Some(now);
        }
        self.next_edge(now).filter(|edge| self.is_open(*edge))
    }
}

impl fmt::Display for Conduit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.from, self.to, self.service)
    }
}
