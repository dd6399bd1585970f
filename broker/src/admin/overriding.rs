//! Overrides: two people of different roles accept what a device is refused for, by its digests and for a time.
//!
//! Promises: what is accepted is what the first person saw and the second approved; it ends by itself within a day,
//! and can be ended by one person at any time. What cannot be named by a digest, a withdrawn release and everything
//! about the TPM cannot be overridden.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use policy::appraisal::{AppraisalRecord, Finding};
use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;
use policy::zone::Override;
use policy::zone::admission::judge;
use policy::zone::overriding::{MAX_OVERRIDDEN, NamedMismatch};

use super::Actor;
use super::bounds::{MAX_REASON, printable};
use super::change::{Draft, commit};
use super::device::stop::not_retired;
use super::device::{Known, known};
use super::reach::Scope;
use crate::plant::Plant;
use crate::record::device::{Attested, Decision, Device, attested_key, device_key};
use crate::record::overriding::{OVERRIDE, OverrideRecord, override_key};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::issue::revoke;
use crate::session::recorded::results;
use crate::store::Txn;
use crate::trust;

/// For how many seconds an override may hold: a shift, at most a day.
const LIFETIME: RangeInclusive<u32> = 60..=86_400;

/// What somebody asks to have accepted.
#[derive(Debug)]
pub struct Request {
    /// Of which device.
    pub device: DeviceName,
    /// Why.
    pub reason: String,
    /// For how many seconds.
    pub lifetime: u32,
    /// Digest of the mismatches that were shown; none for a dry run, which shows them.
    pub seen: Option<Digest>,
    /// Only say what it would be.
    pub dry_run: bool,
}

/// What an override accepts.
#[derive(Debug)]
pub struct Accepted {
    /// The mismatches, as reasons.
    pub findings: Vec<Finding>,
    /// Names them as a whole.
    pub digest: Digest,
    /// Until when.
    pub until: UnixTime,
}

/// Accepts what the device is refused for today, or, for a dry run, says what that is.
pub async fn accept(plant: &Plant, actor: &Actor, request: &Request) -> Result<Accepted, Refusal> {
    printable("reason", &request.reason, MAX_REASON)?;
    if !LIFETIME.contains(&request.lifetime) {
        return Err(Refusal::malformed(format!(
            "an override holds for {} to {} seconds, not for {}",
            LIFETIME.start(),
            LIFETIME.end(),
            request.lifetime
        )));
    }
    commit(plant, || decide(plant, actor, request)).await
}

async fn decide(plant: &Plant, actor: &Actor, request: &Request) -> Result<Draft<Accepted>, Refusal> {
    let name = &request.device;
    let Known { mut device, .. } = not_retired(known(plant, actor.scope(), name).await?)?;
    let reach = actor.reach(plant, &device.record.zones).await?;
    let (findings, mismatches) = against(plant, &device.record).await?;
    let digest = digest(&mismatches)?;
    let now = plant.now();
    let until = now.plus(u64::from(request.lifetime));
    let accepted = Accepted { findings, digest, until };
    if request.dry_run {
        return Ok(Draft::nothing(accepted));
    }
    if request.seen != Some(digest) {
        return Err(Refusal::Conflict(format!(
            "{name} is refused for other things than were shown; look at `touchstone override {name} --dry-run` and ask again"
        )));
    }
    let told: Vec<String> = mismatches.iter().map(|mismatch| mismatch.seen.to_string()).collect();
    let text = format!("accepted until {until}: {}; {}", told.join(", "), request.reason);
    let record = OverrideRecord {
        device: name.clone(),
        zones: device.record.zones.clone(),
        excused: Override { mismatches, until },
        at: now,
        by: actor.name().to_owned(),
        approved_by: actor.second().map(|second| second.name().to_owned()).unwrap_or_default(),
        reason: request.reason.clone(),
    };
    // It proves itself again at once, and is trusted then.
    device.record.asked = device.record.asked.saturating_add(1);
    let txn = Txn::new()
        .unchanged(device.key.clone(), device.version)
        .put(device.key, stored(&device.record)?)
        .put(override_key(name), stored(&record)?);
    Ok(Draft::write(accepted, txn, reach.deed(name.as_str(), &text)))
}

/// Everything that the zones of `device` have against its last evidence, each thing by its name.
async fn against(plant: &Plant, device: &Device) -> Result<(Vec<Finding>, BTreeSet<NamedMismatch>), Refusal> {
    let name = &device.name;
    let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(name)).await?;
    let attested = attested.ok_or_else(|| {
        Refusal::NotFound(format!("{name} has sent no evidence yet, so there is nothing to accept"))
    })?;
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let (mut findings, mut mismatches) = (Vec::new(), BTreeSet::new());
    for record in results(plant, &attested.record).await {
        let Some(zone) = zones.zone(&record.zone).filter(|zone| device.zones.contains(&zone.name)) else {
            continue;
        };
        whole(name, &record)?;
        let judgement = judge(&record, &zone.policy(), None);
        for finding in judgement.refused.into_iter().chain(judgement.would_refuse) {
            let named = NamedMismatch::of(&finding).ok_or_else(|| {
                Refusal::NotPermitted(format!("this cannot be overridden: {}", finding.sentence))
            })?;
            if mismatches.insert(named) {
                findings.push(finding);
            }
        }
    }
    if mismatches.is_empty() {
        return Err(Refusal::Conflict(format!(
            "{name} is refused for nothing, so there is nothing to accept; see `touchstone device why {name}`"
        )));
    }
    if mismatches.len() > MAX_OVERRIDDEN {
        return Err(Refusal::NotPermitted(format!(
            "{name} differs in {} things, at most {MAX_OVERRIDDEN} can be overridden; sign a release that accepts it",
            mismatches.len()
        )));
    }
    Ok((findings, mismatches))
}

