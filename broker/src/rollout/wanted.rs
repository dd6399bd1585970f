//! The release that is wanted of one device.

use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseId;
use policy::zone::Segmentation;
use proto::v1;

use super::fleet::products_of;
use super::last;
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{Attested, Device, attested_key, device_key};
use crate::record::golden::{ReleaseRecord, release_key};
use crate::record::rollout::{Rollout, TellRecord, told_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::trust;

/// What `name` is told; none where nothing is wanted of it, or what was wanted is not accepted any more.
pub async fn wanted(plant: &Plant, name: &DeviceName) -> Result<Option<v1::WantedRelease>, Refusal> {
    let store = plant.store.as_ref();
    let device: Option<Held<Device>> = fetch(store, device_key(name)).await?;
    let Some(device) = device.map(|held| held.record) else { return Ok(None) };
    let attested: Option<Held<Attested>> = fetch(store, attested_key(name)).await?;
    let running = attested.map(|held| held.record.running()).unwrap_or_default();
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    match release(plant, &device, &running, &zones).await? {
        Some(release) => as_told(plant, &release).await,
        None => Ok(None),
    }
}

/// The release that is wanted of `device`, which proved to run `running`, whether or not it is accepted.
pub(crate) async fn release(
    plant: &Plant,
    device: &Device,
    running: &[ReleaseId],
    zones: &Segmentation,
) -> Result<Option<ReleaseId>, Refusal> {
    let products = products_of(running, &device.zones, zones);
    // A device that proves nothing, where several products are accepted, is of the one that it was told of.
    let guess = running.is_empty() && products.len() > 1;
    let mut all = Vec::new();
    for product in products {
        let key = told_key(&product, &device.name);
        let told: Option<Held<TellRecord>> = fetch(plant.store.as_ref(), key).await?;
        if guess && told.is_none() {
            continue;
        }
        all.extend(of_product(plant, &product, told.map(|held| held.record), running).await?);
    }
    // The attestor knows one: a gateway of two products is told first of the one that it does not run yet.
    let next = all.iter().find(|release| !running.contains(release)).or_else(|| all.first());
    Ok(next.cloned())
}

/// The release of `product` that is wanted: what a rollout that is under way told the device, else the product's.
async fn of_product(
    plant: &Plant,
    product: &ProductName,
    told: Option<TellRecord>,
    running: &[ReleaseId],
) -> Result<Option<ReleaseId>, Refusal> {
    if let Some(held) = last(plant, product).await?.filter(|held| !held.record.state.is_over())
        && let Some(release) = under_way(&held.record, told, running)
    {
        return Ok(Some(release));
    }
    golden::wanted(plant, product).await.map_err(Refusal::internal)
}

/// What a rollout that is under way wants of a device; none if it has said nothing of it yet.
fn under_way(rollout: &Rollout, told: Option<TellRecord>, running: &[ReleaseId]) -> Option<ReleaseId> {
    if let Some(told) = told.filter(|told| rollout.speaks_for().contains(&told.rollout)) {
        return Some(told.release);
    }
    // Whoever runs the new release goes back only when it is told to, one after the other.
    running.contains(rollout.plan.to()).then(|| rollout.plan.to().clone())
}

/// As it is told; not at all once it would cost the device its trust.
async fn as_told(plant: &Plant, release: &ReleaseId) -> Result<Option<v1::WantedRelease>, Refusal> {
    let store = plant.store.as_ref();
    let key = release_key(&release.product, release.version.as_str());
    let known: Option<Held<ReleaseRecord>> = fetch(store, key).await?;
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let accepted = known.map(|held| held.record).filter(|_| golden.accepts(release, plant.now()));
    Ok(accepted.map(|known| v1::WantedRelease {
        product: known.product.to_string(),
        version: known.version,
        manifest_digest: known.manifest.0.to_vec(),
    }))
}
