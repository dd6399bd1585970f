//! Remembers the boot before the last one, and reads it back to learn from.

use policy::appraisal::measurements::Origin;
use policy::evidence::HardwareProof;
use policy::evidence::linux::LinuxLogs;
use policy::evidence::recorded::{RecordedEvidence, StoredLogs};
use policy::id::DeviceName;

use super::challenge::SELECTION;
use super::kept;
use super::proof::pcr_values;
use crate::plant::Plant;
use crate::record::boot::{EarlierBoot, boot_key};
use crate::record::device::Attested;
use crate::record::{fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::store::blobs::MAX_BLOB;

/// What `last` tells, if the device booted since: an earlier boot. Of other software nothing is kept: what differs from it was
/// changed, and says nothing about stability. Nor is anything of an older broker.
pub(super) fn over(last: &Attested, now: &Attested, rebound: bool) -> Option<EarlierBoot> {
    let same = !rebound && last.reset_count != now.reset_count && last.running() == now.running();
    let logs = last.logs.as_ref().filter(|_| same)?;
    Some(EarlierBoot {
        at: last.at,
        reset_count: last.reset_count,
        evidence: Some(last.evidence),
        firmware: logs.firmware,
        userspace: logs.userspace,
    })
}

/// Adds to `txn` which boot is the earlier one now, if the device booted since `last`.
pub(super) fn remember(
    txn: Txn,
    name: &DeviceName,
    last: Option<&Attested>,
    now: &Attested,
    rebound: bool,
) -> Result<Txn, Refusal> {
    let Some(last) = last.filter(|last| last.reset_count != now.reset_count) else { return Ok(txn) };
    match over(last, now, rebound) {
        Some(boot) => Ok(txn.put(boot_key(name), stored(&boot)?)),
        None => Ok(txn.delete(boot_key(name))),
    }
}

/// The earlier boot of a device, if one is known whose logs are still there and replay.
pub(crate) async fn earlier(plant: &Plant, name: &DeviceName) -> Result<Option<RecordedEvidence>, Refusal> {
    let held = fetch::<EarlierBoot>(plant.store.as_ref(), boot_key(name)).await?;
    let Some(boot) = held.map(|held| held.record) else { return Ok(None) };
    let read = async |log| match log {
        Some(log) => plant.blobs.fetch(log, MAX_BLOB).await.ok(),
        None => Some(Vec::new()),
    };
    let (Some(firmware), Some(userspace)) = (read(boot.firmware).await, read(boot.userspace).await) else {
        return Ok(None);
    };
    let Some(evidence) = boot.evidence else { return Ok(None) };
    let Ok(request) = kept::own(plant, evidence).await else { return Ok(None) };
    let Ok(pcrs) = pcr_values(&request.pcr_values, &SELECTION) else { return Ok(None) };
    let linux = LinuxLogs { userspace: Some(&userspace), images: None };
    let logs = StoredLogs { linux, ima: None };
    // It is compared and nothing is learned from it, so it need not be said what vouches for its TPM.
    let origin = Origin::Device(HardwareProof::Unproven);
    Ok(RecordedEvidence::replay_all(pcrs, &firmware, &logs, origin).ok())
}
