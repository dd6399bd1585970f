//! Registers devices by the EK of their TPM, from `identify` on the device or a supplier's list.
//!
//! The whole list is compared with what is known before anything is written, and every conflict is
//! told at once. It is then written in steps; a step that fails leaves those before it registered, and
//! the same list can be imported again.

use std::collections::{BTreeMap, BTreeSet};

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;

use super::existing_zones;
use crate::admin::Actor;
use crate::admin::bounds::printable;
use crate::admin::change::{Draft, commit};
use crate::admin::reach::{Deed, Reach};
use crate::admin::second::wait_if_asked;
use crate::plant::Plant;
use crate::record::device::{
    Admission, Device, Inventory, InventoryValue, MAX_INVENTORY, MAX_VALUE, MAX_ZONES, Source, Tpm,
    device_key, ek_key, inventory_key, pending_key,
};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::{MAX_TXN_KEYS, Txn};

/// Most devices of one request: the tool sends 500 at a time.
pub const MAX_ENTRIES: usize = 1000;
/// Conflicts that one refusal names.
const MAX_CONFLICTS: usize = 50;
/// Devices of one transaction.
const STEP: usize = 7;
/// Keys of one device: itself, its TPM, its inventory, its pending record, its audit event.
const KEYS: usize = 5;
/// Keys of an approval: the change, its audit event.
const APPROVAL: usize = 2;
const _: () = assert!(STEP * (KEYS + MAX_ZONES) + APPROVAL <= MAX_TXN_KEYS);

/// A device of the list.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: DeviceName,
    /// Its zones.
    pub zones: Vec<ZoneName>,
    /// Digest of its EK.
    pub ek: Digest,
    /// What the list says about it.
    pub inventory: BTreeMap<String, String>,
}

/// What an import came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Devices, or EKs of known devices, that are new.
    pub created: usize,
    /// Devices that were known like this.
    pub unchanged: usize,
}

/// Registers `entries`, or, for a dry run, says what that would come to.
pub async fn import(
    plant: &Plant,
    actor: &Actor,
    entries: &[Entry],
    dry_run: bool,
) -> Result<Imported, Refusal> {
    if entries.len() > MAX_ENTRIES {
        return Err(Refusal::malformed(format!(
            "{} devices; import at most {MAX_ENTRIES} at once",
            entries.len()
        )));
    }
    entries.iter().try_for_each(bounded)?;
    distinct(entries)?;
    let mut conflicts = Vec::new();
    let (mut new, mut touched) = (Vec::new(), Vec::new());
    for entry in entries {
        match standing(plant, entry).await? {
            Standing::New(_) => {
                new.push(entry);
                touched.push(entry.zones.clone());
            }
            Standing::Unvouched(_, zones) => {
                new.push(entry);
                touched.push(zones);
            }
            Standing::Same => {}
            Standing::Conflict(why) => conflicts.push(why),
        }
        existing_zones(plant, &entry.zones, Txn::new()).await?;
    }
    refuse(conflicts)?;
    let done = Imported { created: new.len(), unchanged: entries.len().saturating_sub(new.len()) };
    if new.is_empty() {
        return Ok(done);
    }
    let reach = reach(plant, actor, &touched).await?;
    if !dry_run {
        wait(plant, &reach, &new).await?;
        for step in new.chunks(STEP) {
            commit(plant, || register(plant, &reach, step)).await?;
        }
    }
    Ok(done)
}

/// The reach over every device of the list. A device without zones touches the plant, whatever the others do.
async fn reach(plant: &Plant, actor: &Actor, touched: &[Vec<ZoneName>]) -> Result<Reach, Refusal> {
    if touched.iter().any(Vec::is_empty) {
        actor.reach(plant, &[]).await?;
    }
    actor.reach(plant, &touched.concat()).await
}

/// Lets the whole list wait for a second person, not its first step.
async fn wait(plant: &Plant, reach: &Reach, new: &[&Entry]) -> Result<(), Refusal> {
    let Some((first, others)) = new.split_first() else { return Ok(()) };
    let text = |entry: &Entry| format!("registered with EK {}", entry.ek);
    let deed = reach.deed(first.name.as_str(), &text(first));
    let deed = others.iter().fold(deed, |deed, entry| deed.and(entry.name.as_str(), &text(entry)));
    wait_if_asked(plant, &deed).await
}

fn bounded(entry: &Entry) -> Result<(), Refusal> {
    if entry.inventory.len() > MAX_INVENTORY {
        return Err(Refusal::malformed(format!(
            "{}: {} inventory values, at most {MAX_INVENTORY}",
            entry.name,
            entry.inventory.len()
        )));
    }
    for (name, value) in &entry.inventory {
        printable(&format!("{}: inventory name", entry.name), name, MAX_VALUE)?;
        printable(&format!("{}: {name}", entry.name), value, MAX_VALUE)?;
    }
    Ok(())
}

fn distinct(entries: &[Entry]) -> Result<(), Refusal> {
    let (mut names, mut eks) = (BTreeSet::new(), BTreeSet::new());
    let mut twice = Vec::new();
    for entry in entries {
        if !names.insert(&entry.name) {
            twice.push(format!("the name {} stands twice in the list", entry.name));
        }
        if !eks.insert(entry.ek) {
            twice.push(format!("EK {} stands twice in the list", entry.ek));
        }
    }
    refuse(twice)
}

