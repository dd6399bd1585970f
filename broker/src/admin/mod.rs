//! What administrators see and change.
//!
//! ```text
//! authorize  ->  Actor (who, and the one act they were allowed)
//! reach      ->  Reach (the zones that the act touches are theirs)
//! each act   ->  reads, decides, one transaction that compares what was read, with the Deed that is audited
//! ```
//!
//! Every change takes the [`Actor`] that only [`actor::authorize`] makes, and commits with a [`reach::Deed`], which
//! only [`Actor::reach`] leads to. Where two people are needed it waits there ([`second`]). A change that lost a
//! race is decided anew a few times. Nothing here signs a certificate for a device.

pub mod actor;
pub mod audit;
pub mod authority;
pub mod backup;
mod bounds;
pub mod calendar;
mod change;
pub mod conduit;
pub mod device;
pub mod enforcement;
pub mod exposure;
pub mod golden;
pub mod graph;
mod leftover;
pub mod outlook;
pub mod overriding;
pub mod people;
pub mod reach;
mod records;
pub mod rollout;
pub mod sbom;
pub mod second;
mod sight;
pub(crate) mod staging;
pub(crate) mod stand;
pub mod status;
pub mod token;
pub mod zone;

pub use self::actor::{Act, Actor, authorize};
pub use self::change::Seen;

#[cfg(test)]
pub(crate) mod tests;
