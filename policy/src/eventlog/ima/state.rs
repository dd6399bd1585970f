//! How far the list of a boot was verified, so that the next evidence sends only what is new (checklist
//! row 27).
//!
//! A state is kept by whoever verifies and is worth what his store is worth: one that was read back is
//! taken as it was written. It is bound to resetCount and restartCount, so that a boot or a wake-up begins
//! with the whole list again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::replay::Running;
use crate::reference::hash_text::HashText;
use crate::reference::release::ReleaseId;
use crate::tpm::alg::HashAlg;
use crate::tpm::clock::ClockInfo;
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// A verified position in the list of a boot. Only a verified list yields one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ImaState {
    pub(super) boot: Boot,
    pub(super) position: u64,
    pub(super) running: Running,
    approved: BTreeSet<ReleaseId>,
}

/// What tells one boot from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// TPM Resets since the last Clear.
    pub reset_count: u32,
    /// TPM Restarts and Resumes since the last Reset.
    pub restart_count: u32,
}

impl From<ClockInfo> for Boot {
    fn from(clock: ClockInfo) -> Self {
        Self { reset_count: clock.reset_count, restart_count: clock.restart_count }
    }
}

impl ImaState {
    pub(super) const fn new(boot: Boot, position: u64, running: Running) -> Self {
        Self { boot, position, running, approved: BTreeSet::new() }
    }

    pub(super) fn with_approved(mut self, releases: &BTreeSet<ReleaseId>) -> Self {
        self.approved.clone_from(releases);
        self
    }

    /// How many records of the boot were verified: the place from which the next list may begin.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The boot that it belongs to.
    #[must_use]
    pub const fn boot(&self) -> Boot {
        self.boot
    }

    /// The quoted values up to which the list was verified, of each PCR that it extends.
    #[must_use]
    pub fn values(&self) -> PcrValues {
        let mut values = PcrValues::new(self.running.bank());
        for (pcr, value) in self.running.values() {
            values.set(*pcr, *value);
        }
        values
    }

    /// The releases that approve every record so far.
    #[must_use]
    pub const fn approved(&self) -> &BTreeSet<ReleaseId> {
        &self.approved
    }

    /// The same position, approved by what approves either; `None` if they are of different positions. Each
    /// zone of a device appraises by itself.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Option<Self> {
        let same =
            self.boot == other.boot && self.position == other.position && self.running == other.running;
        let approved = self.approved.union(&other.approved).cloned().collect();
        same.then(|| self.clone().approved_by(approved))
    }

    /// The same position, approved by these releases. Only an appraisal says so.
    pub(crate) fn approved_by(mut self, releases: BTreeSet<ReleaseId>) -> Self {
        self.approved = releases;
        self
    }
}

/// The stored form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    boot: Boot,
    position: u64,
    bank: String,
    pcrs: BTreeMap<u8, HashText>,
    approved: BTreeSet<ReleaseId>,
}

impl From<ImaState> for Stored {
    fn from(state: ImaState) -> Self {
        let pcrs = state.running.values().iter().map(|(pcr, value)| (pcr.number(), HashText(*value)));
        Self {
            boot: state.boot,
            position: state.position,
            bank: state.running.bank().name().to_owned(),
            pcrs: pcrs.collect(),
            approved: state.approved,
        }
    }
}

impl TryFrom<Stored> for ImaState {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let bank: HashAlg = stored.bank.parse().map_err(|error| format!("{error}"))?;
        let value = |(pcr, HashText(value)): (u8, HashText)| {
            let pcr = PcrIndex::new(u32::from(pcr)).filter(|_| value.alg() == bank);
            pcr.map(|pcr| (pcr, value)).ok_or_else(|| format!("{value} is the value of no {bank} PCR"))
        };
        let values = stored.pcrs.into_iter().map(value).collect::<Result<_, _>>()?;
        let running = Running::with(bank, values);
        Ok(Self { boot: stored.boot, position: stored.position, running, approved: stored.approved })
    }
}
