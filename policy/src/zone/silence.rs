//! Devices that fall silent while others of their zone are heard.
//!
//! Heard is whoever proved itself. Silence says something of a device only if it had its time to be heard while others
//! were: a cut cable, a broker that was away and a plant that is switched on look alike to all of a zone, and make
//! nobody of it silent.
//!
//! Promises: whoever was heard last of a zone is never silent in it, so a zone never loses all its devices by silence.
//! Does not promise: that a cable which leads to a part of a zone is told from a stopped device; that is why a zone
//! chooses what silence means.

use serde::{Deserialize, Serialize};

use super::model::Timing;
use crate::time::UnixTime;

/// What a zone does about a device that is silent while others of it are heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSilence {
    /// People are told: a cut cable looks the same.
    #[default]
    Alert,
    /// It loses what it holds in the zone, until it proves itself again.
    Refuse,
}

impl OnSilence {
    /// The choice as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Refuse => "refuse",
        }
    }

    /// Whether nobody chose.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a broker heard of a zone, without a longer break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    since: UnixTime,
    last: UnixTime,
}

impl Listening {
    /// It begins to listen at `now`, and knows of nobody who was to be heard before.
    #[must_use]
    pub const fn from(now: UnixTime) -> Self {
        Self { since: now, last: now }
    }

    /// The last of the zone was heard at `last`. If that was after a break, everybody has their time anew: half as long
    /// again as an interval, in which each of the zone should have come, and the `pace` in seconds at which it is looked.
    #[must_use]
    pub fn heard(self, last: UnixTime, timing: &Timing, pace: u64) -> Self {
        if last <= self.last {
            return self;
        }
        let every = timing.reattest_every();
        let broken = last.since(self.last) > every.saturating_add(every / 2).saturating_add(pace);
        Self { since: if broken { last } else { self.since }, last }
    }

    /// Whether a device that was last heard `at` is silent at `now`: somebody else was heard after it had been silent for
    /// `silent_after`, and no longer ago than that.
    #[must_use]
    pub fn misses(self, at: UnixTime, timing: &Timing, now: UnixTime) -> bool {
        let limit = timing.silent_after();
        self.last > at.max(self.since).plus(limit) && now.since(self.last) <= limit
    }
}
