//! The devices of a product, as a rollout sees them.

use std::collections::{BTreeMap, BTreeSet};

use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseId;
use policy::rollout::{Health, Member, Plan, Trust};
use policy::zone::Segmentation;

use crate::admin::device::view::{State, state};
use crate::plant::Plant;
use crate::record::device::{ATTESTED, Attested, DEVICE, Device, EK, INVENTORY, Inventory, Tpm, ek_key};
use crate::record::rollout::{HEALTH, HealthRecord, TellRecord, told_prefix};
use crate::record::{Held, list};
use crate::session::Refusal;
use crate::store::record::Record;
use crate::trust;

/// Inventory value that names what a device depends on, separated by commas or blanks.
pub const DEPENDS_ON: &str = "depends_on";

/// A device with what was stored of it for rollouts.
#[derive(Debug)]
pub struct Seen {
    /// As the decision takes it; what it was told is not filled in yet.
    pub member: Member,
    /// What it was told last, by whatever rollout.
    pub told: Option<TellRecord>,
    /// Its health as it was stated.
    pub record: HealthRecord,
}

impl Seen {
    /// The member, with what the rollout of `plan` told it.
    #[must_use]
    pub fn member_of(&self, plan: &Plan) -> Member {
        let own = |told: &&TellRecord| told.rollout == plan.id().number && told.release == *plan.to();
        Member { told: self.told.as_ref().filter(own).map(|told| told.told), ..self.member.clone() }
    }

    /// Whether it runs `release`, or was told to and not told otherwise since.
    #[must_use]
    pub fn has_been_on(&self, release: &ReleaseId, rollout: u64) -> bool {
        self.member.running.as_ref() == Some(release)
            || self.told.as_ref().is_some_and(|told| told.rollout == rollout)
    }
}

/// The devices of `product` that are neither quarantined nor retired: those that prove a release of it, and those
/// that prove none and whose zones accept no other product.
pub async fn fleet(plant: &Plant, product: &ProductName) -> Result<Vec<Seen>, Refusal> {
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let tpms: BTreeMap<String, Tpm> = by_key(plant, EK, "").await?;
    let mut attested: BTreeMap<String, Attested> = by_key(plant, ATTESTED, ATTESTED).await?;
    let mut inventories: BTreeMap<String, Inventory> = by_key(plant, INVENTORY, INVENTORY).await?;
    let mut healths: BTreeMap<String, HealthRecord> = by_key(plant, HEALTH, HEALTH).await?;
    let prefix = told_prefix(product);
    let mut tells: BTreeMap<String, TellRecord> = by_key(plant, &prefix, &prefix).await?;
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let mut fleet = Vec::new();
    for device in devices.into_iter().map(|held| held.record) {
        let name = device.name.to_string();
        let Some(tpm) = tpms.get(&ek_key(&device.ek)) else { continue };
        let attested = attested.remove(&name);
        let state = state(&device, tpm, attested.as_ref(), &zones, plant.now());
        if !products_of(&device, attested.as_ref(), &zones).contains(product) || !takes_part(state) {
            continue;
        }
        let record = healths.remove(&name).unwrap_or_default();
        let inventory = inventories.remove(&name).unwrap_or_default();
        fleet.push(Seen {
            member: Member {
                health: record.health(),
                running: attested
                    .map(|attested| attested.running())
                    .unwrap_or_default()
                    .into_iter()
                    .find(|release| release.product == *product),
                ..member(device, inventory, state)
            },
            told: tells.remove(&name),
            record,
        });
    }
    Ok(fleet)
}

async fn by_key<R: Record>(plant: &Plant, prefix: &str, cut: &str) -> Result<BTreeMap<String, R>, Refusal> {
    let all: Vec<Held<R>> = list(plant.store.as_ref(), prefix).await?;
    let short = |held: Held<R>| (held.key.strip_prefix(cut).unwrap_or_default().to_owned(), held.record);
    Ok(all.into_iter().map(short).collect())
}

/// The products that a device is of: those whose release it proves, else the only one that its zones accept.
#[must_use]
pub fn products_of(
    device: &Device,
    attested: Option<&Attested>,
    zones: &Segmentation,
) -> BTreeSet<ProductName> {
    let running = attested.map(Attested::running).unwrap_or_default();
    if !running.is_empty() {
        return running.into_iter().map(|release| release.product).collect();
    }
    let known = device.zones.iter().filter_map(|name| zones.zone(name));
    let accepted: BTreeSet<ProductName> = known.flat_map(|zone| zone.products.iter().cloned()).collect();
    if accepted.len() == 1 { accepted } else { BTreeSet::new() }
}

const fn takes_part(state: State) -> bool {
    match state {
        State::Quarantined | State::Retired | State::Pending => false,
        State::Registered | State::Trusted | State::Refused | State::Silent => true,
    }
}

/// What does not depend on the product.
fn member(device: Device, inventory: Inventory, state: State) -> Member {
    let labels: BTreeMap<String, String> =
        inventory.values.into_iter().map(|(name, value)| (name, value.value)).collect();
    let named = labels.get(DEPENDS_ON).map(String::as_str).unwrap_or_default();
    let depends_on = named.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Member {
        device: device.name,
        zones: device.zones,
        labels,
        depends_on,
        trust: match state {
            State::Trusted => Trust::Trusted,
            State::Refused => Trust::Lost,
            State::Registered | State::Pending | State::Silent | State::Quarantined | State::Retired => {
                Trust::Unknown
            }
        },
        running: None,
        health: Health::None,
        told: None,
    }
}

/// The release of `product` that most devices prove, `except` left out.
#[must_use]
pub fn most_run(fleet: &[Seen], except: &ReleaseId) -> Option<ReleaseId> {
    let mut counts: BTreeMap<&ReleaseId, usize> = BTreeMap::new();
    let running = fleet.iter().filter_map(|seen| seen.member.running.as_ref());
    running.filter(|release| *release != except).for_each(|release| *counts.entry(release).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(release, _)| release.clone())
}

/// The names of `devices`, for an event.
pub(super) fn named(devices: &[DeviceName]) -> String {
    let names: Vec<&str> = devices.iter().map(DeviceName::as_str).collect();
    names.join(", ")
}
