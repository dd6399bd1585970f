//! What the daemon's tasks do by themselves.

use std::sync::Arc;

use crate::config::Backend;
use crate::leader::Task;
use crate::plant::Plant;
use crate::session::Refusal;
use crate::{edges, moving, rollout, rotation, silence, sweep, trust, withdrawal};

/// What one broker of the plant does at a time.
pub(crate) fn of_the_leader(plant: &Arc<Plant>) -> Vec<Task> {
    vec![
        Box::pin(edges::tell(Arc::clone(plant))),
        Box::pin(sweep::every_day(Arc::clone(plant))),
        Box::pin(withdrawal::follow(Arc::clone(plant))),
        Box::pin(rollout::drive(Arc::clone(plant))),
        Box::pin(rotation::follow(Arc::clone(plant))),
        Box::pin(moving::follow(Arc::clone(plant))),
        Box::pin(silence::follow(Arc::clone(plant))),
    ]
}

/// Tells the other brokers what the leader needs to know of this one, if there may be others.
pub(crate) async fn tell_others(plant: Arc<Plant>, broker: String) {
    match plant.config.store {
        Backend::Sled => {}
        Backend::Etcd(_) => silence::tell(plant, broker).await,
    }
}

/// For whoever has a time of its own: once and at once, finishes withdrawals, takes the steps of authorities and of moves
/// that are due, and makes the next trust sets.
pub async fn once(plant: &Plant) -> Result<(), Refusal> {
    withdrawal::finish(plant).await?;
    rotation::turn(plant).await?;
    moving::turn(plant).await?;
    trust::keep_up(plant).await;
    Ok(())
}
