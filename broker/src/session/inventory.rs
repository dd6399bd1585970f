//! What a device says of itself, and its manufacturer of it, for the inventory.
//!
//! An administrator's word stays, the manufacturer's goes before the device's own.

use policy::id::DeviceName;
use policy::time::UnixTime;

use super::proof::Proven;
use super::{Refusal, idevid};
use crate::plant::Plant;
use crate::record::device::{Inventory, InventoryValue, MAX_INVENTORY, MAX_VALUE, Source, inventory_key};
use crate::record::{Held, fetch, stored};
use crate::store::Txn;

/// Takes over what is new. A value of the manufacturer's that is longer than any of an inventory is left out.
pub(super) async fn take(
    plant: &Plant,
    txn: Txn,
    proven: &Proven,
    name: &DeviceName,
    now: UnixTime,
) -> Result<Txn, Refusal> {
    let key = inventory_key(name);
    let held: Option<Held<Inventory>> = fetch(plant.store.as_ref(), key.clone()).await?;
    let mut inventory = held.map(|held| held.record).unwrap_or_default();
    let attested = idevid::properties(proven).into_iter().filter(|(_, value)| value.len() <= MAX_VALUE);
    let attested = attested.map(|(property, value)| (property, value, Source::Attested));
    let claims = &proven.statement().claims;
    let declared = claims.iter().map(|(claim, value)| (claim.as_str(), value.as_str(), Source::Declared));
    let mut changed = false;
    for (property, value, source) in attested.chain(declared) {
        changed |= put(&mut inventory, property, value, source, now);
    }
    Ok(if changed { txn.put(key, stored(&inventory)?) } else { txn })
}

/// Says whether that is news.
fn put(inventory: &mut Inventory, property: &str, value: &str, source: Source, now: UnixTime) -> bool {
    let stays = |known: &InventoryValue| match (known.source, source) {
        (Source::Vouched, _) | (Source::Attested, Source::Declared) => true,
        (Source::Declared, Source::Attested | Source::Vouched) => false,
        (Source::Attested | Source::Declared, _) => known.value == value,
    };
    match inventory.values.get(property) {
        Some(known) if stays(known) => return false,
        None if inventory.values.len() >= MAX_INVENTORY => return false,
        Some(_) | None => {}
    }
    let value = InventoryValue { value: value.to_owned(), source, at: now };
    inventory.values.insert(property.to_owned(), value);
    true
}
