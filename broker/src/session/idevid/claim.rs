//! A device that was registered by its IDevID comes for the first time, and has a TPM.

use super::Shown;
use crate::plant::Plant;
use crate::record::device::{Device, Tpm, device_key, ek_key, pending_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::session::proof::Proven;
use crate::store::Txn;

/// The device that is registered by the IDevID which vouches for the TPM of `proven`, as that TPM's from now on, with a
/// transaction that expects it so far.
pub(in crate::session) async fn claim(
    plant: &Plant,
    proven: &Proven,
) -> Result<Option<(Device, Txn)>, Refusal> {
    let Some(identity) = proven.idevid().and_then(Shown::bound) else { return Ok(None) };
    let digest = identity.certificate().box_digest();
    let registered: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(&digest)).await?;
    let Some(Held { record: Tpm { device: Some(name), .. }, version, key }) = registered else {
        return Ok(None);
    };
    let held: Held<Device> = fetch(plant.store.as_ref(), device_key(&name))
        .await?
        .ok_or_else(|| Refusal::internal(format!("the IDevID of {name} is known, the device is not")))?;
    let txn = Txn::new()
        .unchanged(key.clone(), version)
        .delete(key)
        .unchanged(held.key, held.version)
        .delete(pending_key(proven.ek()));
    Ok(Some((Device { ek: *proven.ek(), ..held.record }, txn)))
}
