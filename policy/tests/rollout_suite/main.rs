//! Rollouts: what each device's state means, what is done next, and what holds whatever devices do.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step of a test is its failure"
)]

mod fleet;
mod properties;
mod stages;
mod steps;
mod waves;
