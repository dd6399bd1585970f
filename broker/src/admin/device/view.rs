//! What is known of devices, with the state that follows from it.

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Segmentation;

use super::{DeviceRef, Found, find};
use crate::admin::reach::Scope;
use crate::admin::zone::in_sight;
use crate::plant::Plant;
use crate::record::device::{
    Admission, Attested, DEVICE, Decision, Device, HeldCertificate, HeldCertificates, Inventory, PENDING,
    Pending, Tpm, attested_key, ek_key, held_place, held_prefix, inventory_key,
};
use crate::record::idevid::{BoxIdentity, idevid_key};
use crate::record::moving::{PlannedMove, move_key};
use crate::record::{Held, fetch, list, list_page};
use crate::session::Refusal;
use crate::trust;

/// Most devices on one page: with their certificates they stay well below gRPC's 4 MiB.
pub const MAX_PAGE: usize = 500;
/// Begins the place of a pending device in the list: after every device name.
const AFTER_NAMES: char = '~';

/// The state of a device, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Known by its EK; it never came.
    Registered,
    /// It waits for an administrator: it is new, its TPM's counters fell, or a zone that it is in was removed.
    Pending,
    /// Trusted in every zone.
    Trusted,
    /// A zone refused it.
    Refused,
    /// Trusted when it was last heard, which is too long ago.
    Silent,
    /// Stopped by an administrator.
    Quarantined,
    /// Gone for good.
    Retired,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Registered,
        Self::Pending,
        Self::Trusted,
        Self::Refused,
        Self::Silent,
        Self::Quarantined,
        Self::Retired,
    ];

    /// The state as commands show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Pending => "pending",
            Self::Trusted => "trusted",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Quarantined => "quarantined",
            Self::Retired => "retired",
        }
    }
}

/// A device with everything that is stored about it.
#[derive(Debug, Clone)]
pub struct DeviceView {
    /// The device.
    pub device: Device,
    /// Its TPM.
    pub tpm: Tpm,
    /// Its last attestation.
    pub attested: Option<Attested>,
    /// Its inventory.
    pub inventory: Inventory,
    /// Who its manufacturer says it is.
    pub idevid: Option<BoxIdentity>,
    /// Certificates that have not ended, with their zone.
    pub certificates: Vec<(ZoneName, HeldCertificate)>,
    /// Its state.
    pub state: State,
    /// A move that waits for its window.
    pub planned: Option<PlannedMove>,
    /// When that window opens next.
    pub begins: Option<UnixTime>,
}

impl DeviceView {
    /// Whether it was last heard longer ago than its zones allow, whatever it was told then.
    pub(crate) fn is_unheard(&self, zones: &Segmentation, now: UnixTime) -> bool {
        let at = self.attested.as_ref().map_or(UnixTime(0), |attested| attested.at);
        is_silent(at, &self.device.zones, zones, now)
    }
}

/// A line of the list.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A device of the plant.
    Device(Box<DeviceView>),
    /// A TPM that waits.
    Pending(Pending),
}

impl Seen {
    /// Hooks of its attestor that it said fail.
    #[must_use]
    pub fn failing_hooks(&self) -> Vec<String> {
        let attested = match self {
            Self::Device(view) => view.attested.as_ref(),
            Self::Pending(_) => None,
        };
        attested.map(|attested| attested.failing_hooks.iter().cloned().collect()).unwrap_or_default()
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> State {
        match self {
            Self::Device(view) => view.state,
            Self::Pending(_) => State::Pending,
        }
    }

    /// Its zones, or those it asks for.
    #[must_use]
    pub fn zones(&self) -> &[ZoneName] {
        match self {
            Self::Device(view) => &view.device.zones,
            Self::Pending(pending) => &pending.zones,
        }
    }
}

/// Which devices are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this zone.
    pub zone: Option<ZoneName>,
    /// Only those in this state.
    pub state: Option<State>,
    /// Where the page before ended.
    pub after: String,
    /// How many at most; 0: [`MAX_PAGE`].
    pub limit: usize,
}

