//! The clone alarm: a key is used that was followed by another, so there are two that have it.

use policy::id::DeviceName;

use super::{KeyUse, key_use, known, taken};
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::device::{BROKER, Device, Quarantine, Tpm};
use crate::record::{Held, stored};
use crate::session::Refusal;
use crate::session::admission::expect_tpm;
use crate::session::complete::commit;
use crate::session::issue::revoke;
use crate::session::proof::{Keyed, Proven};
use crate::store::Txn;
use crate::trust;

/// Stops both copies of a device: which of them is the device, only a person can find out.
pub(super) async fn stop_both(
    plant: &Plant,
    proven: &Proven,
    held: Held<Device>,
    (former, current): (u64, u64),
) -> Result<Refusal, Refusal> {
    let (now, name) = (plant.now(), &held.record.name);
    let tpm = proven.tpm().ok_or_else(|| Refusal::internal(format!("nothing stands for a TPM of {name}")))?;
    let reason =
        format!("clone alarm: its key number {former} was used after number {current}: it was copied");
    let stop = Quarantine { at: now, by: BROKER.to_owned(), reason: reason.clone(), beneath: None };
    let txn = expect_tpm(Txn::new().unchanged(held.key.clone(), held.version), proven);
    let (revoked, txn) = revoke(plant, txn, name, |_| true, now, "clone alarm").await?;
    let record = Tpm { quarantine: Some(stop), ..tpm.record.clone() };
    let txn = trust::raise(plant, txn.put(tpm.key.clone(), stored(&record)?), now).await?;
    let text = format!("{reason}; {revoked} certificates revoked");
    let event = Event::new(now, BROKER, "device.clone-alarm", name.as_str(), &text);
    commit(plant, txn.audit(event.entry())).await?;
    tracing::warn!(device.id = %name, reason, revoked, "stopped");
    Ok(Refusal::Quarantined { device: name.to_string(), since: now, by: BROKER.to_owned(), reason })
}

/// The alarm, if who asks to join as `name` without a token that counts has a former key of it: the box whose answer to
/// its first proof was lost has no other way to tell that somebody else went on in its place.
pub(super) async fn betrayed(
    plant: &Plant,
    proven: &Proven,
    by: &Keyed,
    name: &DeviceName,
) -> Result<Option<Refusal>, Refusal> {
    let (held, line) = known(plant, proven, name).await?;
    match key_use(plant, &held.record, line, by) {
        KeyUse::Copied(former) => stop_both(plant, proven, held, (former, line.generation)).await.map(Some),
        KeyUse::Repeated => Err(taken()),
        KeyUse::Its(_) | KeyUse::Nobodys => Ok(None),
    }
}
