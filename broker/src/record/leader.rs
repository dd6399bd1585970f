//! Which of the plant's brokers leads: does by itself what is to be done once.

use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Key of the [`Leader`]. It changes with each term and with nothing else, so its version fences off former leaders.
pub const LEADER: &str = "leader";
/// Key of the [`Beat`].
pub const BEAT: &str = "leader-beat";

/// Key of the one [`TurnedAway`].
pub const TURNED_AWAY: &str = "turned-away";

/// The broker that leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Its id.
    pub broker: String,
    /// Counts terms.
    pub term: u64,
}

impl Record for Leader {
    const VERSION: u32 = 1;
    const KIND: &'static str = "leader";
}

/// That the leader lives. Others go by when they see it change, by clocks of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The term.
    pub term: u64,
    /// Counts beats of the term.
    pub number: u64,
    /// The leader is about to stop: there is nothing to wait for.
    pub last: bool,
    /// When, by the leader's clock: others say so if theirs shows another time.
    pub at: UnixTime,
}

impl Record for Beat {
    const VERSION: u32 = 1;
    const KIND: &'static str = "leader's beat";
}

/// A broker found no place for devices: they are not silent, whoever leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedAway {
    /// The broker.
    pub broker: String,
    /// How many since it started.
    pub count: u64,
}

impl Record for TurnedAway {
    const VERSION: u32 = 1;
    const KIND: &'static str = "devices turned away";
}
