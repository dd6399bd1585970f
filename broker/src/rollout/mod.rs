//! Rollouts carried out: the wanted release moves through a product's devices as `policy::rollout` decides.
//!
//! ```text
//! fleet   what is stored of devices      ->  members
//! step    record + members  ->  decide   ->  one transaction with its audit event
//! drive   steps whenever something changed, and every half minute
//! wanted  what is wanted of one device   ->  its attestation's answer, its Watch stream
//! ```
//!
//! Every decision is made from the store, and each step compares and rewrites the rollout's record: a restart loses
//! nothing, and of two brokers that step at once one finds the record changed.

mod drive;
pub mod fleet;
pub mod step;
pub mod wanted;

#[cfg(test)]
mod tests;

pub(crate) use self::drive::drive;

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
