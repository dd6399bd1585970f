//! Failure drills: who may begin and end one, and what the broker sees of the zone meanwhile.

use std::ops::RangeInclusive;
use std::slice;

use policy::appraisal::policy::Mode;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Fault, Role, Zone};

use super::Actor;
use super::bounds::{MAX_REASON, printable};
use super::change::{Draft, commit};
use super::device::no_zone;
use super::reach::Scope;
use super::zone::in_sight;
use crate::drill;
use crate::plant::Plant;
use crate::record::device::{
    Admission, Attested, DEVICE, Decision, Device, HeldCertificates, attested_key, device_key, held_key,
};
use crate::record::drill::{Drill, drill_key};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::issue::revoke;
use crate::store::Txn;
use crate::trust;

/// For how many seconds a fault may run: long enough for somebody to walk to a machine, and never over lunch.
const LIFETIME: RangeInclusive<u32> = 1..=3_600;
/// By how many seconds answers may be late: a device waits for 30 s (`attestor/src/client`).
const DELAY: RangeInclusive<u32> = 1..=20;
/// Most devices of a zone that is drilled: each is looked at several times a second, and asked in one transaction.
const MAX_DEVICES: usize = 64;

/// What somebody asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where.
    pub zone: ZoneName,
    /// What is broken.
    pub fault: Fault,
    /// Of which device, if the fault is of one.
    pub device: Option<DeviceName>,
    /// For how many seconds at most.
    pub seconds: u32,
    /// By how many seconds answers are late; 0 unless that is the fault.
    pub delay: u32,
    /// Why.
    pub reason: String,
    /// Only say whether it could begin.
    pub dry_run: bool,
}

/// A drill that began.
#[derive(Debug)]
pub struct Begun {
    /// The zone before it did.
    pub before: Sight,
    /// When it ends.
    pub ends: UnixTime,
    /// Certificates that were revoked for it.
    pub revoked: usize,
}

/// What this broker sees of a zone.
#[derive(Debug)]
pub struct Sight {
    /// The zone.
    pub zone: Zone,
    /// When it was seen.
    pub at: UnixTime,
    /// Devices that are in this zone alone.
    pub devices: Vec<Seen>,
    /// Devices that are in others too: no drill touches them.
    pub left_out: Vec<DeviceName>,
    /// When the fault that runs in it ends.
    pub ends: Option<UnixTime>,
}

/// What this broker sees of a device.
#[derive(Debug)]
pub struct Seen {
    /// The device.
    pub device: DeviceName,
    /// Streams that are open, and that it opened since the broker started.
    pub streams: (usize, u64),
    /// What its last attestation came to.
    pub attested: Option<Attested>,
    /// How many attestations came to something.
    pub proofs: u64,
    /// Serial numbers of its own certificates that have not ended, hexadecimal.
    pub certificates: Vec<String>,
    /// When the first of its roles is without one.
    pub ends: UnixTime,
    /// Whether it seems to watch another broker.
    pub elsewhere: bool,
}

/// Begins a drill, or says whether it could begin.
pub async fn start(plant: &Plant, actor: &Actor, request: &Request) -> Result<Begun, Refusal> {
    let begun = commit(plant, || begin(plant, actor, request)).await?;
    drill::refresh(plant).await?;
    Ok(begun)
}

async fn begin(plant: &Plant, actor: &Actor, request: &Request) -> Result<Draft<Begun>, Refusal> {
    printable("reason", &request.reason, MAX_REASON)?;
    within("seconds", request.seconds, &LIFETIME)?;
    let reach = actor.reach(plant, slice::from_ref(&request.zone)).await?;
    let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(&request.zone)).await?;
    let Held { key, version, record: zone } = held.ok_or_else(|| no_zone(&request.zone))?;
    marked(&zone, request)?;
    starts_again(plant, request).await?;
    let drills = drill_key(&zone.name);
    let running: Option<Held<Drill>> = fetch(plant.store.as_ref(), drills.clone()).await?;
    let now = plant.now();
    if let Some(running) = running.as_ref().filter(|held| now < held.record.ends) {
        return Err(Refusal::Conflict(format!(
            "a drill of {} runs in zone {} until {}: {}; wait for it, or end it with `touchstone drill end {}`",
            running.record.by, zone.name, running.record.ends, running.record.fault, zone.name
        )));
    }
    let before = sight(plant, zone).await?;
    let zone = &before.zone;
    let drill = Drill {
        zone: zone.name.clone(),
        fault: request.fault,
        device: request.device.clone(),
        delay: request.delay.into(),
        began: now,
        ends: now.plus(request.seconds.into()),
        by: actor.name().to_owned(),
        reason: request.reason.clone(),
    };
    let txn = Txn::new().unchanged(key, version);
    let txn = match running {
        Some(over) => txn.unchanged(over.key, over.version),
        None => txn.absent(drills.clone()),
    };
    let (revoked, txn) = strike(plant, txn.put(drills, stored(&drill)?), &drill, &before).await?;
    let whom = request.device.as_ref().map_or_else(|| "its devices".to_owned(), ToString::to_string);
    let text = format!("{} of {whom} until {}: {}", drill.fault, drill.ends, drill.reason);
    let (deed, ends) = (reach.deed(zone.name.as_str(), &text), drill.ends);
    Ok(Draft::unless(request.dry_run, Begun { before, ends, revoked }, txn, deed))
}

