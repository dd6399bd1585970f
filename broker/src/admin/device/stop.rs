//! Quarantine, readmission, an announced Clear, and "attest now".

use std::ops::RangeInclusive;

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Zone;

use super::{Known, known};
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::change::{Draft, commit};
use crate::admin::{Actor, Seen};
use crate::plant::Plant;
use crate::record::device::{Admission, Device, Quarantine};
use crate::record::zone::zone_key;
use crate::record::{fetch, stored};
use crate::session::Refusal;
use crate::session::issue::revoke;
use crate::store::Txn;
use crate::trust;

/// For how many seconds a Clear may be announced: a service visit, not a standing permission.
const CLEAR_LIFETIME: RangeInclusive<u32> = 60..=7 * 86_400;

/// Stops a device: no new certificate, and those it holds are revoked. Returns how many.
pub async fn quarantine(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    reason: &str,
) -> Result<usize, Refusal> {
    let reason = printable("reason", reason, MAX_REASON)?;
    commit(plant, || stop(plant, actor, name, reason)).await
}

async fn stop(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    reason: &str,
) -> Result<Draft<usize>, Refusal> {
    let now = plant.now();
    let Known { device, mut tpm } = not_retired(known(plant, actor.scope(), name).await?)?;
    let reach = actor.reach(plant, &device.record.zones).await?;
    let txn = Known { device: device.clone(), tpm: tpm.clone() }.expected();
    let (revoked, txn) = revoke(plant, txn, name, |_| true, now, "quarantined").await?;
    // Who stopped it first, and why, stays on record, but for an alarm that a person looked at already.
    let by = actor.name().to_owned();
    let looked_at = |stop: &Quarantine| stop.is_clone_alarm() && device.record.ak.is_none();
    let (alarm, first) = match tpm.record.quarantine.take() {
        Some(stop) if looked_at(&stop) => (Some(Box::new(stop)), None),
        first => (None, first),
    };
    let anew = Quarantine { at: now, by, reason: reason.to_owned(), beneath: alarm };
    tpm.record.quarantine = Some(first.unwrap_or(anew));
    let deed = reach.deed(name.as_str(), &format!("{reason}; {revoked} certificates revoked"));
    let txn = txn.put(tpm.key, stored(&tpm.record)?);
    Ok(Draft::write(revoked, trust::raise(plant, txn, now).await?, deed))
}

/// Ends a quarantine, or takes a retired device back into service. The device is trusted when it proved itself again; counters of its TPM that went
/// back are forgiven once, because a repair may have cleared it. After a clone alarm the line of keys ends that two have:
/// the device joins again with a token that is made since the alarm, which alone lifts the quarantine. Gives the command
/// for that.
pub async fn readmit(
    plant: &Plant,
    actor: &Actor,
    (name, seen): (&DeviceName, Option<&Seen>),
    reason: &str,
) -> Result<Option<String>, Refusal> {
    let reason = printable("reason", reason, MAX_REASON)?;
    commit(plant, || release(plant, actor, (name, seen), reason)).await
}

async fn release(
    plant: &Plant,
    actor: &Actor,
    (name, seen): (&DeviceName, Option<&Seen>),
    reason: &str,
) -> Result<Draft<Option<String>>, Refusal> {
    let mut known = known(plant, actor.scope(), name).await?;
    known.expected_as(seen)?;
    let reach = actor.reach(plant, &known.device.record.zones).await?;
    let txn = known.expected();
    // `retire` bars both. A TPM that is barred alone was replaced, and is the device's again by a restore.
    if known.tpm.record.retired && known.device.record.admission == Admission::Admitted {
        return Err(Refusal::Conflict(format!(
            "the TPM of {name} was replaced and is barred for good; give {name} its new one with `touchstone device replace`"
        )));
    }
    let (gone, txn) = forget_removed(plant, &mut known.device.record, txn).await?;
    let Known { mut device, mut tpm } = known;
    tpm.record.retired = false;
    device.record.admission = Admission::Admitted;
    if let Some(alarm) = tpm.record.quarantine.as_mut().and_then(|stop| stop.beneath.take()) {
        tpm.record.quarantine = Some(Quarantine { at: plant.now(), ..*alarm });
    }
    let alarm = tpm.record.quarantine.as_ref().filter(|stop| stop.is_clone_alarm());
    let next = match alarm {
        Some(stop) => {
            end_line(&mut device.record, stop.at);
            Some(join_command(&device.record))
        }
        None => {
            tpm.record.quarantine = None;
            device.record.clock_excused = true;
            device.record.asked = device.record.asked.saturating_add(1);
            let nowhere = device.record.zones.is_empty();
            nowhere.then(|| format!("touchstone device admit {name} --zone ZONE"))
        }
    };
    let txn = txn.put(tpm.key, stored(&tpm.record)?).put(device.key, stored(&device.record)?);
    // What a device offers in its zones shows in trust files.
    let txn = trust::raise(plant, txn, plant.now()).await?;
    Ok(Draft::write(next, txn, reach.deed(name.as_str(), &format!("{reason}{gone}"))))
}

