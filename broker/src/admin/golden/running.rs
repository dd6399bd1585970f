//! Which devices run a release, by their last quote.

use std::collections::{BTreeMap, BTreeSet};

use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseId;

use crate::admin::device::view::Seen;
use crate::admin::reach::Scope;
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{ATTESTED, Attested, Device, device_key};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::trust;

/// How many devices run each release.
pub async fn counts(plant: &Plant) -> Result<BTreeMap<ReleaseId, usize>, Refusal> {
    let all: Vec<Held<Attested>> = list(plant.store.as_ref(), ATTESTED).await?;
    let mut counts = BTreeMap::new();
    for release in all.iter().flat_map(|held| held.record.running()) {
        let count: &mut usize = counts.entry(release).or_default();
        *count = count.saturating_add(1);
    }
    Ok(counts)
}

/// The devices in sight that run `release`, by name.
pub(super) async fn devices(
    plant: &Plant,
    scope: &Scope,
    release: &ReleaseId,
) -> Result<Vec<DeviceName>, Refusal> {
    let all: Vec<Held<Attested>> = list(plant.store.as_ref(), ATTESTED).await?;
    let runs = all.iter().filter(|held| held.record.running().contains(release));
    let names = runs.filter_map(|held| held.key.strip_prefix(ATTESTED)?.parse::<DeviceName>().ok());
    let mut seen = Vec::new();
    for name in names {
        let device: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(&name)).await?;
        if device.is_some_and(|held| scope.sees(&held.record.zones)) {
            seen.push(name);
        }
    }
    Ok(seen)
}

/// What is wanted of a device, what keeps its trust, and what it runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Releases {
    /// It is told to install these.
    pub wanted: Vec<ReleaseId>,
    /// These keep its trust.
    pub accepted: Vec<ReleaseId>,
    /// Its last quote proved these.
    pub running: Vec<ReleaseId>,
}

/// The releases of the products of a device's zones.
pub async fn of_device(plant: &Plant, seen: &Seen) -> Result<Releases, Refusal> {
    let Seen::Device(view) = seen else { return Ok(Releases::default()) };
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let zones = view.device.zones.iter().filter_map(|name| zones.zone(name));
    let products: BTreeSet<&ProductName> = zones.flat_map(|zone| &zone.products).collect();
    let (mut wanted, now) = (Vec::new(), plant.now());
    for product in &products {
        wanted.extend(golden::wanted(plant, product).await.map_err(Refusal::internal)?);
    }
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let of_products = golden.values.iter().map(|release| release.signed().id());
    let accepted = of_products.filter(|id| products.contains(&id.product) && golden.accepts(id, now));
    let accepted = accepted.cloned().collect();
    let running = view.attested.as_ref().map(Attested::running).unwrap_or_default();
    Ok(Releases { wanted, accepted, running })
}
