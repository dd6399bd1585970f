//! What happens to the plant, and when.

use serde::{Deserialize, Serialize};

use crate::disk::Moment;
use crate::plant::NAMES;
use crate::rng::Rng;

/// Milliseconds of a second.
pub const SECOND: u64 = 1_000;
/// When the first thing happens: all devices have enrolled by then, if nobody hinders them.
const FIRST: u64 = 30 * SECOND;
/// When nothing happens any more: every fault ends.
pub const CALM: u64 = 1_500 * SECOND;
/// How long a device that is good may be without a certificate once every fault that befell it has ended: a wait after a failure lasts
/// as long as the time between two proofs at most (300 s), it may need two of them, and calls may hang in between.
pub const LOCKED_OUT: u64 = 720 * SECOND;
/// The end of a run.
pub const END: u64 = CALM + LOCKED_OUT;
/// Things that happen in a run, at most.
const MOST: u64 = 14;

/// What a machine boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// Release 1.0.
    First,
    /// Release 2.0, which may be withdrawn.
    Second,
    /// What no release allows.
    Tampered,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// A device is without power for so many seconds, and boots the same again.
    PowerCut { device: usize, seconds: u64 },
    /// A device boots this.
    Boot { device: usize, boot: Boot },
    /// The TPM of a device is cleared, and it boots again.
    ClearTpm { device: usize },
    /// An administrator stops a device.
    Quarantine { device: usize },
    /// An administrator takes it back.
    Readmit { device: usize },
    /// An administrator asks a device for proof.
    AttestNow { device: usize },
    /// An administrator opens or closes the conduit from `cell` to `press`.
    Conduit { open: bool },
    /// An administrator withdraws release 2.0.
    Withdraw,
    /// The clock of a device is wrong by so many seconds.
    Skew { device: usize, seconds: i64 },
    /// The broker stops at an operation of its store, and is started again after so many seconds.
    Crash { operations: u32, moment: Moment, seconds: u64 },
    /// A device and the broker do not hear each other for so many seconds.
    Partition { device: usize, seconds: u64 },
    /// Of a hundred messages so many are lost, come twice, or come late, for so many seconds.
    Storm { lost: u64, twice: u64, late: u64, seconds: u64 },
}

/// When something happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// Milliseconds after the beginning.
    pub at: u64,
    /// What.
    pub action: Action,
}

/// A run, before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Decides about everything that the actions do not.
    pub seed: u64,
    /// What happens, in order.
    pub actions: Vec<Planned>,
}

impl Plan {
    /// The plan that belongs to a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x706c_616e);
        let count = 3 + rng.below(MOST - 2);
        let mut actions: Vec<Planned> = (0..count)
            .map(|_| Planned { at: FIRST + rng.below(CALM - FIRST - 300 * SECOND), action: action(&mut rng) })
            .collect();
        actions.sort_by_key(|planned| planned.at);
        Self { seed, actions }
    }
}

fn action(rng: &mut Rng) -> Action {
    let device = rng.below(NAMES.len() as u64) as usize;
    match rng.below(20) {
        0 | 1 => Action::PowerCut { device, seconds: rng.below(120) },
        2 => Action::Boot { device, boot: Boot::First },
        3 | 4 => Action::Boot { device, boot: Boot::Second },
        5 => Action::Boot { device, boot: Boot::Tampered },
        6 => Action::ClearTpm { device },
        7 | 8 => Action::Quarantine { device },
        9 | 10 => Action::Readmit { device },
        11 => Action::AttestNow { device },
        12 => Action::Conduit { open: rng.percent(50) },
        13 => Action::Withdraw,
        14 => Action::Skew { device, seconds: rng.below(121) as i64 - 60 },
        // Ten reads go before a write, and only a write can be done and not heard of.
        15..=17 => {
            let (most, moment) = if rng.percent(50) { (200, Moment::Before) } else { (15, Moment::After) };
            Action::Crash { operations: 1 + rng.below(most) as u32, moment, seconds: 1 + rng.below(60) }
        }
        18 => Action::Partition { device, seconds: 10 + rng.below(400) },
        _ => Action::Storm {
            lost: rng.below(40),
            twice: rng.below(40),
            late: rng.below(40),
            seconds: 10 + rng.below(300),
        },
    }
}
