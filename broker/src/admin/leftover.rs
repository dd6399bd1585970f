//! What names a zone that is not there: left by an earlier one of that name.
//!
//! Promises: a zone begins clean. Nobody stands in it, and nobody may join it, who was let into another of its name.
//! Whatever puts a device, a token or a planned move into a zone expects that zone's version, so nothing is added while
//! there is none; what was added at the very moment of the removal is found here.

use std::collections::BTreeSet;

use policy::id::{DeviceName, ZoneName};

use crate::plant::Plant;
use crate::record::device::{Admission, DEVICE, Device, TOKEN, Token};
use crate::record::moving::{MOVE, PlannedMove};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::store::Txn;

/// Most tokens and planned moves that end with new zones: they end in their transaction.
const MAX_ENDED: usize = 40;

/// `txn` for making the zones `names`, with the tokens and moves ended that would lead into one of them, and how many. All
/// that are made at once are named at once: one token may name several.
pub(super) async fn ended(
    plant: &Plant,
    names: &BTreeSet<ZoneName>,
    mut txn: Txn,
) -> Result<(usize, Txn), Refusal> {
    if names.is_empty() {
        return Ok((0, txn));
    }
    let store = plant.store.as_ref();
    let one_of = |zones: &[ZoneName]| zones.iter().find(|zone| names.contains(*zone)).cloned();
    let devices: Vec<Held<Device>> = list(store, DEVICE).await?;
    for Held { record: device, .. } in devices.iter() {
        match one_of(&device.zones) {
            Some(zone) if device.admission == Admission::Admitted => {
                return Err(still_stands(&device.name, &zone));
            }
            _ => {}
        }
    }
    // A retired device that is readmitted comes back into the zone that it knew, not into this one.
    let retired = devices.into_iter().filter(|held| one_of(&held.record.zones).is_some());
    let retired: Vec<Held<Device>> = retired.collect();
    let tokens: Vec<Held<Token>> = list(store, TOKEN).await?;
    let tokens = tokens.into_iter().filter(|held| one_of(&held.record.zones).is_some());
    let moves: Vec<Held<PlannedMove>> = list(store, MOVE).await?;
    let moves = moves.into_iter().filter(|held| names.contains(&held.record.to));
    let left: Vec<_> = tokens
        .map(|held| (held.key, held.version))
        .chain(moves.map(|held| (held.key, held.version)))
        .collect();
    if left.len().saturating_add(retired.len()) > MAX_ENDED {
        return Err(Refusal::Conflict(format!(
            "{} join tokens, planned moves and retired devices belong to an earlier zone {}, which was removed; choose another name, or wait until tokens expire",
            left.len().saturating_add(retired.len()),
            names.iter().map(ZoneName::as_str).collect::<Vec<_>>().join(" or ")
        )));
    }
    let count = left.len();
    for (key, version) in left {
        txn = txn.unchanged(key.clone(), version).delete(key);
    }
    for Held { key, version, record: mut device } in retired {
        device.zones.retain(|zone| !names.contains(zone));
        device.addresses.retain(|zone, _| !names.contains(zone));
        txn = txn.unchanged(key.clone(), version).put(key, stored(&device)?);
    }
    Ok((count, txn))
}

fn still_stands(device: &DeviceName, zone: &ZoneName) -> Refusal {
    Refusal::Conflict(format!(
        "{device} was put into an earlier zone {zone} when that was removed; `touchstone device admit {device} --zone ZONE` puts it elsewhere, then make the zone"
    ))
}
