//! What rollouts need to know of every device, read once and then kept true by what the store says was changed: a
//! step of a rollout reads no device that did not change.
//!
//! Nothing is decided here, and nothing is lost with it: it is read anew after a restart, a restore, and whenever
//! the store no longer knows one by one what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt as _;
use policy::id::{DeviceName, ProductName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use tokio::sync::{Mutex, MutexGuard};

use crate::admin::device::view::{State, standing};
use crate::plant::Plant;
use crate::record::device::{
    ATTESTED, Attested, DEVICE, Device, EK, INVENTORY, Inventory, Tpm, attested_key, device_key, ek_key,
    inventory_key,
};
use crate::record::rollout::{HEALTH, HealthRecord, TOLD, TellRecord, health_key, told_key};
use crate::record::stage::STAGE;
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::store::record::Record;
use crate::store::{Watch, WatchEvent};

/// Inventory value that names what a device depends on, separated by commas or blanks.
const DEPENDS_ON: &str = "depends_on";

/// A device, as far as rollouts ask.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its name.
    pub device: DeviceName,
    /// Its zones.
    pub zones: Arc<[ZoneName]>,
    /// Its state however long ago it was heard.
    pub state: State,
    /// When it was last heard.
    pub at: UnixTime,
    /// The releases that its last quote proves.
    pub running: Vec<ReleaseId>,
    /// Its inventory values.
    pub labels: Arc<BTreeMap<String, String>>,
    /// What it depends on.
    pub depends_on: Arc<BTreeSet<String>>,
    /// What its health command said.
    pub health: HealthRecord,
    /// What it was told last of each product.
    pub tells: BTreeMap<ProductName, TellRecord>,
}

impl Known {
    fn new(device: Device, tpm: &Tpm, attested: Option<&Attested>, inventory: Inventory) -> Self {
        let state = standing(&device, tpm, attested);
        let labels: BTreeMap<String, String> =
            inventory.values.into_iter().map(|(name, value)| (name, value.value)).collect();
        let named = labels.get(DEPENDS_ON).map(String::as_str).unwrap_or_default();
        let depends_on: BTreeSet<String> =
            named.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Self {
            device: device.name,
            zones: device.zones.into(),
            state,
            at: attested.map_or(UnixTime(0), |attested| attested.at),
            running: attested.map(Attested::running).unwrap_or_default(),
            labels: Arc::new(labels),
            depends_on: Arc::new(depends_on),
            health: HealthRecord::default(),
            tells: BTreeMap::new(),
        }
    }

    /// Whether nothing that a rollout decides on is different: to have been heard once more is no news.
    fn says_the_same_as(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.state, one.health.health(), one.health.baseline());
        of(self) == of(other)
            && (&self.zones, &self.running, &self.tells) == (&other.zones, &other.running, &other.tells)
            && (&self.labels, &self.depends_on) == (&other.labels, &other.depends_on)
    }
}

/// Every device of the plant.
#[derive(Debug, Default)]
pub struct Roster {
    devices: BTreeMap<DeviceName, Known>,
    /// What changed since they were read; none: they are to be read.
    changes: Option<Watch>,
    /// Devices and TPMs to be read again. They stay here until they were, so a reader that is cut off loses none.
    due: BTreeSet<DeviceName>,
    due_tpms: BTreeSet<String>,
    news: u64,
}

/// The roster that was read last.
#[derive(Debug, Default)]
pub struct FleetCache(Mutex<Roster>);

impl FleetCache {
    /// Forgets it: nobody asks for it now.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = Roster::default();
    }
}

/// The roster of now.
pub async fn roster(plant: &Plant) -> Result<MutexGuard<'_, Roster>, Refusal> {
    let mut roster = plant.fleet.0.lock().await;
    roster.follow();
    if roster.changes.is_none() {
        roster.read(plant).await?;
    }
    roster.read_due(plant).await?;
    Ok(roster)
}

/// What a change of a key means for the roster.
enum Concerns {
    Device(DeviceName),
    Tpm,
    Everything,
    Nothing,
}

fn concerns(key: &str) -> Concerns {
    // Records of a larger change count from the moment that its own record says so.
    if key.starts_with(STAGE) {
        return Concerns::Everything;
    }
    if key.starts_with(EK) {
        return Concerns::Tpm;
    }
    let told = || key.strip_prefix(TOLD)?.split_once('/').map(|(_, device)| device);
    let of_device = [DEVICE, ATTESTED, INVENTORY, HEALTH].iter().find_map(|prefix| key.strip_prefix(prefix));
    match of_device.or_else(told).and_then(|name| name.parse().ok()) {
        Some(name) => Concerns::Device(name),
        None => Concerns::Nothing,
    }
}

/// Whether a change of `key` may be news for a rollout.
pub(super) fn is_of_a_device(key: &str) -> bool {
    !matches!(concerns(key), Concerns::Nothing)
}

impl Roster {
    /// Every device, by name.
    pub fn devices(&self) -> impl Iterator<Item = &Known> {
        self.devices.values()
    }

