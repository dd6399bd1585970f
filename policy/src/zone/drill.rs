//! Failure drills: what is broken on purpose in a staging zone, and what the zone promises of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Default `cut_within` in seconds: what is promised of peers that reload their files, 5 s, and as much again.
const CUT: u64 = 10;
/// Default `recover_within` in seconds: the longest pause of a device between two tries to reach its broker is a minute.
const RECOVER: u64 = 120;
/// Most of either in seconds: a promise of more than an hour is none.
pub const MAX_BOUND: u64 = 3_600;

/// What a zone that is marked for drills promises of them. A zone without it is never drilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillBounds {
    cut_within: u64,
    recover_within: u64,
}

/// A bound of no time, or of more than an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found} s; use 1 to {MAX_BOUND} (an hour)")]
pub struct DrillBoundsError {
    field: &'static str,
    found: u64,
}

impl Default for DrillBounds {
    /// 10 seconds, 2 minutes.
    fn default() -> Self {
        Self { cut_within: CUT, recover_within: RECOVER }
    }
}

impl DrillBounds {
    /// These bounds in seconds; what is not given is the default.
    pub fn new(cut_within: Option<u64>, recover_within: Option<u64>) -> Result<Self, DrillBoundsError> {
        let (cut_within, recover_within) = (cut_within.unwrap_or(CUT), recover_within.unwrap_or(RECOVER));
        for (field, found) in [("cut_within", cut_within), ("recover_within", recover_within)] {
            if !(1..=MAX_BOUND).contains(&found) {
                return Err(DrillBoundsError { field, found });
            }
        }
        Ok(Self { cut_within, recover_within })
    }

    /// Seconds within which a device that lost trust is cut off; sessions through gates may end `gate_drain` later.
    #[must_use]
    pub const fn cut_within(&self) -> u64 {
        self.cut_within
    }

    /// Seconds within which devices are trusted again, once the fault is over.
    #[must_use]
    pub const fn recover_within(&self) -> u64 {
        self.recover_within
    }
}

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The broker is not there for the zone's devices.
    LinkLoss,
    /// It answers them late.
    Delay,
    /// The certificates of one device are revoked as if its key were stolen.
    CompromisedCredential,
    /// One device boots what no release accepts.
    CorruptedUpdate,
    /// One device is rebooted, by whoever stands before it.
    Reboot,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 5] =
        [Self::LinkLoss, Self::Delay, Self::CompromisedCredential, Self::CorruptedUpdate, Self::Reboot];

    /// Its name, as written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkLoss => "link-loss",
            Self::Delay => "delay",
            Self::CompromisedCredential => "compromised-credential",
            Self::CorruptedUpdate => "corrupted-update",
            Self::Reboot => "reboot",
        }
    }

    /// Whether it befalls one device that is named, and not the whole zone.
    #[must_use]
    pub const fn is_of_one(self) -> bool {
        matches!(self, Self::CompromisedCredential | Self::CorruptedUpdate | Self::Reboot)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no fault of a drill; use link-loss, delay, compromised-credential, corrupted-update or reboot"
)]
pub struct UnknownFault(String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == text);
        found.ok_or_else(|| UnknownFault(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_time_that_can_be_waited_for() {
        assert_eq!(DrillBounds::new(None, None), Ok(DrillBounds::default()));
        let error = DrillBounds::new(Some(0), None).unwrap_err();
        assert_eq!(error.to_string(), "cut_within is 0 s; use 1 to 3600 (an hour)");
        assert!(DrillBounds::new(None, Some(3_601)).is_err());
    }

    #[test]
    fn every_fault_is_known_by_its_name_alone() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
            assert_eq!(serde_json::to_string(&fault).unwrap(), format!("\"{fault}\""));
        }
        assert!("earthquake".parse::<Fault>().unwrap_err().to_string().contains("use link-loss"));
    }
}
