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
use crate::record::rollout::{TellRecord, told_key};
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
    match release(plant, &device.record, attested.as_ref(), &zones).await? {
        Some(release) => told(plant, &release).await,
        None => Ok(None),
    }
}

/// The release that is wanted of `device`, whether or not it is accepted.
pub(crate) async fn release(
    plant: &Plant,
    device: &Device,
    attested: Option<&Attested>,
    zones: &Segmentation,
) -> Result<Option<ReleaseId>, Refusal> {
    // The attestor knows one: a gateway of two products is told for the first that has one.
    for product in products_of(device, attested, zones) {
        if let Some(release) = of_product(plant, &device.name, &product).await? {
            return Ok(Some(release));
        }
    }
    Ok(None)
}

/// The release of `product` that is wanted of `name`: what a rollout that is under way told it, else the product's.
async fn of_product(
    plant: &Plant,
    name: &DeviceName,
    product: &ProductName,
) -> Result<Option<ReleaseId>, Refusal> {
    if let Some(rollout) = last(plant, product).await?.filter(|held| !held.record.state.is_over()) {
        let told: Option<Held<TellRecord>> = fetch(plant.store.as_ref(), told_key(product, name)).await?;
        let number = rollout.record.plan.id().number;
        if let Some(own) = told.map(|held| held.record).filter(|told| told.rollout == number) {
            return Ok(Some(own.release));
        }
    }
    golden::wanted(plant, product).await.map_err(Refusal::internal)
}

/// As it is told; not at all once it would cost the device its trust.
async fn told(plant: &Plant, release: &ReleaseId) -> Result<Option<v1::WantedRelease>, Refusal> {
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
