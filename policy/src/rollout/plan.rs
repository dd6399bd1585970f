//! What a rollout is to do, validated once.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Wave;
use crate::id::ProductName;
use crate::reference::release::ReleaseId;

/// Most waves of one rollout: more than a person oversees.
pub const MAX_WAVES: usize = 16;
/// Largest budget: larger fleets than one broker serves.
pub const MAX_BUDGET: u32 = 100_000;
/// Longest hold and deadline in seconds: a month, which every maintenance window comes round in.
const MOST: u64 = 31 * 86_400;
/// Shortest deadline in seconds: a fast machine's reboot with two attestations.
const LEAST_DEADLINE: u64 = 60;

/// Which rollout: its product and a number that counts the product's rollouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutId {
    /// The product.
    pub product: ProductName,
    /// Counts from 1.
    pub number: u64,
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.product, self.number)
    }
}

/// How many devices a rollout may cost. As many are in flight at most, so that even if all of those fail it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Devices that lost trust, or did not come back by the deadline.
    pub trust: u32,
    /// Devices whose own health command fails, where it did not before.
    pub health: u32,
}

impl Budget {
    /// No limit: what goes back to a known release is not stopped for the damage it is to mend.
    pub const UNLIMITED: Self = Self { trust: u32::MAX, health: u32::MAX };
}

/// What a rollout is to do. Only [`Plan::new`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which rollout.
    pub(super) id: RolloutId,
    /// The release that becomes wanted.
    pub(super) to: ReleaseId,
    /// Its waves, first to last.
    pub(super) waves: Vec<Wave>,
    /// What it may cost.
    pub(super) budget: Budget,
    /// Seconds between the end of a wave and the beginning of the next.
    pub(super) hold: u64,
    /// Seconds after which a device that was told and did not prove the release counts as lost.
    pub(super) deadline: u64,
    /// Whether it goes back to what was well: then devices that lost trust are told too.
    #[serde(default)]
    pub(super) mends: bool,
}

/// A rollout is not possible as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Waves.
    #[error("a rollout has 1 to {MAX_WAVES} waves, this one has {0}")]
    Waves(usize),
    /// The last wave leaves devices out.
    #[error("the last wave is {0} and may leave devices out; end with the wave 100%")]
    LastWave(Wave),
    /// A budget.
    #[error(
        "a budget is 1 to {MAX_BUDGET} devices: as many are updated at a time, and with none nothing ever is"
    )]
    Budget,
    /// A time.
    #[error("hold is at most {MOST} seconds, and the deadline {LEAST_DEADLINE} to {MOST}")]
    Time,
}

impl Plan {
    /// A plan; `hold` and `deadline` in seconds.
    pub fn new(
        id: RolloutId,
        to: ReleaseId,
        waves: Vec<Wave>,
        budget: Budget,
        (hold, deadline): (u64, u64),
    ) -> Result<Self, PlanError> {
        match waves.last() {
            Some(Wave::Percent(100)) if waves.len() <= MAX_WAVES => {}
            Some(other) if waves.len() <= MAX_WAVES => return Err(PlanError::LastWave(other.clone())),
            _ => return Err(PlanError::Waves(waves.len())),
        }
        if hold > MOST || !(LEAST_DEADLINE..=MOST).contains(&deadline) {
            return Err(PlanError::Time);
        }
        Self { id, to, waves, budget, hold, deadline, mends: false }.with_budget(budget)
    }

    /// The same with another budget.
    pub fn with_budget(mut self, budget: Budget) -> Result<Self, PlanError> {
        let fits = |part: u32| (1..=MAX_BUDGET).contains(&part);
        if !fits(budget.trust) || !fits(budget.health) {
            return Err(PlanError::Budget);
        }
        self.budget = budget;
        Ok(self)
    }

    /// The way back to `to`: all devices in one wave, whatever it costs, still never two that share a dependency.
    /// Those that lost trust are down already, and are told at once.
    #[must_use]
    pub fn back(&self, to: ReleaseId) -> Self {
        let (waves, budget) = (vec![Wave::Percent(100)], Budget::UNLIMITED);
        Self { to, waves, budget, hold: 0, mends: true, ..self.clone() }
    }

    /// Which rollout.
    #[must_use]
    pub const fn id(&self) -> &RolloutId {
        &self.id
    }

    /// The release that becomes wanted.
    #[must_use]
    pub const fn to(&self) -> &ReleaseId {
        &self.to
    }

    /// Its waves, first to last.
    #[must_use]
    pub fn waves(&self) -> &[Wave] {
        &self.waves
    }

    /// What it may cost.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// Seconds between two waves.
    #[must_use]
    pub const fn hold(&self) -> u64 {
        self.hold
    }

    /// Seconds that a device has to prove the release.
    #[must_use]
    pub const fn deadline(&self) -> u64 {
        self.deadline
    }
}
