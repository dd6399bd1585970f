//! Another TPM under the name of a device whose mainboard was replaced.
//!
//! The former EK is barred for good, and a quarantine that it holds stays with it. What the device proved counts for
//! nothing any more: counters, evidence and overrides were those of the other TPM.

use policy::digest::Digest;
use policy::id::DeviceName;

use super::{Known, known};
use crate::admin::Actor;
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::change::{Draft, commit};
use crate::admin::overriding::ended_with;
use crate::plant::Plant;
use crate::record::boot::boot_key;
use crate::record::device::{Admission, Device, Pending, Prover, Tpm, attested_key, ek_key, pending_key};
use crate::record::idevid::idevid_key;
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::session::issue::revoke;
use crate::store::Txn;
use crate::trust;

/// What a replacement came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// The EK that is barred.
    pub former: Digest,
    /// Certificates that are revoked.
    pub revoked: usize,
}

/// Gives the device `name` the TPM with the EK `ek`.
pub async fn replace(
    plant: &Plant,
    actor: &Actor,
    (name, ek): (&DeviceName, &Digest),
    reason: &str,
    dry_run: bool,
) -> Result<Replaced, Refusal> {
    let reason = printable("reason", reason, MAX_REASON)?;
    commit(plant, || decide(plant, actor, (name, ek), reason, dry_run)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    (name, ek): (&DeviceName, &Digest),
    reason: &str,
    dry_run: bool,
) -> Result<Draft<Replaced>, Refusal> {
    let now = plant.now();
    let known = known(plant, actor.scope(), name).await?;
    // Its TPM may be barred: after a restore, a device has the one again that was replaced.
    if known.device.record.admission == Admission::Retired {
        return Err(Refusal::Retired(name.to_string()));
    }
    let reach = actor.reach(plant, &known.device.record.zones).await?;
    let former = known.device.record.ek;
    if former == *ek {
        return Err(Refusal::Conflict(format!("{name} has EK {ek} already")));
    }
    let (txn, next) = unowned(plant, known.expected(), name, ek).await?;
    let (revoked, txn) = revoke(plant, txn, name, |_| true, now, "its TPM was replaced").await?;
    let Known { device, tpm } = known;
    let barred = Tpm { device: None, retired: true, ..tpm.record };
    let txn = txn
        .put(tpm.key, stored(&barred)?)
        .put(ek_key(ek), stored(&next)?)
        .put(device.key, stored(&with_tpm(device.record, ek))?)
        .delete(pending_key(ek))
        .delete(attested_key(name))
        .delete(boot_key(name))
        .delete(idevid_key(name));
    let (ended, txn) = ended_with(plant, txn, name).await?;
    let text = format!(
        "{reason}; EK {former} is barred, {ek} takes its place, {revoked} certificates revoked{ended}"
    );
    let replaced = Replaced { former, revoked };
    let deed = reach.deed(name.as_str(), &text);
    Ok(Draft::unless(dry_run, replaced, trust::raise(plant, txn, now).await?, deed))
}

/// The record of a TPM that belongs to nobody yet, as that of `name`.
async fn unowned(plant: &Plant, txn: Txn, name: &DeviceName, ek: &Digest) -> Result<(Txn, Tpm), Refusal> {
    let waiting: Option<Held<Pending>> = fetch(plant.store.as_ref(), pending_key(ek)).await?;
    let key = ek_key(ek);
    let Some(held) = fetch::<Tpm>(plant.store.as_ref(), key.clone()).await? else {
        // The digest of one that waits may be copied from what it sent; of any other somebody read it on the device.
        let registered = waiting.is_none();
        let tpm = Tpm {
            device: Some(name.clone()),
            registered,
            quarantine: None,
            retired: false,
            manufacturer: None,
            other_eks: Vec::new(),
        };
        return Ok((txn.absent(key), tpm));
    };
    if let Some(owner) = &held.record.device {
        return Err(Refusal::Conflict(format!("EK {ek} belongs to {owner}; a TPM is one device's")));
    }
    if held.record.retired {
        return Err(Refusal::Conflict(format!("EK {ek} was replaced once and is barred for good")));
    }
    if let Some(stop) = &held.record.quarantine {
        let (since, by, reason) = (stop.at, stop.by.clone(), stop.reason.clone());
        return Err(Refusal::Quarantined { device: ek.to_string(), since, by, reason });
    }
    Ok((txn.unchanged(key, held.version), Tpm { device: Some(name.clone()), ..held.record }))
}

/// The device with nothing of what its former TPM proved. The counter goes on: open challenges end.
fn with_tpm(device: Device, ek: &Digest) -> Device {
    Device {
        ek: *ek,
        ak: None,
        prover: Prover::Tpm,
        counter: device.counter.saturating_add(1),
        answered: device.asked,
        services: std::collections::BTreeMap::new(),
        clock_excused: false,
        clear_expected: None,
        trust_sequence: 0,
        ..device
    }
}
