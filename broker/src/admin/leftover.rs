//! What names a zone that is not there: left by an earlier one of that name.
//!
//! Promises: a zone begins clean. Nobody stands in it, and nobody may join it, who was let into another of its name.
//! Whatever puts a device, a token or a planned move into a zone expects that zone's version, so nothing is added while
//! there is none; what was added at the very moment of the removal is found here.

use policy::id::{DeviceName, ZoneName};

use crate::plant::Plant;
use crate::record::device::{Admission, DEVICE, Device, TOKEN, Token};
use crate::record::moving::{MOVE, PlannedMove};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::store::Txn;

/// Most tokens and planned moves that end with one new zone: they end in its transaction.
const MAX_ENDED: usize = 40;

/// `txn` for making the zone `name`, with the tokens and moves ended that would lead into it, and how many.
pub(super) async fn ended(plant: &Plant, name: &ZoneName, mut txn: Txn) -> Result<(usize, Txn), Refusal> {
    let store = plant.store.as_ref();
    let devices: Vec<Held<Device>> = list(store, DEVICE).await?;
    let stands = |held: &&Held<Device>| {
        held.record.admission == Admission::Admitted && held.record.zones.contains(name)
    };
    if let Some(device) = devices.iter().find(stands) {
        return Err(still_stands(&device.record.name, name));
    }
    // A retired device that is readmitted comes back into the zone that it knew, not into this one.
    let retired = devices.into_iter().filter(|held| held.record.zones.contains(name));
    let retired: Vec<Held<Device>> = retired.collect();
    let tokens: Vec<Held<Token>> = list(store, TOKEN).await?;
    let tokens = tokens.into_iter().filter(|held| held.record.zones.contains(name));
    let moves: Vec<Held<PlannedMove>> = list(store, MOVE).await?;
    let moves = moves.into_iter().filter(|held| held.record.to == *name);
    let left: Vec<_> = tokens
        .map(|held| (held.key, held.version))
        .chain(moves.map(|held| (held.key, held.version)))
        .collect();
    if left.len().saturating_add(retired.len()) > MAX_ENDED {
        return Err(Refusal::Conflict(format!(
            "{} join tokens, planned moves and retired devices belong to an earlier zone {name}, which was removed; choose another name, or wait until tokens expire",
            left.len().saturating_add(retired.len())
        )));
    }
    let count = left.len();
    for (key, version) in left {
        txn = txn.unchanged(key.clone(), version).delete(key);
    }
    for Held { key, version, record: mut device } in retired {
        device.zones.retain(|zone| zone != name);
        device.addresses.remove(name);
        txn = txn.unchanged(key.clone(), version).put(key, stored(&device)?);
    }
    Ok((count, txn))
}

fn still_stands(device: &DeviceName, zone: &ZoneName) -> Refusal {
    Refusal::Conflict(format!(
        "{device} was put into an earlier zone {zone} when that was removed; `touchstone device admit {device} --zone ZONE` puts it elsewhere, then make the zone"
    ))
}
