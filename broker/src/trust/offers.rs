//! What devices offer in which zones: kept in memory, and true by what the store says was changed. A trust head that
//! moves costs no look at a fleet in which nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt as _;
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::zone::Placement;

use crate::plant::Plant;
use crate::record::device::{Admission, DEVICE, Device, device_key};
use crate::record::stage::STAGE;
use crate::record::{Held, RecordError, fetch, list};
use crate::store::{Revision, Watch, WatchEvent};

/// The services that any device of a zone offers, by zone.
pub(crate) type ZoneOffers = BTreeMap<ZoneName, BTreeSet<ServiceName>>;

/// What a device offers, and where. Devices with the same offer have the same trust files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offer {
    pub(crate) zones: Vec<ZoneName>,
    pub(crate) services: BTreeSet<ServiceName>,
}

impl Offer {
    /// That of `device`.
    pub(crate) fn of(device: &Device) -> Self {
        let services = device.services.keys().filter_map(|name| name.parse().ok()).collect();
        Self { zones: device.zones.clone(), services }
    }

    /// Where a device with this offer stands in `zone`.
    pub(crate) fn placement(&self, zone: &ZoneName, offers: &ZoneOffers) -> Placement {
        Placement {
            zone: zone.clone(),
            offers: self.services.clone(),
            zone_offers: offers.get(zone).cloned().unwrap_or_default(),
        }
    }
}

/// The offer of a device, if it counts: one that was retired offers nothing any more.
fn counted(device: &Device) -> Option<Offer> {
    (device.admission == Admission::Admitted).then(|| Offer::of(device))
}

/// The offer of every device.
#[derive(Debug, Default)]
pub(super) struct Offers {
    devices: BTreeMap<DeviceName, Arc<Offer>>,
    /// Every offer, and how many devices have it.
    kinds: BTreeMap<Arc<Offer>, usize>,
    /// What changed since they were read; none: they are to be read.
    changes: Option<Watch>,
    /// Every change up to this one is known, or due.
    seen: Revision,
    /// Devices to be read again. They stay here until they were, so a reader that is cut off loses none.
    due: BTreeSet<DeviceName>,
}

impl Offers {
    /// Every device with its offer, by name.
    pub(super) fn devices(&self) -> Vec<(DeviceName, Arc<Offer>)> {
        self.devices.iter().map(|(name, offer)| (name.clone(), Arc::clone(offer))).collect()
    }

    /// What is offered in each zone.
    pub(super) fn by_zone(&self) -> ZoneOffers {
        let mut offers = ZoneOffers::new();
        for kind in self.kinds.keys() {
            for zone in &kind.zones {
                offers.entry(zone.clone()).or_default().extend(kind.services.iter().cloned());
            }
        }
        offers
    }

    /// Brings them up to date: with every change that has been told, and with all up to `until`, which a reader of
    /// the store may see before it is told.
    pub(super) async fn follow(&mut self, plant: &Plant, until: Revision) -> Result<(), RecordError> {
        loop {
            self.take_told();
            let Some(changes) = &mut self.changes else { return self.read(plant, until).await };
            if self.seen >= until {
                return self.read_due(plant).await;
            }
            let next = changes.next().await;
            self.note(next);
        }
    }

    /// Takes in what has been told. What can only be read as a whole is left to who needs it.
    pub(super) async fn keep_up(&mut self, plant: &Plant) -> Result<(), RecordError> {
        self.take_told();
        if self.changes.is_some() { self.read_due(plant).await } else { Ok(()) }
    }

    fn take_told(&mut self) {
        while let Some(told) = self.changes.as_mut().and_then(|changes| changes.next().now_or_never()) {
            self.note(told);
        }
    }

    fn note(&mut self, told: Option<WatchEvent>) {
        match told {
            // Records of a larger change count from the moment that its own record says so.
            Some(WatchEvent::Change(change)) if !change.keys.iter().any(|key| key.starts_with(STAGE)) => {
                let named = change.keys.iter().filter_map(|key| key.strip_prefix(DEVICE)?.parse().ok());
                self.due.extend(named);
                self.seen = self.seen.max(change.revision);
            }
            _ => self.changes = None,
        }
    }

