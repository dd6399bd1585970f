//! The release that is wanted of one device.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseId;
use policy::zone::Segmentation;
use proto::v1;

use super::fleet::products_of;
use super::last;
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{Attested, Device, attested_key, device_key};
use crate::record::golden::{ReleaseRecord, WANTED, WantedRelease, release_key};
use crate::record::rollout::{Rollout, TOLD, TellRecord, told_key};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::trust;

/// What `name` is told; none where nothing is wanted of it, or what was wanted is not accepted any more.
pub async fn wanted(plant: &Plant, name: &DeviceName) -> Result<Option<v1::WantedRelease>, Refusal> {
    let store = plant.store.as_ref();
    let device: Option<Held<Device>> = fetch(store, device_key(name)).await?;
    let Some(device) = device.map(|held| held.record) else { return Ok(None) };
    let attested: Option<Held<Attested>> = fetch(store, attested_key(name)).await?;
    let running = attested.map(|held| held.record.running()).unwrap_or_default();
    wanted_of(plant, &device, &running).await
}

/// What `device`, which proved to run `running`, is told.
pub async fn wanted_of(
    plant: &Plant,
    device: &Device,
    running: &[ReleaseId],
) -> Result<Option<v1::WantedRelease>, Refusal> {
    let view = trust::view(plant).await.map_err(Refusal::internal)?;
    let wishes = Wishes::of(plant, device, products_of(running, &device.zones, view.zones())).await?;
    match wishes.release(device, running, view.zones()) {
        Some(release) => as_told(plant, &release).await,
        None => Ok(None),
    }
}

/// What is wanted of devices.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Rollouts that are under way.
    rollouts: BTreeMap<ProductName, Rollout>,
    /// The release that is wanted of a product, while it is accepted.
    wanted: BTreeMap<ProductName, ReleaseId>,
    /// What devices were told last: the rollout's number and the release, by the key of the record.
    told: HashMap<String, (u64, ReleaseId)>,
}

impl Wishes {
    /// Of the products that one device may be of.
    async fn of(plant: &Plant, device: &Device, products: BTreeSet<ProductName>) -> Result<Self, Refusal> {
        let mut wishes = Self::default();
        for product in products {
            let key = told_key(&product, &device.name);
            wishes.tell(fetch(plant.store.as_ref(), key).await?);
            wishes.roll(last(plant, &product).await?);
            let wanted = golden::wanted(plant, &product).await.map_err(Refusal::internal)?;
            wishes.wanted.extend(wanted.map(|release| (product, release)));
        }
        Ok(wishes)
    }

    /// Of the whole fleet.
    pub(crate) async fn all(plant: &Plant) -> Result<Self, Refusal> {
        let (store, mut wishes) = (plant.store.as_ref(), Self::default());
        list(store, TOLD).await?.into_iter().for_each(|held| wishes.tell(Some(held)));
        super::all(plant).await?.into_iter().for_each(|held| wishes.roll(Some(held)));
        for held in list::<WantedRelease>(store, WANTED).await? {
            let product = held.record.release.product;
            let wanted = golden::wanted(plant, &product).await.map_err(Refusal::internal)?;
            wishes.wanted.extend(wanted.map(|release| (product, release)));
        }
        Ok(wishes)
    }

    fn tell(&mut self, told: Option<Held<TellRecord>>) {
        self.told.extend(told.map(|held| (held.key, (held.record.rollout, held.record.release))));
    }

    fn roll(&mut self, rollout: Option<Held<Rollout>>) {
        let rollout = rollout.map(|held| held.record).filter(|rollout| !rollout.state.is_over());
        self.rollouts.extend(rollout.map(|rollout| (rollout.plan.id().product.clone(), rollout)));
    }

    /// The release that is wanted of `device`, which proved to run `running`, whether or not it is accepted.
    pub(crate) fn release(
        &self,
        device: &Device,
        running: &[ReleaseId],
        zones: &Segmentation,
    ) -> Option<ReleaseId> {
        let products = products_of(running, &device.zones, zones);
        // A device that proves nothing, where several products are accepted, is of the one that it was told of.
        let guess = running.is_empty() && products.len() > 1;
        let of_product = |product| {
            let told = self.told.get(&told_key(product, &device.name));
            if guess && told.is_none() {
                return None;
            }
            let under_way = self.rollouts.get(product).and_then(|rollout| under_way(rollout, told, running));
            under_way.or_else(|| self.wanted.get(product).cloned())
        };
        let all: Vec<ReleaseId> = products.iter().filter_map(of_product).collect();
        // The attestor knows one: a gateway of two products is told first of the one that it does not run yet.
        all.iter().find(|release| !running.contains(release)).or_else(|| all.first()).cloned()
    }
}

/// What a rollout that is under way wants of a device; none if it has said nothing of it yet.
fn under_way(rollout: &Rollout, told: Option<&(u64, ReleaseId)>, running: &[ReleaseId]) -> Option<ReleaseId> {
    if let Some((_, release)) = told.filter(|(number, _)| rollout.speaks_for().contains(number)) {
        return Some(release.clone());
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