fn refuse(mut conflicts: Vec<String>) -> Result<(), Refusal> {
    if conflicts.is_empty() {
        return Ok(());
    }
    let more = conflicts.len().saturating_sub(MAX_CONFLICTS);
    conflicts.truncate(MAX_CONFLICTS);
    if more > 0 {
        conflicts.push(format!("and {more} more"));
    }
    Err(Refusal::Conflict(format!("nothing was registered: {}", conflicts.join("; "))))
}

/// How an entry compares with what is known.
enum Standing {
    /// It is new; the TPM may be known without a device.
    New(Option<Held<Tpm>>),
    /// It was admitted by this name and EK, into these zones, and nobody registered the EK yet.
    Unvouched(Held<Tpm>, Vec<ZoneName>),
    /// It is there already, by this name and EK, registered.
    Same,
    /// Name or EK belong to another.
    Conflict(String),
}

async fn standing(plant: &Plant, entry: &Entry) -> Result<Standing, Refusal> {
    let store = plant.store.as_ref();
    let device: Option<Held<Device>> = fetch(store, device_key(&entry.name)).await?;
    let tpm: Option<Held<Tpm>> = fetch(store, ek_key(&entry.ek)).await?;
    Ok(match (device, tpm) {
        (Some(device), _) if device.record.ek != entry.ek => Standing::Conflict(format!(
            "{} belongs to EK {}, the list says {}",
            entry.name, device.record.ek, entry.ek
        )),
        (Some(_), Some(tpm)) if tpm.record.registered => Standing::Same,
        (Some(device), Some(tpm)) => Standing::Unvouched(tpm, device.record.zones),
        (Some(_), None) => Standing::Conflict(format!("the TPM of {} is not known", entry.name)),
        (None, Some(tpm)) if tpm.record.retired => {
            Standing::Conflict(format!("EK {} ({}) was retired for good", entry.ek, entry.name))
        }
        (None, Some(tpm)) => match &tpm.record.device {
            Some(owner) => Standing::Conflict(format!(
                "EK {} is {owner}'s, the list gives it to {}",
                entry.ek, entry.name
            )),
            None => Standing::New(Some(tpm)),
        },
        (None, None) => Standing::New(None),
    })
}

async fn register(plant: &Plant, reach: &Reach, step: &[&Entry]) -> Result<Draft<()>, Refusal> {
    let (now, actor) = (plant.now(), reach.actor());
    let (mut txn, mut deed): (Txn, Option<Deed>) = (Txn::new(), None);
    for entry in step {
        let text: String;
        match standing(plant, entry).await? {
            Standing::New(tpm) => {
                let (zones, next) = existing_zones(plant, &entry.zones, txn).await?;
                txn = add(next, entry, zones, tpm, actor, now)?;
                text = format!("registered with EK {}", entry.ek);
            }
            Standing::Unvouched(tpm, _) => {
                txn = vouch(txn, tpm)?;
                text = format!("EK {} is registered from now on", entry.ek);
            }
            Standing::Same => continue,
            Standing::Conflict(why) => return Err(Refusal::Conflict(why)),
        }
        deed = Some(match deed {
            Some(deed) => deed.and(entry.name.as_str(), &text),
            None => reach.deed(entry.name.as_str(), &text),
        });
    }
    Ok(match deed {
        Some(deed) => Draft::write((), txn, deed),
        None => Draft::nothing(()),
    })
}

fn add(
    txn: Txn,
    entry: &Entry,
    zones: Vec<ZoneName>,
    tpm: Option<Held<Tpm>>,
    actor: &Actor,
    now: UnixTime,
) -> Result<Txn, Refusal> {
    let (device_key, ek_key) = (device_key(&entry.name), ek_key(&entry.ek));
    let device = new_device(entry.name.clone(), entry.ek, zones, actor, now);
    let txn = match &tpm {
        Some(held) => txn.unchanged(ek_key.clone(), held.version),
        None => txn.absent(ek_key.clone()),
    };
    // A quarantine is held by the EK and outlives everything.
    let manufacturer = tpm.as_ref().and_then(|held| held.record.manufacturer);
    let quarantine = tpm.and_then(|held| held.record.quarantine);
    let tpm =
        Tpm { device: Some(entry.name.clone()), registered: true, quarantine, retired: false, manufacturer };
    let value = |value: &String| InventoryValue { value: value.clone(), source: Source::Vouched, at: now };
    let values = entry.inventory.iter().map(|(name, text)| (name.clone(), value(text))).collect();
    Ok(txn
        .absent(device_key.clone())
        .put(device_key, stored(&device)?)
        .put(ek_key, stored(&tpm)?)
        .put(inventory_key(&entry.name), stored(&Inventory { values })?)
        .delete(pending_key(&entry.ek)))
}

/// Registers the EK of a device that was admitted without: zones and inventory stay as they are.
fn vouch(txn: Txn, tpm: Held<Tpm>) -> Result<Txn, Refusal> {
    let registered = Tpm { registered: true, ..tpm.record };
    Ok(txn.unchanged(tpm.key.clone(), tpm.version).put(tpm.key, stored(&registered)?))
}

/// A device that an administrator admits; it has not attested yet.
pub(super) fn new_device(
    name: DeviceName,
    ek: Digest,
    zones: Vec<ZoneName>,
    actor: &Actor,
    now: UnixTime,
) -> Device {
    Device {
        name,
        zones,
        ek,
        ak: None,
        admission: Admission::Admitted,
        admitted_by: actor.name().to_owned(),
        admitted_at: now,
        counter: 0,
        services: BTreeMap::new(),
        asked: 0,
        answered: 0,
        clock_excused: false,
        clear_expected: None,
    }
}
