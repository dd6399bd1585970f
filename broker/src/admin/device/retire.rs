//! Takes a device out of service. Its name stays taken, and its TPM is barred until somebody readmits it.

use policy::id::DeviceName;

use super::{Known, known};
use crate::admin::Actor;
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::change::{Draft, commit};
use crate::admin::overriding::ended_with;
use crate::plant::Plant;
use crate::record::device::Admission;
use crate::record::moving::move_key;
use crate::record::stored;
use crate::session::Refusal;
use crate::session::issue::revoke;
use crate::trust;

/// Retires a device. Returns how many certificates are revoked.
pub async fn retire(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    reason: &str,
    dry_run: bool,
) -> Result<usize, Refusal> {
    let reason = printable("reason", reason, MAX_REASON)?;
    commit(plant, || decide(plant, actor, name, reason, dry_run)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    reason: &str,
    dry_run: bool,
) -> Result<Draft<usize>, Refusal> {
    let now = plant.now();
    let known = super::stop::not_retired(known(plant, actor.scope(), name).await?)?;
    let reach = actor.reach(plant, &known.device.record.zones).await?;
    // Whoever is readmitted comes back without what was excused before.
    let txn = known.expected().delete(move_key(name));
    let (ended, txn) = ended_with(plant, txn, name).await?;
    let (revoked, txn) = revoke(plant, txn, name, |_| true, now, "retired").await?;
    let Known { mut device, mut tpm } = known;
    device.record.admission = Admission::Retired;
    device.record.end_move();
    // Another device may have them now.
    device.record.addresses.clear();
    tpm.record.retired = true;
    let deed = reach.deed(name.as_str(), &format!("{reason}; {revoked} certificates revoked{ended}"));
    let txn = txn.put(tpm.key, stored(&tpm.record)?).put(device.key, stored(&device.record)?);
    Ok(Draft::unless(dry_run, revoked, trust::raise(plant, txn, now).await?, deed))
}
