//! Rollouts, what each device was told, and what devices say of their health.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::rollout::{Baseline, Health, Plan, Position, Told};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Prefix of the last rollout of each product.
pub const ROLLOUT: &str = "rollout/";
/// Prefix of what devices were told, by product.
pub const TOLD: &str = "told/";
/// Prefix of what devices' health commands said.
pub const HEALTH: &str = "health/";

/// Results of a health command that are kept: as many make a device's baseline.
pub const MAX_RESULTS: usize = 8;

/// The last rollout of a product. Every step of it rewrites the record, so two brokers cannot take the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What it is to do.
    pub plan: Plan,
    /// The release that was wanted before; none: nothing was.
    pub from: Option<ReleaseId>,
    /// Where it stands.
    pub state: RolloutState,
    /// How far it is.
    pub position: Position,
    /// When it was started.
    pub started_at: UnixTime,
    /// By whom.
    pub started_by: String,
    /// The first of the rollouts before it that were given up for it: what those told devices holds until this one
    /// tells them something else. None: the one before had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up_from: Option<u64>,
}

impl Rollout {
    /// The rollouts whose word to a device counts while this one is under way.
    #[must_use]
    pub fn speaks_for(&self) -> RangeInclusive<u64> {
        let own = self.plan.id().number;
        self.given_up_from.unwrap_or(own)..=own
    }
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RolloutState {
    /// It goes on by itself.
    Running,
    /// It tells nobody, for this reason.
    Halted {
        /// Why.
        reason: String,
    },
    /// The new release is wanted of every device.
    Finished {
        /// Since when.
        at: UnixTime,
    },
    /// The former release is wanted again, and devices leave the new one.
    RollingBack {
        /// What the new release becomes once no device runs it.
        then: Option<ReleaseState>,
    },
    /// No device runs the new release any more.
    RolledBack {
        /// Since when.
        at: UnixTime,
    },
}

impl RolloutState {
    /// Every state as commands show it.
    pub const NAMES: [&str; 5] = ["running", "halted", "finished", "rolling-back", "rolled-back"];

    /// The state as commands show it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Halted { .. } => "halted",
            Self::Finished { .. } => "finished",
            Self::RollingBack { .. } => "rolling-back",
            Self::RolledBack { .. } => "rolled-back",
        }
    }

    /// Whether nothing is left to be done.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::RolledBack { .. })
    }
}

impl Record for Rollout {
    const VERSION: u32 = 1;
    const KIND: &'static str = "rollout";
}

/// What a device was told last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TellRecord {
    /// Number of the rollout that told it.
    pub rollout: u64,
    /// The release that became wanted of it.
    pub release: ReleaseId,
    /// When, and what was known of it then.
    pub told: Told,
    /// The release of the product that it proved then. Not known of older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran: Option<ReleaseId>,
    /// What it depended on then: a device that says something else while it updates is still kept apart from those.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub depends_on: BTreeSet<String>,
    /// Until then it is given to prove the release. Not known of older records.
    #[serde(default)]
    pub until: UnixTime,
}

impl Record for TellRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "what a device was told";
}

/// One result of a health command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// When the attestation came that stated it.
    pub at: UnixTime,
    /// The exit code, if there was one.
    pub exit_code: Option<u8>,
}

impl HealthResult {
    /// Whether all was well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.exit_code == Some(0)
    }
}

/// What a device's health command said last. There is no record where the last attestation stated no health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// At most [`MAX_RESULTS`], oldest first.
    pub results: Vec<HealthResult>,
}

impl Record for HealthRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "health";
}

impl HealthRecord {
    /// Adds a result in place of the oldest.
    pub fn push(&mut self, result: HealthResult) {
        self.results.push(result);
        let more = self.results.len().saturating_sub(MAX_RESULTS);
        self.results.drain(..more);
    }

    /// What it says now.
    #[must_use]
    pub fn health(&self) -> Health {
        let failed = self.results.iter().rev().take_while(|result| !result.is_well()).count();
        match (self.results.is_empty(), failed) {
            (true, _) => Health::None,
            (false, 0) => Health::Ok,
            (false, failed) => Health::Failing { in_a_row: u32::try_from(failed).unwrap_or(u32::MAX) },
        }
    }

    /// What a device is compared with that is told to update now. One that fails at this moment, or every second
    /// time, failed before.
    #[must_use]
    pub fn baseline(&self) -> Baseline {
        let failed = self.results.iter().filter(|result| !result.is_well()).count();
        match self.health() {
            Health::None => Baseline::None,
            Health::Ok if failed.saturating_mul(2) < self.results.len() => Baseline::Ok,
            Health::Ok | Health::Failing { .. } => Baseline::Failing,
        }
    }
}

/// Key of a product's last rollout.
#[must_use]
pub fn rollout_key(product: &ProductName) -> String {
    format!("{ROLLOUT}{product}")
}

/// Prefix of what devices were told of a product.
#[must_use]
pub fn told_prefix(product: &ProductName) -> String {
    format!("{TOLD}{product}/")
}

/// Key of what a device was told of a product.
#[must_use]
pub fn told_key(product: &ProductName, device: &DeviceName) -> String {
    format!("{TOLD}{product}/{device}")
}

/// Key of what a device's health command said.
#[must_use]
pub fn health_key(device: &DeviceName) -> String {
    format!("{HEALTH}{device}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(codes: &[u8]) -> HealthRecord {
        let mut record = HealthRecord::default();
        codes.iter().for_each(|code| record.push(HealthResult { at: UnixTime(0), exit_code: Some(*code) }));
        record
    }

    #[test]
    fn the_last_results_make_health_and_baseline() {
        let failing = |in_a_row| Health::Failing { in_a_row };
        let of = |codes: &[u8]| (record(codes).health(), record(codes).baseline());
        assert_eq!(of(&[]), (Health::None, Baseline::None));
        assert_eq!(of(&[1, 0, 0]), (Health::Ok, Baseline::Ok));
        assert_eq!(of(&[1, 0]), (Health::Ok, Baseline::Failing), "every second time");
        assert_eq!(of(&[0, 0, 0, 7]), (failing(1), Baseline::Failing));
        assert_eq!(of(&[1; 20]), (failing(8), Baseline::Failing), "only the last are kept");
        let mut unknown = record(&[0]);
        unknown.push(HealthResult { at: UnixTime(1), exit_code: None });
        assert_eq!(unknown.health(), failing(1), "no exit code is no success");
    }
}