    /// The device `name`.
    #[must_use]
    pub fn device(&self, name: &DeviceName) -> Option<&Known> {
        self.devices.get(name)
    }

    /// Counts changes that a rollout may decide on.
    #[must_use]
    pub const fn news(&self) -> u64 {
        self.news
    }

    /// Notes what the store says was changed.
    fn follow(&mut self) {
        while let Some(event) = self.changes.as_mut().and_then(|changes| changes.next().now_or_never()) {
            let Some(WatchEvent::Change(change)) = event else {
                self.changes = None;
                return;
            };
            for key in change.keys.iter() {
                match concerns(key) {
                    Concerns::Device(name) => drop(self.due.insert(name)),
                    Concerns::Tpm => drop(self.due_tpms.insert(key.clone())),
                    Concerns::Everything => {
                        self.changes = None;
                        return;
                    }
                    Concerns::Nothing => {}
                }
            }
        }
    }

    /// Reads every device.
    async fn read(&mut self, plant: &Plant) -> Result<(), Refusal> {
        // What changes while it is read is read again.
        let changes = plant.store.watch(plant.store.revision());
        let tpms: BTreeMap<String, Tpm> = by_key(plant, EK, "").await?;
        let attested: BTreeMap<String, Attested> = by_key(plant, ATTESTED, ATTESTED).await?;
        let mut inventories: BTreeMap<String, Inventory> = by_key(plant, INVENTORY, INVENTORY).await?;
        let mut healths: BTreeMap<String, HealthRecord> = by_key(plant, HEALTH, HEALTH).await?;
        let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
        let mut all = BTreeMap::new();
        for device in devices.into_iter().map(|held| held.record) {
            let name = device.name.to_string();
            let Some(tpm) = tpms.get(&ek_key(&device.ek)) else { continue };
            let inventory = inventories.remove(&name).unwrap_or_default();
            let mut known = Known::new(device, tpm, attested.get(&name), inventory);
            known.health = healths.remove(&name).unwrap_or_default();
            all.insert(known.device.clone(), known);
        }
        let told: BTreeMap<String, TellRecord> = by_key(plant, TOLD, TOLD).await?;
        for (key, record) in told {
            let device = key.split_once('/').and_then(|(_, device)| device.parse::<DeviceName>().ok());
            if let Some(known) = device.and_then(|device| all.get_mut(&device)) {
                known.tells.insert(record.release.product.clone(), record);
            }
        }
        let news = self.news.saturating_add(1);
        *self = Self { devices: all, changes: Some(changes), news, ..Self::default() };
        Ok(())
    }

    /// Reads again what is due.
    async fn read_due(&mut self, plant: &Plant) -> Result<(), Refusal> {
        while let Some(key) = self.due_tpms.first().cloned() {
            let tpm: Option<Held<Tpm>> = fetch(plant.store.as_ref(), key.clone()).await?;
            self.due.extend(tpm.and_then(|held| held.record.device));
            self.due_tpms.remove(&key);
        }
        while let Some(name) = self.due.first().cloned() {
            let same = match one(plant, &name).await? {
                Some(known) => {
                    let before = self.devices.insert(name.clone(), known.clone());
                    before.is_some_and(|before| before.says_the_same_as(&known))
                }
                None => self.devices.remove(&name).is_none(),
            };
            self.news = self.news.saturating_add((!same).into());
            self.due.remove(&name);
        }
        Ok(())
    }
}

async fn one(plant: &Plant, name: &DeviceName) -> Result<Option<Known>, Refusal> {
    let store = plant.store.as_ref();
    let device: Option<Held<Device>> = fetch(store, device_key(name)).await?;
    let Some(device) = device.map(|held| held.record) else { return Ok(None) };
    let tpm: Option<Held<Tpm>> = fetch(store, ek_key(&device.ek)).await?;
    let Some(tpm) = tpm.map(|held| held.record) else { return Ok(None) };
    let attested: Option<Held<Attested>> = fetch(store, attested_key(name)).await?;
    let attested = attested.map(|held| held.record);
    let inventory: Option<Held<Inventory>> = fetch(store, inventory_key(name)).await?;
    let inventory = inventory.map(|held| held.record).unwrap_or_default();
    let mut known = Known::new(device, &tpm, attested.as_ref(), inventory);
    let health: Option<Held<HealthRecord>> = fetch(store, health_key(name)).await?;
    known.health = health.map(|held| held.record).unwrap_or_default();
    for rollout in super::all(plant).await? {
        let product = rollout.record.plan.id().product.clone();
        let told: Option<Held<TellRecord>> = fetch(store, told_key(&product, name)).await?;
        known.tells.extend(told.map(|held| (product, held.record)));
    }
    Ok(Some(known))
}

async fn by_key<R: Record>(plant: &Plant, prefix: &str, cut: &str) -> Result<BTreeMap<String, R>, Refusal> {
    let all: Vec<Held<R>> = list(plant.store.as_ref(), prefix).await?;
    let short = |held: Held<R>| (held.key.strip_prefix(cut).unwrap_or_default().to_owned(), held.record);
    Ok(all.into_iter().map(short).collect())
}
