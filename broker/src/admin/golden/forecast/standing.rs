//! Whether a device's last evidence is still that of what it runs.

use std::collections::HashMap;

use policy::id::{DeviceName, ProductName};
use policy::zone::Override;

use crate::plant::Plant;
use crate::record::device::{Attested, Decision, Device};
use crate::record::list;
use crate::record::overriding::{OVERRIDE, OverrideRecord};
use crate::record::rollout::{TellRecord, told_prefix};
use crate::rollout::last;
use crate::session::Refusal;

pub(super) const NEVER: &str = "it never proved itself";
pub(super) const UNREADABLE: &str = "its last evidence cannot be read back";
const CLONE: &str = "its TPM's counters fell, and nobody has said why";
const ASKED: &str = "it was told to attest and has not answered yet";
const AWAY: &str = "it left the broker since it last proved itself: it may be rebooting";
const TOLD: &str = "a rollout told it to install a release that it has not proved yet";
const OLD: &str = "its last evidence is older than two intervals of its zone";

/// What is known of devices besides their evidence.
pub(super) struct Standing {
    overrides: HashMap<DeviceName, OverrideRecord>,
    /// What the rollout of the product that is under way told devices, by name.
    told: HashMap<String, TellRecord>,
}

impl Standing {
    pub(super) async fn read(plant: &Plant, product: &ProductName) -> Result<Self, Refusal> {
        let store = plant.store.as_ref();
        let overrides = list::<OverrideRecord>(store, OVERRIDE).await?.into_iter().map(|held| held.record);
        let prefix = told_prefix(product);
        let number = last(plant, product).await?.map(|held| held.record);
        let number =
            number.filter(|rollout| !rollout.state.is_over()).map(|rollout| rollout.plan.id().number);
        let mut told = HashMap::new();
        if let Some(number) = number {
            for held in list::<TellRecord>(store, &prefix).await? {
                if held.record.rollout == number {
                    told.insert(held.key.strip_prefix(&prefix).unwrap_or_default().to_owned(), held.record);
                }
            }
        }
        Ok(Self { overrides: overrides.map(|record| (record.device.clone(), record)).collect(), told })
    }

    /// What is accepted of the device by hand, in every zone that it is in.
    pub(super) fn excused(&self, device: &Device) -> Option<Override> {
        let record = self.overrides.get(&device.name)?;
        let everywhere = device.zones.iter().all(|zone| record.in_zone(zone).is_some());
        everywhere.then(|| record.excused.clone())
    }

    /// Why its evidence, so many seconds old, says nothing of what it runs; none: it does.
    pub(super) fn unknown(
        &self,
        plant: &Plant,
        device: &Device,
        attested: Option<&Attested>,
        age: u64,
        tells_for: u64,
    ) -> Option<&'static str> {
        let Some(attested) = attested else { return Some(NEVER) };
        match () {
            () if attested.clone_alarm => Some(CLONE),
            () if age > tells_for => Some(OLD),
            () if device.asked > device.answered => Some(ASKED),
            () if has_left(plant, device, attested) => Some(AWAY),
            () if self.is_between(&device.name, attested) => Some(TOLD),
            () => None,
        }
    }

    fn is_between(&self, device: &DeviceName, attested: &Attested) -> bool {
        self.told.get(device.as_str()).is_some_and(|told| !attested.running().contains(&told.release))
    }
}

/// Whether it held certificates when it was heard last, and its Watch stream has ended since. A refused device has
/// no stream that could end.
fn has_left(plant: &Plant, device: &Device, attested: &Attested) -> bool {
    let held = matches!(attested.decision, Decision::Trusted | Decision::WouldRefuse);
    held && plant.attendance.has_left(&device.name, attested.at, plant.now())
}