    async fn read_due(&mut self, plant: &Plant) -> Result<(), RecordError> {
        while let Some(name) = self.due.first().cloned() {
            let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(&name)).await?;
            self.set(name.clone(), held.and_then(|held| counted(&held.record)));
            self.due.remove(&name);
        }
        Ok(())
    }

    /// Reads every device. What is read then is at least as new as `until`, which was read before.
    async fn read(&mut self, plant: &Plant, until: Revision) -> Result<(), RecordError> {
        // What changes while it is read is read again.
        let begun = plant.store.revision();
        let changes = plant.store.watch(begun);
        let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
        *self = Self { changes: Some(changes), seen: until.max(begun), ..Self::default() };
        for device in devices.into_iter().map(|held| held.record) {
            self.set(device.name.clone(), counted(&device));
        }
        Ok(())
    }

    fn set(&mut self, name: DeviceName, offer: Option<Offer>) {
        let offer = offer.map(Arc::new);
        if self.devices.get(&name) == offer.as_ref() {
            return;
        }
        let before = match offer {
            Some(offer) => {
                let shared = self.kinds.get_key_value(&offer).map_or(offer, |(known, _)| Arc::clone(known));
                *self.kinds.entry(Arc::clone(&shared)).or_default() += 1;
                self.devices.insert(name, shared)
            }
            None => self.devices.remove(&name),
        };
        let Some(before) = before else { return };
        if let Some(count) = self.kinds.get_mut(&before) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.kinds.remove(&before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Bench, observing};
    use crate::record::stored;
    use crate::store::Txn;

    async fn offer(bench: &Bench, name: &DeviceName, services: &[&str]) {
        let mut device: Device = bench.read(device_key(name)).await;
        device.services = services.iter().map(|service| ((*service).to_owned(), 4840)).collect();
        let txn = Txn::new().put(device_key(name), stored(&device).unwrap());
        bench.plant.store.transact(txn).await.unwrap();
    }

    fn named(offers: &Offers) -> Vec<String> {
        let services =
            |offer: &Offer| offer.services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(",");
        offers.devices().iter().map(|(name, offer)| format!("{name}: {}", services(offer))).collect()
    }

    #[tokio::test]
    async fn they_are_what_the_store_holds_after_every_change() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let (one, two) =
            (bench.device("press-1", &["cell-3"]).await, bench.device("press-2", &["cell-3"]).await);
        offer(&bench, &one, &["opcua"]).await;
        offer(&bench, &two, &["opcua", "ssh"]).await;
        let mut offers = Offers::default();
        offers.follow(&bench.plant, bench.revision()).await.unwrap();
        assert_eq!(named(&offers), ["press-1: opcua", "press-2: opcua,ssh"]);
        assert_eq!(offers.kinds.len(), 2);

        offer(&bench, &two, &["opcua"]).await;
        offers.follow(&bench.plant, bench.revision()).await.unwrap();
        assert_eq!(named(&offers), ["press-1: opcua", "press-2: opcua"]);
        assert_eq!(offers.kinds.len(), 1, "devices with the same offer share it");

        let retired = Device { admission: Admission::Retired, ..bench.read(device_key(&one)).await };
        let txn = Txn::new().put(device_key(&one), stored(&retired).unwrap());
        bench.plant.store.transact(txn).await.unwrap();
        offer(&bench, &two, &["ssh"]).await;
        offers.follow(&bench.plant, bench.revision()).await.unwrap();
        assert_eq!(named(&offers), ["press-2: ssh"]);
        let services = offers.by_zone().remove(&"cell-3".parse::<ZoneName>().unwrap()).unwrap();
        assert_eq!(services, ["ssh".parse().unwrap()].into());
    }

    #[tokio::test]
    async fn keeping_up_reads_what_is_told_and_never_the_fleet() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let press = bench.device("press-1", &["cell-3"]).await;
        let mut offers = Offers::default();
        offers.keep_up(&bench.plant).await.unwrap();
        assert!(named(&offers).is_empty(), "nobody needs it yet");
        offers.follow(&bench.plant, bench.revision()).await.unwrap();
        offer(&bench, &press, &["ssh"]).await;
        offers.keep_up(&bench.plant).await.unwrap();
        assert_eq!(named(&offers), ["press-1: ssh"]);
        bench.plant.store.transact(Txn::new().put(format!("{STAGE}1"), vec![1])).await.unwrap();
        offers.keep_up(&bench.plant).await.unwrap();
        assert!(offers.changes.is_none(), "left to who needs it");
    }

    #[tokio::test]
    async fn a_watcher_that_fell_behind_reads_all_again() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let press = bench.device("press-1", &["cell-3"]).await;
        let mut offers = Offers::default();
        offers.follow(&bench.plant, bench.revision()).await.unwrap();
        offer(&bench, &press, &["ssh"]).await;
        for n in 0..20_000 / 90 + 1 {
            let txn = (0..90).fold(Txn::new(), |txn, key| txn.put(format!("junk/{n}/{key}"), vec![1]));
            bench.plant.store.transact(txn).await.unwrap();
        }
        offers.follow(&bench.plant, bench.revision()).await.unwrap();
        assert_eq!(named(&offers), ["press-1: ssh"]);
    }
}
