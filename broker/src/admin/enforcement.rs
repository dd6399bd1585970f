//! What enforcing would have meant for the devices of a zone, from what happened while it observed.

use policy::appraisal::policy::Mode;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Zone;

use super::reach::Scope;
use super::zone;
use crate::last_proof::LastProofs;
use crate::plant::Plant;
use crate::record::device::{Admission, Attested, DEVICE, Device, Inventory, attested_key, inventory_key};
use crate::record::would::{WouldRefuse, would_key};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::withdrawal::{self, Losing};

/// A device that would have been refused.
#[derive(Debug)]
pub struct WouldBeRefused {
    /// The device.
    pub device: DeviceName,
    /// When, how often and why.
    pub history: WouldRefuse,
    /// Whether its last proof would be refused too.
    pub still: bool,
    /// The owner that the inventory names.
    pub owner: String,
    /// The criticality that the inventory names.
    pub criticality: String,
}

/// The forecast of a zone.
#[derive(Debug)]
pub struct Forecast {
    /// What the zone does today.
    pub mode: Mode,
    /// Devices that would have been refused, those that still would first, then the latest.
    pub refused: Vec<WouldBeRefused>,
    /// Devices that proved themselves lately and would not.
    pub clean: usize,
    /// Devices that have not proved themselves lately, or never.
    pub unknown: Vec<DeviceName>,
    /// Devices that lose their certificates at once, connected or not.
    pub loses: Vec<Loses>,
}

/// A device whose last proof does not earn what it holds in a zone, by the rules that the zone is to have.
#[derive(Debug, Clone)]
pub struct Loses {
    /// The device.
    pub device: DeviceName,
    /// The zone.
    pub zone: ZoneName,
    /// Why.
    pub why: String,
    /// The owner that the inventory names.
    pub owner: String,
    /// The criticality that the inventory names.
    pub criticality: String,
}

/// The devices that lose their certificates if `zone` has these rules; if it observes, for what is never relaxed.
pub async fn losing(plant: &Plant, zone: &Zone) -> Result<Vec<Loses>, Refusal> {
    let mut all = Vec::new();
    for Losing { device, against } in withdrawal::losing(plant, zone.policy()).await? {
        let (owner, criticality) = described(plant, &device).await?;
        let (zone, why) = (zone.name.clone(), against.why.to_string());
        all.push(Loses { device, zone, why, owner, criticality });
    }
    Ok(all)
}

/// The forecast of the zone `name`; would-be refusals since `since` count.
pub async fn forecast(
    plant: &Plant,
    scope: &Scope,
    name: &ZoneName,
    since: UnixTime,
) -> Result<Forecast, Refusal> {
    let zone = zone::one(plant, scope, name).await?.zone;
    let enforcing = Zone { mode: Mode::Enforce, ..zone.clone() };
    let mut forecast = Forecast {
        mode: zone.mode,
        refused: Vec::new(),
        clean: 0,
        unknown: Vec::new(),
        loses: losing(plant, &enforcing).await?,
    };
    let mut proofs = LastProofs::under(plant, enforcing.policy()).await?;
    // Two intervals: what a device proved before says little of it now.
    let fresh = plant.now().minus(zone.timing.reattest_every().saturating_mul(2));
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let of_zone = |device: &Device| device.zones.contains(name) && device.admission == Admission::Admitted;
    for device in devices.into_iter().map(|held| held.record).filter(of_zone) {
        let store = plant.store.as_ref();
        let history: Option<Held<WouldRefuse>> = fetch(store, would_key(name, &device.name)).await?;
        let attested: Option<Held<Attested>> = fetch(store, attested_key(&device.name)).await?;
        let last = attested.map(|held| held.record).filter(|attested| attested.at >= fresh);
        match history.map(|held| held.record).filter(|history| history.last >= since) {
            Some(history) => {
                let still = match last {
                    Some(last) => proofs.against(&device, &last).await?.is_some(),
                    None => false,
                };
                forecast.refused.push(refused(plant, device.name, history, still).await?);
            }
            None if last.is_some() => forecast.clean = forecast.clean.saturating_add(1),
            None => forecast.unknown.push(device.name),
        }
    }
    forecast.refused.sort_by_key(|device| (!device.still, std::cmp::Reverse(device.history.last)));
    Ok(forecast)
}

async fn refused(
    plant: &Plant,
    device: DeviceName,
    history: WouldRefuse,
    still: bool,
) -> Result<WouldBeRefused, Refusal> {
    let (owner, criticality) = described(plant, &device).await?;
    Ok(WouldBeRefused { owner, criticality, device, history, still })
}

/// Owner and criticality, as the inventory names them.
async fn described(plant: &Plant, device: &DeviceName) -> Result<(String, String), Refusal> {
    let held: Option<Held<Inventory>> = fetch(plant.store.as_ref(), inventory_key(device)).await?;
    let inventory = held.map(|held| held.record).unwrap_or_default();
    let value = |name: &str| inventory.values.get(name).map(|known| known.value.clone()).unwrap_or_default();
    Ok((value("owner"), value("criticality")))
}
