//! Remembers the boot before the last one, and reads it back to learn from.

use policy::appraisal::measurements::Origin;
use policy::digest::Digest;
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

/// Adds to `txn` that what `last` tells is an earlier boot now, if the device booted since. Of other software
/// nothing is kept: what differs from it was changed, and says nothing about stability.
pub(super) async fn remember(
    plant: &Plant,
    txn: Txn,
    name: &DeviceName,
    last: Option<&Attested>,
    now: &Attested,
    rebound: bool,
) -> Result<Txn, Refusal> {
    let Some(last) = last.filter(|last| last.reset_count != now.reset_count) else { return Ok(txn) };
    let same = !rebound && last.running() == now.running();
    match if same { of(plant, last).await } else { None } {
        Some(boot) => Ok(txn.put(boot_key(name), stored(&boot)?)),
        None => Ok(txn.delete(boot_key(name))),
    }
}

/// What `attested` measured; nothing if its evidence is gone or of an older broker: nobody loses trust by that.
async fn of(plant: &Plant, attested: &Attested) -> Option<EarlierBoot> {
    let logs = attested.logs.as_ref()?;
    let request = kept::own(plant, attested).await.ok()?;
    let values = request.pcr_values.iter().map(|value| Digest::try_from(value.as_slice()));
    Some(EarlierBoot {
        at: attested.at,
        reset_count: attested.reset_count,
        values: values.collect::<Result<_, _>>().ok()?,
        firmware: logs.firmware,
        userspace: logs.userspace,
    })
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
    let values: Vec<Vec<u8>> = boot.values.iter().map(|value| value.0.to_vec()).collect();
    let Ok(pcrs) = pcr_values(&values, &SELECTION) else { return Ok(None) };
    let linux = LinuxLogs { userspace: Some(&userspace), images: None };
    let logs = StoredLogs { linux, ima: None };
    // It is compared and nothing is learned from it, so it need not be said what vouches for its TPM.
    let origin = Origin::Device(HardwareProof::Unproven);
    Ok(RecordedEvidence::replay_all(pcrs, &firmware, &logs, origin).ok())
}
