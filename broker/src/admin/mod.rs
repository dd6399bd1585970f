//! What administrators see and change.
//!
//! ```text
//! authorize  ->  Actor (who, and the one act they were allowed)
//! each act   ->  reads, decides, one transaction that compares what was read and audits the act
//! ```
//!
//! Every change takes the [`Actor`] that only [`actor::authorize`] makes. A change that lost a race is
//! decided anew a few times. Nothing here signs a certificate for a device.

pub mod actor;
pub mod audit;
pub mod backup;
mod bounds;
mod change;
pub mod conduit;
pub mod device;
pub mod golden;
pub mod status;
pub mod token;
pub mod zone;

pub use self::actor::{Act, Actor, authorize};
pub use self::change::Seen;

#[cfg(test)]
pub(crate) mod tests;
