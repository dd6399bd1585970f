//! What the daemon's tasks do by themselves, once and at once: for whoever has a time of its own.

use crate::plant::Plant;
use crate::session::Refusal;
use crate::{moving, rotation, trust, withdrawal};

/// Finishes withdrawals, takes the steps of authorities and of moves that are due, and makes the next trust sets.
pub async fn once(plant: &Plant) -> Result<(), Refusal> {
    withdrawal::finish(plant).await?;
    rotation::turn(plant).await?;
    moving::turn(plant).await?;
    trust::keep_up(plant).await;
    Ok(())
}
