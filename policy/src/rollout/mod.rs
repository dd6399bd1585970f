//! A rollout: the wanted release moves through a fleet in waves, and stops by itself when devices are lost to it.
//!
//! ```text
//! Plan + Position + [Member] + now  ->  decide()  ->  [Effect]
//! ```
//!
//! [`decide`] is a pure function of what is stored and what is known of the fleet, so whoever carries out its
//! effects may be restarted at any moment, and any broker decides the same.
//!
//! Promises: a device is told once; never is one told while another that shares a dependency with it is in flight or
//! down, of whatever product that one is; the devices in flight
//! and those lost are together never more than the budget when another is told, so not even the failure of
//! everything in flight exceeds it; a halted rollout tells nobody.
//!
//! Does not promise that a device installs what it is told: its own updater does. And a device that lost trust or
//! never came back holds back those that share a dependency with it, until it is well again or leaves the fleet.

mod decide;
mod member;
mod plan;
mod wave;

pub use decide::{Effect, HaltReason, Holders, Position, decide};
pub use member::{Baseline, FAILURES_THAT_COUNT, Health, Member, Stage, Told, Trust};
pub use plan::{Budget, MAX_BUDGET, MAX_WAVES, Plan, PlanError, RolloutId};
pub use wave::{MAX_LABEL_TEXT, Wave, WaveError};
