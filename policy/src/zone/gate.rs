//! What gates of a zone do with a session that is not allowed any more, and while the broker is not heard.

use serde::{Deserialize, Serialize};

/// Longest time in seconds that a session may take to end: an hour. Until then whoever lost trust is still served.
pub const MAX_DRAIN: u64 = 3_600;

/// The rules of a zone for its gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRules {
    drain: u64,
    fail: GateFail,
}

/// What a gate does about other zones while the broker is not heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateFail {
    /// It goes on by what it knows: a plant must not stop with its broker.
    #[default]
    Open,
    /// It lets nobody of another zone begin a session: what was revoked meanwhile is not known.
    Closed,
}

/// A session would be served for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("gate_drain is {0} s; use 0 (cut at once) to {MAX_DRAIN} (an hour)")]
pub struct GateRulesError(u64);

impl GateRules {
    /// These rules; `drain` is in seconds.
    pub const fn new(drain: u64, fail: GateFail) -> Result<Self, GateRulesError> {
        match drain <= MAX_DRAIN {
            true => Ok(Self { drain, fail }),
            false => Err(GateRulesError(drain)),
        }
    }

    /// Seconds in which a session that is not allowed any more may end by itself; 0: it is cut at once.
    #[must_use]
    pub const fn drain(&self) -> u64 {
        self.drain
    }

    /// What holds for other zones while the broker is not heard.
    #[must_use]
    pub const fn fail(&self) -> GateFail {
        self.fail
    }

    /// Whether nobody said anything about gates.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
