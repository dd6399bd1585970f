//! Devices that fall silent while others of their zone are heard: each zone says whether people are told, or the device
//! loses what it holds there until it proves itself again. Who is silent is decided in [`policy::zone::silence`].
//!
//! Promises: each silence is told once, also across a restart; nobody is silent before a zone was listened to for its
//! `silent_after`, counted anew when the broker starts, was held up or turned devices away, when its clock is set, and
//! when the zone's numbers change.
//! Does not promise: that a device behind a cut cable is told from a stopped one. A gateway counts as heard in all its
//! zones. Whoever keeps all the broker's places taken hides silence, and shows in `touchstone_turned_away`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Listening, OnSilence, Segmentation, Timing, Zone};
use tokio::time::{Instant, sleep};

use crate::audit::Event;
use crate::drill;
use crate::plant::Plant;
use crate::record::device::{
    ATTESTED, Attested, DEVICE, Decision, Device, Tpm, attested_key, device_key, ek_key,
};
use crate::record::leader::{TURNED_AWAY, TurnedAway};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, list, stored};
use crate::session::{Refusal, complete::commit};
use crate::store::{Revision, Txn};
use crate::trust;
use crate::withdrawal::{Batch, Loss, holds, lose};

/// Looks in an interval of the zone that asks most often: what is told is late by a look at most.
const LOOKS: u64 = 4;
/// Longest time between two looks, in seconds: silence is of minutes.
const SLOWEST: u64 = 60;
/// A look reads the whole fleet: it takes at most this part of the time.
const SHARE: u32 = 20;
/// Seconds by which the wall clock may differ from the time that passed, and a look may be late.
const DRIFT: u64 = 5;

/// Looks who is silent, for ever.
pub(crate) async fn follow(plant: Arc<Plant>) {
    let mut ears = Ears::new(&plant);
    let mut pace = Duration::from_secs(1);
    loop {
        let began = Instant::now();
        sleep(pace).await;
        let woken = Instant::now();
        let late = woken.duration_since(began).saturating_sub(pace);
        if late > Duration::from_secs(DRIFT) {
            ears.deafen();
        }
        let passed = ears.looked.map_or(Duration::ZERO, |looked| woken.duration_since(looked));
        ears.looked = Some(woken);
        match ears.look(&plant, passed.as_secs()).await {
            Ok(next) => pace = next.max(woken.elapsed().saturating_mul(SHARE)),
            Err(error) => tracing::warn!(%error, "who is silent is looked at again soon"),
        }
    }
}

/// How often it is told that devices were turned away.
const TELL: Duration = Duration::from_secs(1);

/// Tells whichever broker leads that this one turned devices away, for ever.
pub(crate) async fn tell(plant: Arc<Plant>, broker: String) {
    let mut told = plant.turned_away.load(Ordering::Relaxed);
    loop {
        sleep(TELL).await;
        let count = plant.turned_away.load(Ordering::Relaxed);
        if count == told {
            continue;
        }
        match put(&plant, TurnedAway { broker: broker.clone(), count }).await {
            Ok(()) => told = count,
            Err(error) => tracing::warn!(%error, "that devices were turned away is told again soon"),
        }
    }
}

async fn put(plant: &Plant, turned_away: TurnedAway) -> Result<(), Refusal> {
    commit(plant, Txn::new().put(TURNED_AWAY, stored(&turned_away)?)).await
}

/// What was heard of each zone.
struct Ears {
    zones: BTreeMap<ZoneName, (Timing, Listening)>,
    /// When it was looked last, by a clock that nobody sets.
    looked: Option<Instant>,
    /// The same by the plant's.
    at: UnixTime,
    turned_away: u64,
    /// The same of other brokers: the version of what the last one told.
    elsewhere: Option<Revision>,
}

impl Ears {
    fn new(plant: &Plant) -> Self {
        let turned_away = plant.turned_away.load(Ordering::Relaxed);
        Self { zones: BTreeMap::new(), looked: None, at: plant.now(), turned_away, elsewhere: None }
    }

    /// Begins to listen anew.
    fn deafen(&mut self) {
        self.zones.clear();
    }

    /// One look, `passed` seconds after the one before. Returns when to look next.
    async fn look(&mut self, plant: &Plant, passed: u64) -> Result<Duration, Refusal> {
        let now = plant.now();
        let turned_away = plant.turned_away.load(Ordering::Relaxed);
        let set = now < self.at || now.since(self.at).abs_diff(passed) > DRIFT;
        let told: Option<Held<TurnedAway>> = fetch(plant.store.as_ref(), TURNED_AWAY.to_owned()).await?;
        let elsewhere = told.map(|held| held.version);
        if set || (turned_away, elsewhere) != (self.turned_away, self.elsewhere) {
            self.deafen();
        }
        (self.at, self.turned_away, self.elsewhere) = (now, turned_away, elsewhere);
        let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
        self.keep_up(&zones, now);
        let (mut batch, mut before) = (Batch::default(), None);
        for silent in self.silent(&fleet(plant).await?, passed, now) {
            let device = Some(silent.device.clone());
            if before == device {
                // A gateway: what one zone does rests on what the other did.
                batch.commit(plant).await?;
            }
            notice(plant, &mut batch, silent).await?;
            before = device;
        }
        batch.commit(plant).await?;
        let most_often = zones.zones().map(|zone| zone.timing.reattest_every()).min();
        Ok(Duration::from_secs(most_often.map_or(SLOWEST, |every| (every / LOOKS).clamp(1, SLOWEST))))
    }