fn whole(name: &DeviceName, record: &AppraisalRecord) -> Result<(), Refusal> {
    match record.findings_left_out {
        0 => Ok(()),
        more => Err(Refusal::NotPermitted(format!(
            "{name} differs in {more} things more than are told, so nobody can say what would be accepted; sign a release that accepts it"
        ))),
    }
}

fn digest(mismatches: &BTreeSet<NamedMismatch>) -> Result<Digest, Refusal> {
    Ok(Digest::of(&serde_json::to_vec(mismatches).map_err(Refusal::internal)?))
}

/// Ends the override of a device before its time.
pub async fn end(plant: &Plant, actor: &Actor, name: &DeviceName) -> Result<(), Refusal> {
    commit(plant, || cancel(plant, actor, name)).await
}

async fn cancel(plant: &Plant, actor: &Actor, name: &DeviceName) -> Result<Draft<()>, Refusal> {
    let Known { mut device, .. } = known(plant, actor.scope(), name).await?;
    let reach = actor.reach(plant, &device.record.zones).await?;
    let held: Option<Held<OverrideRecord>> = fetch(plant.store.as_ref(), override_key(name)).await?;
    let held = held.ok_or_else(|| {
        Refusal::NotFound(format!("{name} has no override; `touchstone override` lists those there are"))
    })?;
    device.record.asked = device.record.asked.saturating_add(1);
    let txn = Txn::new()
        .unchanged(held.key.clone(), held.version)
        .delete(held.key)
        .unchanged(device.key.clone(), device.version)
        .put(device.key, stored(&device.record)?);
    let (revoked, txn) = revoke_excused(plant, txn, &device.record, actor).await?;
    let text = format!("its override ended; {revoked} certificates revoked");
    Ok(Draft::write((), txn, reach.deed(name.as_str(), &text)))
}

/// Revokes what the device earned by its override, connected or not; it is asked to prove itself, and what is
/// golden by now is trusted again. Returns how many certificates.
async fn revoke_excused(
    plant: &Plant,
    txn: Txn,
    device: &Device,
    actor: &Actor,
) -> Result<(usize, Txn), Refusal> {
    let (name, now) = (&device.name, plant.now());
    let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(name)).await?;
    let Some(mut attested) = attested else { return Ok((0, txn)) };
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let mut excused = BTreeSet::new();
    for record in results(plant, &attested.record).await {
        let zone = zones.zone(&record.zone);
        if zone.is_some_and(|zone| !judge(&record, &zone.policy(), None).refused.is_empty()) {
            excused.insert(record.zone);
        }
    }
    let (revoked, txn) =
        revoke(plant, txn, name, |zone| excused.contains(zone), now, "its override was ended").await?;
    if revoked == 0 {
        return Ok((0, txn));
    }
    let why = format!("its override was ended by {}", actor.name());
    (attested.record.decision, attested.record.lost) = (Decision::Refused, Some(why));
    let txn =
        txn.unchanged(attested.key.clone(), attested.version).put(attested.key, stored(&attested.record)?);
    Ok((revoked, trust::raise(plant, txn, now).await?))
}

/// The override of a device, while it holds.
pub async fn of(plant: &Plant, name: &DeviceName) -> Result<Option<OverrideRecord>, Refusal> {
    let held: Option<Held<OverrideRecord>> = fetch(plant.store.as_ref(), override_key(name)).await?;
    let now = plant.now();
    Ok(held.map(|held| held.record).filter(|record| now < record.excused.until))
}

/// Ends the override of a device with what `txn` makes of the device. Returns what is said of that.
pub(super) async fn ended_with(
    plant: &Plant,
    txn: Txn,
    name: &DeviceName,
) -> Result<(&'static str, Txn), Refusal> {
    let told = if of(plant, name).await?.is_some() { "; its override ended" } else { "" };
    Ok((told, txn.delete(override_key(name))))
}

/// An override in a sentence.
#[must_use]
pub fn words(record: &OverrideRecord) -> String {
    format!(
        "what it is refused for is accepted until {} by {} and {}: {}",
        record.excused.until, record.by, record.approved_by, record.reason
    )
}

/// Overrides that hold, of devices in sight.
pub async fn all(plant: &Plant, scope: &Scope) -> Result<Vec<OverrideRecord>, Refusal> {
    let now = plant.now();
    let mut all = Vec::new();
    let held: Vec<Held<OverrideRecord>> = list(plant.store.as_ref(), OVERRIDE).await?;
    for Held { record, .. } in held.into_iter().filter(|held| now < held.record.excused.until) {
        let device: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(&record.device)).await?;
        if device.is_some_and(|device| scope.sees(&device.record.zones)) {
            all.push(record);
        }
    }
    Ok(all)
}