fn within(what: &str, found: u32, range: &RangeInclusive<u32>) -> Result<(), Refusal> {
    match range.contains(&found) {
        true => Ok(()),
        false => Err(Refusal::malformed(format!(
            "{what}: a drill takes {} to {}, not {found}",
            range.start(),
            range.end()
        ))),
    }
}

/// Refuses a reboot that nothing would prove: what counts a machine's starts is its TPM.
async fn starts_again(plant: &Plant, request: &Request) -> Result<(), Refusal> {
    let Some(name) = request.device.as_ref().filter(|_| request.fault == Fault::Reboot) else {
        return Ok(());
    };
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    match held.is_some_and(|held| !held.record.prover.is_tpm()) {
        false => Ok(()),
        true => Err(Refusal::Conflict(format!(
            "{name} has no TPM, so nothing proves that it started again; name a device that has one"
        ))),
    }
}

/// Refuses what the zone is not there for.
fn marked(zone: &Zone, request: &Request) -> Result<(), Refusal> {
    let Zone { name, .. } = zone;
    if zone.drills.is_none() {
        return Err(Refusal::NotPermitted(format!(
            "zone {name} is not marked for drills, so nothing is broken in it on purpose; if it is a staging zone, mark it with `touchstone zone set {name} --drills on`"
        )));
    }
    match (request.fault.is_of_one(), &request.device) {
        (true, None) => {
            return Err(Refusal::malformed(format!("{} befalls one device; name it", request.fault)));
        }
        (false, Some(_)) => {
            return Err(Refusal::malformed(format!(
                "{} befalls all devices of the zone; name none",
                request.fault
            )));
        }
        _ => {}
    }
    match request.fault {
        Fault::Delay => within("delay", request.delay, &DELAY),
        _ if request.delay > 0 => {
            Err(Refusal::malformed(format!("{} takes no delay; leave it out", request.fault)))
        }
        Fault::CorruptedUpdate if zone.mode == Mode::Observe => Err(Refusal::Conflict(format!(
            "zone {name} observes, so it refuses no update; let it enforce first with `touchstone zone enforce {name}`"
        ))),
        _ => Ok(()),
    }
}

/// Adds to `txn` what the fault does at once: it revokes, or asks for proof. Returns how many certificates it revokes.
async fn strike(plant: &Plant, mut txn: Txn, drill: &Drill, before: &Sight) -> Result<(usize, Txn), Refusal> {
    let zone = &drill.zone;
    let alone: Vec<Held<Device>> = alone(plant, zone).await?.0;
    if alone.is_empty() {
        return Err(Refusal::NotFound(format!(
            "no device is in zone {zone} and in no other, so a drill would touch none; `touchstone device list --zone {zone}` shows who is in it"
        )));
    }
    let befallen = |device: &Device| drill.device.as_ref().is_none_or(|name| *name == device.name);
    if !alone.iter().any(|held| befallen(&held.record)) {
        let name = drill.device.as_ref().map(ToString::to_string).unwrap_or_default();
        return Err(Refusal::NotFound(format!(
            "{name} is not in zone {zone} alone, so no drill touches it; `touchstone device list --zone {zone}` shows who is in it"
        )));
    }
    let asks = matches!(drill.fault, Fault::Delay | Fault::CorruptedUpdate);
    for Held { key, version, mut record } in alone.into_iter().filter(|held| befallen(&held.record)) {
        if asks && record.ak.is_some() {
            record.asked = record.asked.saturating_add(1);
            txn = txn.unchanged(key.clone(), version).put(key, stored(&record)?);
        } else {
            txn = txn.unchanged(key, version);
        }
    }
    let (Fault::CompromisedCredential, Some(name)) = (drill.fault, &drill.device) else {
        return Ok((0, txn));
    };
    let (revoked, txn) =
        revoke(plant, txn, name, |held| held == zone, before.at, "drill: compromised credential").await?;
    if revoked == 0 {
        return Err(Refusal::Conflict(format!(
            "{name} holds no certificate in zone {zone}, so none can be compromised; see `touchstone device why {name}`"
        )));
    }
    Ok((revoked, trust::raise(plant, txn, before.at).await?))
}