    /// Listens to the zones that there are, anew to those whose numbers changed.
    fn keep_up(&mut self, zones: &Segmentation, now: UnixTime) {
        self.zones.retain(|name, _| zones.zone(name).is_some());
        for zone in zones.zones() {
            let known = self.zones.entry(zone.name.clone());
            let known = known.or_insert_with(|| (zone.timing, Listening::from(now)));
            if known.0 != zone.timing {
                // A device comes by the former interval once more.
                let from = now.plus(known.0.reattest_every());
                *known = (zone.timing, Listening::from(from));
            }
        }
    }

    /// Who is silent, and in which zone.
    fn silent(&mut self, fleet: &[Heard], passed: u64, now: UnixTime) -> Vec<Silent> {
        let mut latest: HashMap<&ZoneName, UnixTime> = HashMap::new();
        // What a clock that ran ahead wrote down was not heard yet.
        for heard in fleet.iter().filter(|heard| heard.at <= now) {
            for zone in &heard.zones {
                let last = latest.entry(zone).or_insert(heard.at);
                *last = heard.at.max(*last);
            }
        }
        for (zone, (timing, listening)) in &mut self.zones {
            if let Some(last) = latest.get(zone) {
                *listening = listening.heard(*last, timing, passed);
            }
        }
        let misses = |zone: &ZoneName, at| {
            let known = self.zones.get(zone);
            known.is_some_and(|(timing, listening)| listening.misses(at, timing, now))
        };
        let mut silent = Vec::new();
        for Heard { device, zones, at } in fleet {
            let zones = zones.iter().filter(|zone| misses(zone, *at));
            silent.extend(zones.map(|zone| Silent { device: device.clone(), zone: zone.clone(), at: *at }));
        }
        silent
    }
}

/// A device that proved itself once.
struct Heard {
    device: DeviceName,
    zones: Vec<ZoneName>,
    at: UnixTime,
}

async fn fleet(plant: &Plant) -> Result<Vec<Heard>, Refusal> {
    let store = plant.store.as_ref();
    let attested: Vec<Held<Attested>> = list(store, ATTESTED).await?;
    let mut attested: HashMap<String, UnixTime> =
        attested.into_iter().map(|held| (held.key, held.record.at)).collect();
    let devices: Vec<Held<Device>> = list(store, DEVICE).await?;
    let devices = devices.into_iter().map(|held| held.record);
    Ok(devices
        .filter_map(|device| {
            let at = attested.remove(&attested_key(&device.name))?;
            Some(Heard { device: device.name, zones: device.zones, at })
        })
        .collect())
}

/// A device that is silent in a zone, and was heard last `at`.
struct Silent {
    device: DeviceName,
    zone: ZoneName,
    at: UnixTime,
}

/// Does what the zone chose, unless that is done.
async fn notice(plant: &Plant, batch: &mut Batch, silent: Silent) -> Result<(), Refusal> {
    let Silent { device: name, zone, at } = &silent;
    let store = plant.store.as_ref();
    let held: Option<Held<Zone>> = fetch(store, zone_key(zone)).await?;
    let attested: Option<Held<Attested>> = fetch(store, attested_key(name)).await?;
    let (Some(held), Some(mut attested)) = (held, attested) else { return Ok(()) };
    let on_silence = held.record.on_silence;
    let done = attested.record.silent.get(zone).is_some_and(|done| *done >= on_silence);
    // It may have come since, or have nothing to lose.
    if done || attested.record.at != *at || !holds(plant, name, &[zone.clone()].into()).await? {
        return Ok(());
    }
    if is_stopped(plant, name).await? || drill::is_cut_off(plant, name).await? {
        return Ok(());
    }
    attested.record.silent.insert(zone.clone(), on_silence);
    let now = plant.now();
    let what = format!("zone {zone} did not hear it for {} s, and heard others", now.since(*at));
    tracing::warn!(device.id = %name, zone.id = %zone, then = on_silence.name(), "{what}");
    let rests_on = Txn::new().unchanged(held.key, held.version);
    match on_silence {
        OnSilence::Alert => {
            let text = format!("{what}; its certificates hold");
            let event = Event::new(now, "broker", "device.silent", name.as_str(), &text);
            let txn = rests_on.unchanged(attested.key.clone(), attested.version);
            let txn = txn.put(attested.key, stored(&attested.record)?);
            commit(plant, txn.audit(event.entry())).await?;
        }
        OnSilence::Refuse => {
            let decision = match attested.record.decision {
                Decision::Refused => Decision::Refused,
                Decision::Trusted | Decision::WouldRefuse | Decision::Silent => Decision::Silent,
            };
            let loss = Loss {
                why: format!("{what}; it is trusted again as soon as it proves itself"),
                revocation: "it was silent while others were heard",
                kind: None,
                decision,
                action: "device.silent",
                rests_on,
            };
            lose(plant, batch, &loss, name, attested, &[zone.clone()].into()).await?;
        }
    }
    plant.metrics.silence(zone, on_silence);
    Ok(())
}

/// Whether somebody stopped the device: it is not expected.
async fn is_stopped(plant: &Plant, name: &DeviceName) -> Result<bool, Refusal> {
    let device: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    let Some(device) = device.map(|held| held.record) else { return Ok(true) };
    let tpm: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(&device.ek)).await?;
    Ok(tpm.is_none_or(|held| held.record.is_barred()))
}

#[cfg(test)]
mod tests;
