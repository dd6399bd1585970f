//! The release that is wanted of one device.

use policy::id::DeviceName;
use policy::reference::release::ReleaseId;
use policy::reference::state::Standing;
use proto::v1;

use super::fleet::product_of;
use super::last;
use crate::plant::Plant;
use crate::record::device::{Attested, Device, attested_key, device_key};
use crate::record::golden::{ReleaseRecord, release_key};
use crate::record::rollout::{Rollout, RolloutState, TellRecord, told_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::trust;

/// What `name` is told; none where nothing is wanted of it, or what was wanted is not accepted any more.
pub async fn wanted(plant: &Plant, name: &DeviceName) -> Result<Option<v1::WantedRelease>, Refusal> {
    let store = plant.store.as_ref();
    let device: Option<Held<Device>> = fetch(store, device_key(name)).await?;
    let Some(device) = device else { return Ok(None) };
    let attested: Option<Held<Attested>> = fetch(store, attested_key(name)).await?;
    let attested = attested.map(|held| held.record);
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let Some(product) = product_of(&device.record, attested.as_ref(), &zones) else { return Ok(None) };
    let Some(rollout) = last(plant, &product).await? else { return Ok(None) };
    let told: Option<Held<TellRecord>> = fetch(store, told_key(&product, name)).await?;
    let Some(release) = of(&rollout.record, told.map(|held| held.record)) else { return Ok(None) };
    let key = release_key(&release.product, release.version.as_str());
    let known: Option<Held<ReleaseRecord>> = fetch(store, key).await?;
    let accepted = known
        .map(|held| held.record)
        .filter(|known| matches!(known.state.standing(plant.now()), Standing::Accepted { .. }));
    Ok(accepted.map(|known| v1::WantedRelease {
        product: known.product.to_string(),
        version: known.version,
        manifest_digest: known.manifest.0.to_vec(),
    }))
}

/// The release that `rollout` wants of a device that was told this last.
fn of(rollout: &Rollout, told: Option<TellRecord>) -> Option<ReleaseId> {
    let own = told.filter(|told| told.rollout == rollout.plan.id().number).map(|told| told.release);
    match rollout.state {
        RolloutState::Running | RolloutState::Halted { .. } | RolloutState::RollingBack { .. } => {
            own.or_else(|| rollout.wanted_of_others().cloned())
        }
        RolloutState::Finished { .. } | RolloutState::RolledBack { .. } => {
            rollout.wanted_of_others().cloned()
        }
    }
}