/// Ends the drill of a zone before its time; whether there was one.
pub async fn end(plant: &Plant, actor: &Actor, zone: &ZoneName) -> Result<bool, Refusal> {
    let ended = commit(plant, || finish(plant, actor, zone)).await?;
    drill::refresh(plant).await?;
    Ok(ended)
}

async fn finish(plant: &Plant, actor: &Actor, zone: &ZoneName) -> Result<Draft<bool>, Refusal> {
    let reach = actor.reach(plant, slice::from_ref(zone)).await?;
    let held: Option<Held<Drill>> = fetch(plant.store.as_ref(), drill_key(zone)).await?;
    let Some(Held { key, version, record }) = held else { return Ok(Draft::nothing(false)) };
    let txn = Txn::new().unchanged(key.clone(), version).delete(key);
    let text = format!("{}, begun by {}, ended", record.fault, record.by);
    Ok(Draft::write(true, txn, reach.deed(zone.as_str(), &text)))
}

/// What is seen of a zone that is in sight.
pub async fn observe(plant: &Plant, scope: &Scope, name: &ZoneName) -> Result<Sight, Refusal> {
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    sight(plant, in_sight(&known, scope, name)?.clone()).await
}

/// Devices in `zone` alone, and those that are in others too.
async fn alone(plant: &Plant, zone: &ZoneName) -> Result<(Vec<Held<Device>>, Vec<DeviceName>), Refusal> {
    let all: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let inside = all
        .into_iter()
        .filter(|held| held.record.zones.contains(zone) && held.record.admission == Admission::Admitted);
    let (alone, others): (Vec<_>, Vec<_>) = inside.partition(|held| held.record.zones.len() == 1);
    if alone.len() > MAX_DEVICES {
        return Err(Refusal::Conflict(format!(
            "zone {zone} has {} devices, and a drill watches at most {MAX_DEVICES}; drill a smaller staging zone",
            alone.len()
        )));
    }
    Ok((alone, others.into_iter().map(|held| held.record.name).collect()))
}

async fn sight(plant: &Plant, zone: Zone) -> Result<Sight, Refusal> {
    let at = plant.now();
    let (alone, left_out) = alone(plant, &zone.name).await?;
    let mut devices = Vec::new();
    for Held { record, .. } in alone {
        devices.push(seen(plant, record, &zone, at).await?);
    }
    let running: Option<Held<Drill>> = fetch(plant.store.as_ref(), drill_key(&zone.name)).await?;
    // Without the mark the record befalls nobody.
    let running = running.filter(|_| zone.drills.is_some());
    let ends = running.map(|held| held.record.ends).filter(|ends| at < *ends);
    Ok(Sight { zone, at, devices, left_out, ends })
}

async fn seen(plant: &Plant, device: Device, zone: &Zone, now: UnixTime) -> Result<Seen, Refusal> {
    let store = plant.store.as_ref();
    let attested: Option<Held<Attested>> = fetch(store, attested_key(&device.name)).await?;
    let held: Option<Held<HeldCertificates>> = fetch(store, held_key(&device.name, &zone.name)).await?;
    let held = held.map(|held| held.record.certificates).unwrap_or_default();
    let ends = [Role::Caller, Role::Listener].map(|role| {
        let of_role = held.iter().filter(|held| held.role == role);
        of_role.map(|held| held.validity.not_after).max().unwrap_or(UnixTime(0))
    });
    let lasting = held.iter().filter(|held| held.validity.not_after > now);
    let (streams, attested) = (plant.attendance.streams(&device.name), attested.map(|held| held.record));
    Ok(Seen {
        streams,
        elsewhere: plant.config.store.is_shared() && is_elsewhere(streams.0, attested.as_ref(), zone, now),
        attested,
        proofs: device.counter,
        certificates: lasting.map(|held| held.serial.clone()).collect(),
        ends: ends.into_iter().min().unwrap_or(UnixTime(0)),
        device: device.name,
    })
}

/// Whether a device with so many streams here watches another broker, as far as can be told: it proved itself lately.
fn is_elsewhere(streams: usize, attested: Option<&Attested>, zone: &Zone, now: UnixTime) -> bool {
    let heard = |attested: &Attested| now.since(attested.at) <= zone.timing.silent_after();
    let trusted =
        |attested: &Attested| matches!(attested.decision, Decision::Trusted | Decision::WouldRefuse);
    streams == 0 && attested.is_some_and(|attested| heard(attested) && trusted(attested))
}
