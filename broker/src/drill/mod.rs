//! Failure drills: what a fault that runs in a staging zone does to its devices.
//!
//! Promises: a fault befalls only devices that are in the drilled zone and in no other, only while that zone is marked
//! for drills, and only until the end that its record states, whatever becomes of whoever began it. It can take
//! away an answer or a trust, and gives none.
//! Does not promise: that it is seen by another broker of the plant at the same moment; each takes it over from the
//! store within `LOOK`.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use policy::appraisal::Finding;
use policy::appraisal::claims::Claim;
use policy::appraisal::finding::{FindingKind, MAX_FINDINGS};
use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;
use policy::zone::{Admission, Fault};

use crate::audit::Event;
use crate::hub::moves_trust;
use crate::plant::Plant;
use crate::record::device::{Device, Tpm, device_key, ek_key};
use crate::record::drill::{DRILL, Drill};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::session::ruling::Ruling;
use crate::store::{Txn, WatchEvent};
use crate::trust;

/// How often the store is looked at for drills that another broker began, and for those that are over.
const LOOK: Duration = Duration::from_secs(1);

/// The drills that run, as this broker knows them.
#[derive(Debug, Default)]
pub struct Drills(ArcSwap<Vec<Held<Drill>>>);

impl Drills {
    /// The fault that befalls `device` at `now`.
    fn on(&self, device: &Device, now: UnixTime) -> Option<Drill> {
        let known = self.0.load();
        let found = known.iter().map(|held| &held.record).find(|drill| {
            let named = drill.device.as_ref().is_none_or(|name| *name == device.name);
            named && now < drill.ends && device.zones == slice::from_ref(&drill.zone)
        });
        found.cloned()
    }

    fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }
}

/// Reads the drills of zones that are marked for them.
pub(crate) async fn refresh(plant: &Plant) -> Result<(), Refusal> {
    let mut held: Vec<Held<Drill>> = list(plant.store.as_ref(), DRILL).await?;
    if !held.is_empty() {
        let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
        held.retain(|held| zones.zone(&held.record.zone).is_some_and(|zone| zone.drills.is_some()));
    }
    plant.drills.0.store(Arc::new(held));
    Ok(())
}

/// Takes in what `event` says of drills and of the zones that are marked for them.
pub(crate) async fn keep_up(plant: &Plant, event: &WatchEvent) {
    let concerns = match event {
        WatchEvent::Resync { .. } => true,
        WatchEvent::Change(change) => change.keys.iter().any(|key| key.starts_with(DRILL)),
    };
    if (concerns || (moves_trust(event) && !plant.drills.is_empty()))
        && let Err(error) = refresh(plant).await
    {
        tracing::warn!(%error, "drills are looked at again with the next try");
    }
}

/// Keeps up with drills and ends those whose time is over, for ever.
pub(crate) async fn follow(plant: Arc<Plant>) {
    loop {
        if let Err(error) = turn(&plant).await {
            tracing::warn!(%error, "drills are looked at again with the next try");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes over what the store says, and puts on record that a drill is over. Its fault ended by itself before.
pub(crate) async fn turn(plant: &Plant) -> Result<(), Refusal> {
    let now = plant.now();
    let held: Vec<Held<Drill>> = list(plant.store.as_ref(), DRILL).await?;
    if held.is_empty() && plant.drills.is_empty() {
        return Ok(());
    }
    for over in held.into_iter().filter(|held| held.record.ends <= now) {
        let Drill { zone, fault, by, .. } = &over.record;
        let text = format!("{fault}, begun by {by}, reached its end");
        let event = Event::new(now, "broker", "drill.end", zone.as_str(), &text);
        let txn = Txn::new().unchanged(over.key.clone(), over.version).delete(over.key.clone());
        commit(plant, txn.audit(event.entry())).await?;
        tracing::info!(zone.id = %zone, %fault, "a drill reached its end");
    }
    refresh(plant).await
}

/// The fault that befalls the device of this name now.
async fn on(plant: &Plant, name: &DeviceName) -> Result<Option<Drill>, Refusal> {
    if plant.drills.is_empty() {
        return Ok(None);
    }
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    Ok(held.and_then(|held| plant.drills.on(&held.record, plant.now())))
}

/// Whether the link to `device` is down.
pub(crate) async fn is_cut_off(plant: &Plant, device: &DeviceName) -> Result<bool, Refusal> {
    Ok(on(plant, device).await?.is_some_and(|drill| drill.fault == Fault::LinkLoss))
}

/// The device of the TPM with this EK, while any drill runs: before its challenge a device says no other name.
pub(crate) async fn device_of(plant: &Plant, ek: &Digest) -> Result<Option<DeviceName>, Refusal> {
    if plant.drills.is_empty() {
        return Ok(None);
    }
    let held: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(ek)).await?;
    Ok(held.and_then(|held| held.record.device))
}

/// What becomes of a call by a device that calls itself `name`.
pub(crate) async fn passage(plant: &Plant, name: &DeviceName) -> Result<Passage, Refusal> {
    Ok(match on(plant, name).await? {
        Some(drill) if drill.fault == Fault::LinkLoss => Passage::Lost,
        Some(drill) if drill.fault == Fault::Delay => Passage::Late(Duration::from_secs(drill.delay)),
        Some(_) | None => Passage::Free,
    })
}

/// What becomes of a device's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It is answered.
    Free,
    /// It is answered so much later.
    Late(Duration),
    /// It is not: to the device the broker is away.
    Lost,
}

/// What a cut link looks like to a device: no refusal, but a broker that is not there. It is told in the status alone, for
/// whoever looks at the wire.
pub(crate) fn lost() -> tonic::Status {
    tonic::Status::unavailable("a link-loss drill runs in this zone")
}

/// Refuses `device` where its update is corrupted on purpose. This can only refuse: what the zones decided
/// otherwise stays as it is.
pub(crate) fn corrupt(plant: &Plant, device: &Device, rulings: &mut [Ruling], now: UnixTime) {
    let Some(drill) = plant.drills.on(device, now).filter(|drill| drill.fault == Fault::CorruptedUpdate)
    else {
        return;
    };
    for ruling in rulings.iter_mut().filter(|ruling| ruling.zone.record.name == drill.zone) {
        let finding = Finding {
            kind: FindingKind::NotAccepted,
            claim: Claim::Executables,
            pcr: None,
            event: None,
            name: None,
            expected: Vec::new(),
            seen: None,
            release: None,
            sentence: format!(
                "a corrupted-update drill of {} runs until {}: it counts as booting what no release accepts, and is trusted again after that",
                drill.by, drill.ends
            ),
        };
        ruling.record.findings.insert(0, finding.clone());
        ruling.record.findings.truncate(MAX_FINDINGS);
        ruling.admission = Admission::Refused(vec![finding]);
    }
}

#[cfg(test)]
mod tests;
