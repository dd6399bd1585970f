//! A device without a TPM joins by its IDevID, whose key signed for the first key in software.
//!
//! Promises: the name is that which the IDevID is registered for, and nobody else's; one that nobody registered waits,
//! unless its zones admit such boxes. A box that lost its keys joins again
//! by itself; whoever copied the IDevID key joins again as well, and the key that the box has then raises the clone alarm.

use policy::evidence::devid::DeviceIdentity;
use policy::evidence::key_order::Turn;

use super::unregistered::{self, LetIn};
use super::{Shown, of_nobody_else};
use crate::plant::Plant;
use crate::record::device::{Admission, Device, KeyLine, device_key, pending_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::session::admission::{Place, Placed, expect_tpm, let_wait, stopped};
use crate::session::challenge::Purpose;
use crate::session::proof::{Keyed, Proven, ProvenBy};
use crate::session::without_tpm::{created, followed, pace, takes};
use crate::store::Txn;

/// The IDevID by which a device without a TPM joins, if it does.
pub(in crate::session) fn by(proven: &Proven) -> Option<&DeviceIdentity> {
    let enrolls = proven.challenge().purpose == Purpose::Enroll && matches!(proven.by(), ProvenBy::Key(_));
    let identity = proven.idevid().and_then(Shown::identity).filter(|_| enrolls)?;
    (*proven.ek() == identity.certificate().box_digest()).then_some(identity)
}

/// Refuses a device whose IDevID is not believed and that has no token to join with instead.
pub(in crate::session) fn or_by_token(proven: &Proven) -> Result<(), Refusal> {
    match proven.idevid().and_then(Shown::against) {
        Some(why) if proven.statement().token.is_none() => Err(Refusal::NotEndorsed(format!(
            "the box's IDevID is not believed: {why}; correct it, or let the device join with a token"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The place of the device that joins by `identity`.
pub(in crate::session) async fn join(
    plant: &Plant,
    proven: &Proven,
    keyed: &Keyed,
    identity: &DeviceIdentity,
) -> Result<Place, Refusal> {
    if keyed.proof.key().0.as_slice() != proven.challenge().ak_name.0 {
        return Err(Refusal::EvidenceInvalid("the key is not the one this session began with".into()));
    }
    of_nobody_else(plant, proven).await?;
    let (box_, tpm) = (identity.certificate(), proven.tpm());
    if let Some(tpm) = tpm {
        stopped(proven.ek(), &tpm.record)?;
    }
    let Some(name) = tpm.and_then(|tpm| tpm.record.device.clone()) else {
        if let Some(let_in) = unregistered::let_in(plant, proven, identity).await? {
            return new(plant, proven, keyed, let_in).await.map(|placed| Place::Device(Box::new(placed)));
        }
        let what = format!("no TPM; IDevID {} by {}", box_.serial_number(), box_.manufacturer());
        return let_wait(plant, proven, what).await;
    };
    if proven.asked_name() != Some(&name) {
        return Err(Refusal::NotAdmitted(format!(
            "this box ({}) is registered as {name}; set `device` in attestor.toml to it",
            box_.label()
        )));
    }
    let held: Held<Device> = fetch(plant.store.as_ref(), device_key(&name))
        .await?
        .ok_or_else(|| Refusal::internal(format!("the IDevID of {name} is known, the device is not")))?;
    placed(plant, proven, keyed, held).await.map(|placed| Place::Device(Box::new(placed)))
}

/// A box that nobody registered and that its zones admit.
async fn new(plant: &Plant, proven: &Proven, keyed: &Keyed, let_in: LetIn) -> Result<Placed, Refusal> {
    let LetIn { name, zones, by, mut txn } = let_in;
    for zone in &zones {
        txn = takes(plant, zone, txn).await?;
    }
    if fetch::<Device>(plant.store.as_ref(), device_key(&name)).await?.is_some() {
        return Err(Refusal::Conflict(format!("the name {name} belongs to another device; choose another")));
    }
    let txn = txn.delete(pending_key(proven.ek()));
    created(plant, (proven, keyed), (name, zones, by), txn).await
}

async fn placed(
    plant: &Plant,
    proven: &Proven,
    keyed: &Keyed,
    held: Held<Device>,
) -> Result<Placed, Refusal> {
    let name = &held.record.name;
    if held.record.ek != *proven.ek() {
        return Err(Refusal::Conflict(format!("the name {name} belongs to another box by now")));
    }
    if (held.record.counter, Some(name)) != (proven.challenge().counter, proven.challenge().device.as_ref()) {
        return Err(Refusal::MustReattest(
            "the challenge was used already, or another one was answered since",
        ));
    }
    if held.record.admission == Admission::Retired {
        return Err(Refusal::Retired(name.to_string()));
    }
    let mut txn = expect_tpm(Txn::new().unchanged(held.key.clone(), held.version), proven);
    for zone in &held.record.zones {
        txn = takes(plant, zone, txn).await?;
    }
    let line = held.record.key_line().unwrap_or_default();
    pace::allowed(line, plant.now())?;
    let rebound = held.record.ak.is_some();
    // The line of keys goes on, so that whoever has an earlier one of it betrays that there are two.
    let used =
        Turn { epoch: plant.keys.load().epoch, line: held.record.admitted_at, generation: line.generation };
    let line = KeyLine { first: Some(keyed.proof.key()), ..line };
    Ok(Placed { device: followed(plant, &keyed.proof, held.record, line, used), rebound, txn })
}
