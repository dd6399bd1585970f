//! A device as a rollout sees it, and how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::id::{DeviceName, ZoneName};
use crate::reference::release::ReleaseId;
use crate::time::UnixTime;

/// Failed checks in a row that count against the release: one alone may be a start that is not over yet.
pub const FAILURES_THAT_COUNT: u32 = 2;

/// What a device's zones make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It was heard in time, and every zone trusts it.
    Trusted,
    /// A zone refused what it booted, or its TPM's counters fell.
    Lost,
    /// It is silent, or never came.
    Unknown,
}

/// What the device's own health command says, by its last attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has no such command.
    None,
    /// All is well.
    Ok,
    /// It failed, at so many attestations in a row.
    Failing {
        /// How many, from 1.
        in_a_row: u32,
    },
}

/// What the health command said before the device was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Baseline {
    /// There was none.
    None,
    /// All was well.
    Ok,
    /// It failed before: what it says after does not count.
    Failing,
}

/// That a device was told to update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When.
    pub at: UnixTime,
    /// Its health before.
    pub baseline: Baseline,
    /// When it had proven the release and its health; what happens later can still count against the release.
    pub proven: Option<UnixTime>,
}

/// A device of the plant. What many decisions read and few change is shared, so that a fleet is cheap to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub device: DeviceName,
    /// Its zones.
    pub zones: Arc<[ZoneName]>,
    /// Its inventory values.
    pub labels: Arc<BTreeMap<String, String>>,
    /// What it names as its dependencies: devices, or anything that devices share.
    pub depends_on: Arc<BTreeSet<String>>,
    /// Whether it is trusted.
    pub trust: Trust,
    /// The release that its last quote proves.
    pub running: Option<ReleaseId>,
    /// The release that it proved when it was told.
    pub ran: Option<ReleaseId>,
    /// Its health.
    pub health: Health,
    /// Whether this rollout told it to update.
    pub told: Option<Told>,
    /// Something else told it to update, and it has not proven that yet: it is left alone until it has.
    pub moving: bool,
    /// It is none of those that the rollout is for: it is never told, and while it is down it keeps back those that
    /// share a dependency with it.
    pub outside: bool,
}

/// How far a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not told yet.
    Waiting,
    /// Told, and has not proven the release and its health yet.
    InFlight,
    /// Has proven both.
    Running,
    /// Lost trust since it was told.
    Lost,
    /// Did not prove the release by the deadline, or went back from it.
    Missing,
    /// Runs the release, and its health fails as it did not before.
    Sick,
}

impl Stage {
    /// The stage as commands show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::InFlight => "told",
            Self::Running => "running",
            Self::Lost => "lost-trust",
            Self::Missing => "missing",
            Self::Sick => "unhealthy",
        }
    }

    /// Whether it counts against the trust budget.
    #[must_use]
    pub const fn costs_trust(self) -> bool {
        matches!(self, Self::Lost | Self::Missing)
    }
}

impl Member {
    /// How far the device is at `now`.
    #[must_use]
    pub fn stage(&self, plan: &Plan, now: UnixTime) -> Stage {
        let Some(told) = self.told else { return Stage::Waiting };
        if self.trust == Trust::Lost {
            return Stage::Lost;
        }
        let late = told.proven.is_none() && now.since(told.at) >= plan.deadline;
        if self.trust == Trust::Trusted && self.running.as_ref() == Some(&plan.to) {
            match (self.health, told.baseline) {
                (_, Baseline::Failing) | (Health::Ok, _) | (Health::None, Baseline::None) => {
                    return Stage::Running;
                }
                (Health::Failing { in_a_row }, _) if in_a_row >= FAILURES_THAT_COUNT || late => {
                    return Stage::Sick;
                }
                (Health::Failing { .. }, _) => return Stage::InFlight,
                // A check that no longer speaks says nothing yet.
                (Health::None, Baseline::Ok) => {}
            }
        }
        match (told.proven, late) {
            (Some(_), _) if self.went_back(plan) => Stage::Missing,
            // Switched off or moved on after it had proven itself: no fault of the release.
            (Some(_), _) => Stage::Running,
            (None, true) => Stage::Missing,
            (None, false) => Stage::InFlight,
        }
    }

    /// Whether it proves what it ran before it was told: its updater gave the release up.
    fn went_back(&self, plan: &Plan) -> bool {
        let before = self.ran.as_ref().filter(|ran| **ran != plan.to);
        self.trust == Trust::Trusted && before.is_some() && self.running.as_ref() == before
    }

    /// Whether it is, or may be, out of service: then none that shares a dependency with it is touched.
    pub(super) fn is_down(&self, stage: Stage) -> bool {
        !matches!(stage, Stage::Waiting | Stage::Running) || self.trust != Trust::Trusted || self.moving
    }

    /// What it must not share with another device that is down: its own name and those of its dependencies. So two
    /// devices that name the same thing, and one that names the other, are never updated at once.
    pub(super) fn ties(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.device.as_str()).chain(self.depends_on.iter().map(String::as_str))
    }
}