/// A page of the list.
#[derive(Debug)]
pub struct Page {
    /// Devices by name, then those that wait, by EK.
    pub devices: Vec<Seen>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// One page of the devices in sight.
pub async fn page(plant: &Plant, scope: &Scope, filter: &Filter) -> Result<Page, Refusal> {
    let limit = if filter.limit == 0 { MAX_PAGE } else { filter.limit.min(MAX_PAGE) };
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    filter.zone.as_ref().map(|zone| in_sight(&zones, scope, zone)).transpose()?;
    let mut page = Page { devices: Vec::new(), next: None };
    if !filter.after.starts_with(AFTER_NAMES) {
        let mut after = (!filter.after.is_empty()).then(|| format!("{DEVICE}{}", filter.after));
        loop {
            let found = list_page::<Device>(plant.store.as_ref(), DEVICE, after.as_deref(), limit).await?;
            let Some(last) = found.last else { break };
            after = Some(last);
            for held in found.records {
                let name = held.record.name.to_string();
                let seen = Seen::Device(Box::new(view(plant, held.record, &zones).await?));
                if take(&mut page, scope, filter, limit, seen, name) {
                    return Ok(page);
                }
            }
        }
    }
    let waiting: Vec<Held<Pending>> = list(plant.store.as_ref(), PENDING).await?;
    for held in waiting {
        let place = format!("{AFTER_NAMES}{}", held.record.ek.hex());
        if place > filter.after && take(&mut page, scope, filter, limit, Seen::Pending(held.record), place) {
            return Ok(page);
        }
    }
    Ok(page)
}

/// Takes a line that matches; says whether the page is full.
fn take(page: &mut Page, scope: &Scope, filter: &Filter, limit: usize, seen: Seen, place: String) -> bool {
    let matches = scope.sees(seen.zones())
        && filter.state.is_none_or(|state| seen.state() == state)
        && filter.zone.as_ref().is_none_or(|zone| seen.zones().contains(zone));
    if !matches {
        return false;
    }
    page.devices.push(seen);
    let full = page.devices.len() >= limit;
    page.next = full.then_some(place);
    full
}

/// Every device and every waiting TPM in sight.
pub async fn all(plant: &Plant, scope: &Scope, zones: &Segmentation) -> Result<Vec<Seen>, Refusal> {
    let mut all = Vec::new();
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    for held in devices.into_iter().filter(|held| scope.sees(&held.record.zones)) {
        all.push(Seen::Device(Box::new(view(plant, held.record, zones).await?)));
    }
    let waiting: Vec<Held<Pending>> = list(plant.store.as_ref(), PENDING).await?;
    let waiting = waiting.into_iter().filter(|held| scope.sees(&held.record.zones));
    all.extend(waiting.map(|held| Seen::Pending(held.record)));
    Ok(all)
}

/// The device or waiting TPM that `wanted` names, if it is in sight.
pub async fn one(plant: &Plant, scope: &Scope, wanted: &DeviceRef) -> Result<Seen, Refusal> {
    match find(plant, scope, wanted).await? {
        Found::Pending(held) => Ok(Seen::Pending(held.record)),
        Found::Device(known) => {
            let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
            Ok(Seen::Device(Box::new(view(plant, known.device.record, &zones).await?)))
        }
    }
}

/// The device `name`, if it is in sight.
pub async fn device(plant: &Plant, scope: &Scope, name: &DeviceName) -> Result<DeviceView, Refusal> {
    match one(plant, scope, &DeviceRef::Name(name.clone())).await? {
        Seen::Device(view) => Ok(*view),
        Seen::Pending(_) => Err(super::unknown(scope, name)),
    }
}

/// The device with everything that is stored about it.
pub(crate) async fn view(plant: &Plant, device: Device, zones: &Segmentation) -> Result<DeviceView, Refusal> {
    let store = plant.store.as_ref();
    let tpm: Option<Held<Tpm>> = fetch(store, ek_key(&device.ek)).await?;
    let tpm = tpm
        .map(|held| held.record)
        .ok_or_else(|| Refusal::internal(format!("the device {} is known, its TPM is not", device.name)))?;
    let attested: Option<Held<Attested>> = fetch(store, attested_key(&device.name)).await?;
    let attested = attested.map(|held| held.record);
    let inventory: Option<Held<Inventory>> = fetch(store, inventory_key(&device.name)).await?;
    let inventory = inventory.map(|held| held.record).unwrap_or_default();
    let idevid: Option<Held<BoxIdentity>> = fetch(store, idevid_key(&device.name)).await?;
    let idevid = idevid.map(|held| held.record);
    let certificates = certificates(plant, &device.name).await?;
    let state = state(&device, &tpm, attested.as_ref(), zones, plant.now());
    let planned: Option<Held<PlannedMove>> = fetch(store, move_key(&device.name)).await?;
    let planned = planned.map(|held| held.record);
    let begins = planned.as_ref().and_then(|planned| planned.window.next_opening(plant.now()));
    Ok(DeviceView { planned, begins, device, tpm, attested, inventory, idevid, certificates, state })
}

async fn certificates(plant: &Plant, name: &DeviceName) -> Result<Vec<(ZoneName, HeldCertificate)>, Refusal> {
    let prefix = held_prefix(name);
    let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
    let now = plant.now();
    let mut certificates = Vec::new();
    for held in all {
        let Some((zone, _)) = held.key.strip_prefix(&prefix).and_then(held_place) else { continue };
        let valid = held.record.certificates.into_iter().filter(|one| one.validity.not_after > now);
        certificates.extend(valid.map(|one| (zone.clone(), one)));
    }
    Ok(certificates)
}

/// The state that follows from what is stored.
pub(crate) fn state(
    device: &Device,
    tpm: &Tpm,
    attested: Option<&Attested>,
    zones: &Segmentation,
    now: UnixTime,
) -> State {
    let at = attested.map_or(UnixTime(0), |attested| attested.at);
    aged(standing(device, tpm, attested), at, &device.zones, zones, now)
}

/// The state however long ago the device was heard.
pub(crate) fn standing(device: &Device, tpm: &Tpm, attested: Option<&Attested>) -> State {
    if tpm.retired || device.admission == Admission::Retired {
        return State::Retired;
    }
    if tpm.quarantine.is_some() {
        return State::Quarantined;
    }
    let (Some(_), Some(attested)) = (&device.ak, attested) else { return State::Registered };
    if attested.clone_alarm {
        return State::Pending;
    }
    match attested.decision {
        Decision::Refused => State::Refused,
        Decision::Silent => State::Silent,
        Decision::Trusted | Decision::WouldRefuse => State::Trusted,
    }
}

/// The state at `now` of a device of the zones `of` that was last heard `at`.
pub(crate) fn aged(
    state: State,
    at: UnixTime,
    of: &[ZoneName],
    zones: &Segmentation,
    now: UnixTime,
) -> State {
    // It was admitted as the zone was removed: a person says where it belongs.
    let lost = of.iter().any(|zone| zones.zone(zone).is_none());
    if lost && !matches!(state, State::Retired | State::Quarantined) {
        return State::Pending;
    }
    if state == State::Trusted && is_silent(at, of, zones, now) { State::Silent } else { state }
}

/// Whether a device of the zones `of` that was last heard `at` is silent at `now`.
fn is_silent(at: UnixTime, of: &[ZoneName], zones: &Segmentation, now: UnixTime) -> bool {
    // A gateway answers the zone that asks most often.
    let timings = of.iter().filter_map(|zone| zones.zone(zone));
    let silent_after = timings.map(|zone| zone.timing.silent_after()).min();
    silent_after.is_some_and(|limit| now.since(at) > limit)
}