/// Takes out of `device` the zones that were removed while it was retired: a later zone of the same name is another. Says
/// which, and what it is based on.
async fn forget_removed(plant: &Plant, device: &mut Device, mut txn: Txn) -> Result<(String, Txn), Refusal> {
    let mut gone = Vec::new();
    for zone in std::mem::take(&mut device.zones) {
        match fetch::<Zone>(plant.store.as_ref(), zone_key(&zone)).await? {
            Some(held) => {
                txn = txn.unchanged(held.key, held.version);
                device.zones.push(zone);
            }
            None => {
                txn = txn.absent(zone_key(&zone));
                device.addresses.remove(&zone);
                gone.push(zone);
            }
        }
    }
    let names: Vec<&str> = gone.iter().map(ZoneName::as_str).collect();
    let said = match names.is_empty() {
        true => String::new(),
        false => format!("; not in {}, removed meanwhile", names.join(", ")),
    };
    Ok((said, txn))
}

/// No key of the device counts any more, nor a token from before `since`. Open challenges end.
fn end_line(device: &mut Device, since: UnixTime) {
    device.ak = None;
    device.end_move();
    device.admitted_at = device.admitted_at.max(since);
    device.counter = device.counter.saturating_add(1);
}

/// What lets a device without a TPM join again.
pub(super) fn join_command(device: &Device) -> String {
    let mut device = device.clone();
    device.end_move();
    let zones: Vec<&str> = device.zones.iter().map(ZoneName::as_str).collect();
    format!(
        "touchstone token create --without-tpm --device {} --zone {}",
        device.name,
        zones.join(" --zone ")
    )
}

/// Announces that a device's TPM is to be cleared within `lifetime` seconds: the first fall of its reset count
/// until then is no alarm. Any other disorder of its clock still is one. Returns when the announcement ends.
pub async fn expect_clear(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    lifetime: u32,
    reason: &str,
) -> Result<UnixTime, Refusal> {
    let reason = printable("reason", reason, MAX_REASON)?;
    if !CLEAR_LIFETIME.contains(&lifetime) {
        return Err(Refusal::malformed(format!(
            "a Clear is announced for {} to {} seconds, not for {lifetime}",
            CLEAR_LIFETIME.start(),
            CLEAR_LIFETIME.end()
        )));
    }
    commit(plant, || announce(plant, actor, name, lifetime, reason)).await
}

async fn announce(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    lifetime: u32,
    reason: &str,
) -> Result<Draft<UnixTime>, Refusal> {
    let now = plant.now();
    let known = not_retired(known(plant, actor.scope(), name).await?)?;
    let reach = actor.reach(plant, &known.device.record.zones).await?;
    let txn = known.expected();
    let mut device = known.device;
    let until = now.plus(u64::from(lifetime));
    device.record.clear_expected = Some(until);
    // A device that was cleared already waits for nothing else.
    device.record.asked = device.record.asked.saturating_add(1);
    let deed = reach.deed(name.as_str(), &format!("a Clear is expected until {until}: {reason}"));
    Ok(Draft::write(until, txn.put(device.key, stored(&device.record)?), deed))
}

/// Asks a device to prove itself now.
pub async fn attest_now(plant: &Plant, actor: &Actor, name: &DeviceName) -> Result<(), Refusal> {
    commit(plant, || ask(plant, actor, name)).await
}

async fn ask(plant: &Plant, actor: &Actor, name: &DeviceName) -> Result<Draft<()>, Refusal> {
    let known = not_retired(known(plant, actor.scope(), name).await?)?;
    let reach = actor.reach(plant, &known.device.record.zones).await?;
    if let Some(stop) = &known.tpm.record.quarantine {
        return Err(Refusal::Quarantined {
            device: name.to_string(),
            since: stop.at,
            by: stop.by.clone(),
            reason: stop.reason.clone(),
        });
    }
    if known.device.record.ak.is_none() {
        return Err(Refusal::NotFound(format!(
            "{name} is registered and has not come yet; start the attestor on it"
        )));
    }
    let txn = known.expected();
    let mut device = known.device;
    device.record.asked = device.record.asked.saturating_add(1);
    let deed = reach.deed(name.as_str(), "asked to prove itself");
    Ok(Draft::write((), txn.put(device.key, stored(&device.record)?), deed))
}

/// A device that is in service.
pub(in crate::admin) fn not_retired(known: Known) -> Result<Known, Refusal> {
    if known.tpm.record.retired || known.device.record.admission == Admission::Retired {
        return Err(Refusal::Retired(known.device.record.name.to_string()));
    }
    Ok(known)
}
