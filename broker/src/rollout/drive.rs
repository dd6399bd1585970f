//! What keeps rollouts going.

use std::sync::Arc;
use std::time::Duration;

use policy::id::ProductName;
use tokio::time::sleep;

use super::roster::is_of_a_device;
use super::step::step;
use super::{all, roster};
use crate::plant::Plant;
use crate::record::golden::RELEASE;
use crate::record::rollout::ROLLOUT;
use crate::session::Refusal;
use crate::store::{Watch, WatchEvent};

/// How often deadlines, holds and silence are looked at while nothing changes.
const LOOK: Duration = Duration::from_secs(10);
/// Changes that come together are looked at together: a fleet that attests must not cost a look each.
const TOGETHER: Duration = Duration::from_millis(500);

/// Steps all rollouts, for ever. Where several brokers share a store, the one that holds the lease runs this; a
/// second one would only lose races.
pub(crate) async fn drive(plant: Arc<Plant>) {
    let mut changes = plant.store.watch(plant.store.revision());
    loop {
        let seen = step_all(&plant).await;
        tokio::select! {
            () = news(&plant, &mut changes, seen) => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// Steps every rollout until there is nothing to do now, and says which news of the fleet it knew; none if no
/// rollout is under way.
async fn step_all(plant: &Plant) -> Option<u64> {
    let rollouts = match all(plant).await {
        Ok(rollouts) => rollouts,
        Err(error) => {
            tracing::warn!(%error, "rollouts are looked at again soon");
            return None;
        }
    };
    let under_way: Vec<_> = rollouts.into_iter().filter(|held| !held.record.state.is_over()).collect();
    if under_way.is_empty() {
        plant.fleet.forget().await;
        return None;
    }
    let seen = roster(plant).await.map_or(0, |roster| roster.news());
    for held in under_way {
        let id = held.record.plan.id();
        if let Err(error) = settle(plant, &id.product).await {
            tracing::warn!(%error, %id, "the rollout is looked at again soon");
        }
    }
    Some(seen)
}

/// Steps the rollout of `product` until there is nothing to do now.
pub(super) async fn settle(plant: &Plant, product: &ProductName) -> Result<(), Refusal> {
    while step(plant, product).await? {}
    Ok(())
}

/// Returns once something changed that a rollout rests on, and was not known when the fleet had the news `seen`.
async fn news(plant: &Plant, changes: &mut Watch, seen: Option<u64>) {
    while let Some(event) = changes.next().await {
        let WatchEvent::Change(change) = event else { return };
        let begins = |prefix: &str| change.keys.iter().any(|key| key.starts_with(prefix));
        if begins(ROLLOUT) || begins(RELEASE) {
            return sleep(TOGETHER).await;
        }
        let Some(seen) = seen.filter(|_| change.keys.iter().any(|key| is_of_a_device(key))) else { continue };
        sleep(TOGETHER).await;
        // Most attestations say what the one before said.
        if roster(plant).await.is_ok_and(|roster| roster.news() != seen) {
            return;
        }
    }
    // The store ended; the broker is about to.
    std::future::pending().await
}
