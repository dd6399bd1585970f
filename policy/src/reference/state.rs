//! The life of a release: `pending -> active -> deprecated -> retired`, and `withdrawn` from anywhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::UnixTime;

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum ReleaseState {
    /// Known, not yet accepted.
    Pending,
    /// Accepted.
    Active,
    /// Accepted until a date, and flagged.
    Deprecated {
        /// The last second at which it is accepted.
        until: UnixTime,
    },
    /// No longer accepted; nothing is held against it.
    Retired,
    /// Bad: whatever runs it is denied at once. There is no way back.
    Withdrawn,
}

/// A change of state that the life of a release does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// A withdrawn release stays withdrawn.
    #[error("a withdrawn release stays withdrawn; sign what is good in it as a new release")]
    Withdrawn,
    /// It is there already.
    #[error("the release is {0} already")]
    Already(ReleaseState),
    /// The step is not one of the life of a release.
    #[error("a release that is {from} cannot become {to}; {remedy}")]
    NoSuchStep {
        /// Where it stands.
        from: ReleaseState,
        /// Where it was to go.
        to: ReleaseState,
        /// The step to take instead.
        remedy: &'static str,
    },
}

impl ReleaseState {
    /// The state after a change to `to`, if that is a step of the life of a release. A deprecated
    /// release may be given another date, or be made active again.
    pub fn change_to(self, to: Self) -> Result<Self, TransitionError> {
        use ReleaseState::{Active, Deprecated, Pending, Retired, Withdrawn};
        let refuse = |remedy| Err(TransitionError::NoSuchStep { from: self, to, remedy });
        match (self, to) {
            (Withdrawn, _) => Err(TransitionError::Withdrawn),
            (from, to) if from == to => Err(TransitionError::Already(to)),
            (Pending, Active)
            | (Active | Deprecated { .. }, Deprecated { .. })
            | (Deprecated { .. }, Active | Retired)
            | (_, Withdrawn) => Ok(to),
            (Pending, _) => refuse("activate it first, or withdraw it"),
            (Active, _) => refuse("deprecate it with a date first, or withdraw it"),
            (Retired, _) => refuse("sign it again under a new version"),
            (Deprecated { .. }, _) => refuse("activate or retire it"),
        }
    }

    /// Whether evidence may be accepted under the release at `now`, and why not.
    #[must_use]
    pub fn standing(self, now: UnixTime) -> Standing {
        match self {
            Self::Active => Standing::Accepted { until: None },
            Self::Deprecated { until } if now <= until => Standing::Accepted { until: Some(until) },
            Self::Pending | Self::Deprecated { .. } | Self::Retired => Standing::NotAccepted,
            Self::Withdrawn => Standing::Withdrawn,
        }
    }
}

/// What a state means for an appraisal at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It approves what matches it.
    Accepted {
        /// The last second of it, for a deprecated release.
        until: Option<UnixTime>,
    },
    /// It approves nothing: not yet, or no longer.
    NotAccepted,
    /// It condemns what matches it.
    Withdrawn,
}

impl fmt::Display for ReleaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Active => f.write_str("active"),
            Self::Deprecated { until } => write!(f, "deprecated until {until}"),
            Self::Retired => f.write_str("retired"),
            Self::Withdrawn => f.write_str("withdrawn"),
        }
    }
}
