//! Rollouts carried out: the wanted release moves through a product's devices as `policy::rollout` decides.
//!
//! ```text
//! roster  what is known of every device, kept in memory as the store changes
//! fleet   a rollout and the roster       ->  plan and members
//! step    plan + members  ->  decide     ->  one transaction with its audit event
//! drive   steps whenever something changed, and every ten seconds
//! wanted  what is wanted of one device   ->  its attestation's answer, its Watch stream
//! ```
//!
//! Every decision is made from the store, and each step compares and rewrites the rollout's record: a restart loses
//! nothing, and of two brokers that step at once one finds the record changed. After a restore a rollout is halted:
//! what devices were told since the backup is not known.

mod drive;
pub mod fleet;
mod roster;
pub mod step;
pub mod wanted;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;

pub(crate) use self::drive::drive;
pub use self::roster::{FleetCache, Known, Roster, roster};

use policy::id::ProductName;

use crate::plant::Plant;
use crate::record::rollout::{ROLLOUT, Rollout, rollout_key};
use crate::record::{Held, RecordError, fetch, list};

/// The last rollout of each product, by product.
pub async fn all(plant: &Plant) -> Result<Vec<Held<Rollout>>, RecordError> {
    list(plant.store.as_ref(), ROLLOUT).await
}

/// The last rollout of `product`.
pub async fn last(plant: &Plant, product: &ProductName) -> Result<Option<Held<Rollout>>, RecordError> {
    fetch(plant.store.as_ref(), rollout_key(product)).await
}
