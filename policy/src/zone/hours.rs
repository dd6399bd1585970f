//! When something that opens and closes by the clock is open: in the hours of a schedule, until an end.

use super::schedule::Schedule;
use crate::time::UnixTime;

/// The hours of a conduit.
#[derive(Clone, Copy, Debug)]
pub struct Hours<'a> {
    /// Open in these hours of the week; always, if there is none.
    pub schedule: Option<&'a Schedule>,
    /// The first second at which it is closed for good.
    pub expires: Option<UnixTime>,
}

impl Hours<'_> {
    /// Whether it is open at `now`.
    #[must_use]
    pub fn is_open(&self, now: UnixTime) -> bool {
        !self.has_ended(now) && self.schedule.is_none_or(|schedule| schedule.is_open(now))
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
        match (self.schedule.and_then(|schedule| schedule.next_edge(now)), self.expires) {
            // An edge that comes no sooner than the end is none; the end of what is closed changes nothing.
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
