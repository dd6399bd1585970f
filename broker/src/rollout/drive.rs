//! What keeps rollouts going.

use std::sync::Arc;
use std::time::Duration;

use policy::id::ProductName;
use tokio::time::sleep;

use super::all;
use super::step::step;
use crate::plant::Plant;
use crate::record::device::{ATTESTED, DEVICE, EK, INVENTORY};
use crate::record::golden::RELEASE;
use crate::record::rollout::ROLLOUT;
use crate::session::Refusal;
use crate::store::{Watch, WatchEvent};

/// How often deadlines and holds are looked at while nothing changes.
const LOOK: Duration = Duration::from_secs(10);
/// Changes that come together are looked at together: a fleet that attests must not cost a look each.
const TOGETHER: Duration = Duration::from_millis(500);
/// What a rollout rests on.
const RESTS_ON: [&str; 6] = [ROLLOUT, ATTESTED, DEVICE, EK, INVENTORY, RELEASE];

/// Steps all rollouts, for ever. Where several brokers share a store, the one that holds the lease runs this; a
/// second one would only lose races.
pub(crate) async fn drive(plant: Arc<Plant>) {
    let mut changes = plant.store.watch(plant.store.revision());
    loop {
        step_all(&plant).await;
        tokio::select! {
            () = change(&mut changes) => sleep(TOGETHER).await,
            () = sleep(LOOK) => {}
        }
    }
}

/// Steps every rollout until there is nothing to do now.
async fn step_all(plant: &Plant) {
    let rollouts = match all(plant).await {
        Ok(rollouts) => rollouts,
        Err(error) => return tracing::warn!(%error, "rollouts are looked at again soon"),
    };
    for held in rollouts {
        let id = held.record.plan.id();
        if let Err(error) = settle(plant, &id.product).await {
            tracing::warn!(%error, %id, "the rollout is looked at again soon");
        }
    }
}

/// Steps the rollout of `product` until there is nothing to do now.
pub(super) async fn settle(plant: &Plant, product: &ProductName) -> Result<(), Refusal> {
    while step(plant, product).await? {}
    Ok(())
}

/// Returns once something changed that a rollout rests on.
async fn change(changes: &mut Watch) {
    while let Some(event) = changes.next().await {
        let WatchEvent::Change(change) = event else { return };
        if change.keys.iter().any(|key| RESTS_ON.iter().any(|prefix| key.starts_with(prefix))) {
            return;
        }
    }
    // The store ended; the broker is about to.
    std::future::pending().await
}
