//! Registers devices by the EK of their TPM, from `identify` on the device or a supplier's list.
//!
//! All or nothing: the whole list is compared with what is known before anything is written, and every conflict is
//! told at once. A list of more than a few devices is staged (`admin::staging`): none of it counts
//! before all of it is written.

use std::collections::{BTreeMap, BTreeSet};

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;

use super::existing_zones;
use crate::admin::Actor;
use crate::admin::bounds::printable;
use crate::admin::change::{Draft, commit};
use crate::admin::reach::{Deed, Reach};
use crate::admin::second::{settle, wait_if_asked};
use crate::admin::staging::Staging;
use crate::plant::Plant;
use crate::record::device::{
    Admitted, Device, Inventory, InventoryValue, MAX_INVENTORY, MAX_VALUE, MAX_ZONES, PENDING, Pending,
    Prover, Source, Tpm, device_key, ek_key, inventory_key, pending_key,
};
use crate::record::vouched::{MachineOwner, machine_key};
use crate::record::{Held, fetch, list, stored};
use crate::session::idevid::device_of as device_of_idevid;
use crate::session::other_eks::{Stopped, stopped_under};
use crate::session::vouched::belongs_to;
use crate::session::{Refusal, complete};
use crate::store::{MAX_TXN_KEYS, Txn};

/// Most devices of one list.
pub const MAX_ENTRIES: usize = 200_000;
/// Conflicts that one refusal names.
const MAX_CONFLICTS: usize = 50;
/// Devices that are written in one transaction as they are; larger lists are staged.
const FEW: usize = 7;
/// Keys of one device: itself, its TPM, its inventory, its pending record, its audit event.
const KEYS: usize = 5;
/// Keys of an approval: the change, its audit event.
const APPROVAL: usize = 2;
const _: () = assert!(FEW * (KEYS + MAX_ZONES) + APPROVAL <= MAX_TXN_KEYS);
/// Devices of one staged transaction, beside the key of the change.
const PART: usize = (MAX_TXN_KEYS - 1) / 3;
/// Different zones that a staged list may name.
const MAX_LIST_ZONES: usize = 30;
/// TPMs of a staged list that are known already, without a device or unregistered: what is known of them stays
/// in force until the list counts, so they are changed in its last transaction.
const MAX_KNOWN: usize = 12;
/// Keys of a staged list: its change, its audit event.
const LIST: usize = 2;
const _: () = assert!(MAX_LIST_ZONES + MAX_KNOWN * KEYS + LIST + APPROVAL <= MAX_TXN_KEYS);

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Devices, or EKs of known devices, that are new.
    pub created: usize,
    /// Devices that were known like this.
    pub unchanged: usize,
    /// What somebody should know of TPMs of the list that were stopped.
    pub warnings: Vec<String>,
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
    let zones: BTreeSet<&ZoneName> = entries.iter().flat_map(|entry| &entry.zones).collect();
    let mut pinned = Txn::new();
    for zone in &zones {
        (_, pinned) = existing_zones(plant, std::slice::from_ref(*zone), pinned).await?;
    }
    let compared = compare(plant, entries).await?;
    let created = compared.fresh.len().saturating_add(compared.known.len());
    let mut changed = compared.fresh.iter().chain(&compared.known);
    let warnings = warnings(plant, &mut changed).await?;
    let imported = Imported { created, unchanged: entries.len().saturating_sub(created), warnings };
    if created == 0 {
        return Ok(imported);
    }
    let reach = reach(plant, actor, &compared.touched).await?;
    if dry_run {
        return Ok(imported);
    }
    if created <= FEW {
        let changed: Vec<&Entry> = compared.fresh.iter().chain(&compared.known).copied().collect();
        commit(plant, || register(plant, &reach, &changed)).await?;
    } else {
        stage(plant, &reach, &compared, (zones.len(), pinned)).await?;
    }
    Ok(imported)
}

/// The reach over every device of the list. A device without zones touches the plant, whatever the others do.
async fn reach(plant: &Plant, actor: &Actor, touched: &[Vec<ZoneName>]) -> Result<Reach, Refusal> {
    if touched.iter().any(Vec::is_empty) {
        actor.reach(plant, &[]).await?;
    }
    actor.reach(plant, &touched.concat()).await
}

/// What is to be known of the TPMs that become devices: those of them that were stopped, under this EK or another.
async fn warnings<'e>(
    plant: &Plant,
    entries: &mut (dyn Iterator<Item = &&'e Entry> + Send + '_),
) -> Result<Vec<String>, Refusal> {
    let (mut told, mut more) = (Vec::new(), 0_usize);
    for Entry { name, ek, .. } in entries {
        let Some(stopped) = stopped_under(plant, ek).await? else { continue };
        if told.len() >= MAX_CONFLICTS {
            more = more.saturating_add(1);
            continue;
        }
        let Stopped { other, owner, why } = stopped;
        told.push(match other {
            None => format!("EK {ek} ({name}) is that of a TPM that {why}, and stays so: `touchstone device readmit {name} --reason TEXT` ends that"),
            Some(other) => format!(
                "EK {ek} ({name}) is another EK of the TPM of {owner} ({other}), which {why}: registered, it is a device of its \
                 own that this does not stop; take it off the list, or `touchstone device quarantine {name} --reason TEXT`"
            ),
        });
    }
    told.extend((more > 0).then(|| format!("and {more} more")));
    Ok(told)
}

/// The entries of a list that change something.
struct Compared<'e> {
    /// Neither name nor EK is known.
    fresh: Vec<&'e Entry>,
    /// The TPM is known.
    known: Vec<&'e Entry>,
    /// Zones of each.
    touched: Vec<Vec<ZoneName>>,
}

async fn compare<'e>(plant: &Plant, entries: &'e [Entry]) -> Result<Compared<'e>, Refusal> {
    let mut conflicts = Vec::new();
    let mut compared = Compared { fresh: Vec::new(), known: Vec::new(), touched: Vec::new() };
    for entry in entries {
        let zones = match standing(plant, entry).await? {
            Standing::New(None) => {
                compared.fresh.push(entry);
                entry.zones.clone()
            }
            Standing::New(Some(_)) => {
                compared.known.push(entry);
                entry.zones.clone()
            }
            Standing::Unvouched(_, zones) => {
                compared.known.push(entry);
                zones
            }
            Standing::Same => continue,
            Standing::Conflict(why) => {
                conflicts.push(why);
                continue;
            }
        };
        compared.touched.push(zones);
    }
    refuse(conflicts)?;
    Ok(compared)
}

/// Registers a list that is too large for one transaction.
async fn stage(
    plant: &Plant,
    reach: &Reach,
    list: &Compared<'_>,
    (zones, pinned): (usize, Txn),
) -> Result<(), Refusal> {
    if list.known.len() > MAX_KNOWN || zones > MAX_LIST_ZONES {
        return Err(Refusal::malformed(format!(
            "a list may name {MAX_LIST_ZONES} zones and {MAX_KNOWN} TPMs that are known without being registered, this one names {} and {}; import it in parts",
            zones,
            list.known.len()
        )));
    }
    let (now, actor) = (plant.now(), reach.actor());
    let name = |entry: Option<&&Entry>| entry.map_or("nobody", |entry| entry.name.as_str()).to_owned();
    let (first, last) = (name(list.fresh.first()), name(list.fresh.last()));
    let text = format!("{} devices registered, {first} to {last}", list.fresh.len());
    let deed = reach.deed(&format!("{first} and {} more", list.fresh.len().saturating_sub(1)), &text);
    if reach.waits() && actor.second().is_none() && actor.request().is_empty() {
        return Err(Refusal::malformed(
            "this list is too long to wait for a second person, which its zones ask for; import it in parts of 5,000"
                .to_owned(),
        ));
    }
    wait_if_asked(plant, &deed).await?;
    let staging = Staging::begin(plant, actor.name()).await?;
    let (txn, told) = change_known(plant, actor, &list.known, staging.txn().and(pinned)).await?;
    let deed = told.iter().fold(deed, |deed, (subject, text)| deed.and(subject, text));
    let Some(txn) = settle(plant, &deed, txn).await? else { return staging.give_up(plant).await };
    let part = |part: &[&Entry]| {
        part.iter().try_fold(staging.txn(), |txn, entry| staged(txn, &staging, entry, actor, now))
    };
    let parts: Result<Vec<Txn>, Refusal> = list.fresh.chunks(PART).map(part).collect();
    staging.write(plant, parts?).await?;
    staging.commit(plant, txn).await?;
    if let Some(second) = actor.second() {
        second.committed();
    }
    forget_pending(plant, &list.fresh).await;
    Ok(())
}

/// A device of a staged list.
fn staged(txn: Txn, staging: &Staging, entry: &Entry, actor: &Actor, now: UnixTime) -> Result<Txn, Refusal> {
    let (device, tpm) = (device_key(&entry.name), ek_key(&entry.ek));
    let record = new_device(entry.name.clone(), entry.ek, sorted(&entry.zones), actor, now);
    let txn = txn.absent(device.clone()).absent(tpm.clone());
    let txn = txn.put(device, staging.stored(&record)?).put(tpm, staging.stored(&owned(entry, None))?);
    Ok(match inventory(entry, now) {
        Some(inventory) => txn.put(inventory_key(&entry.name), staging.stored(&inventory)?),
        None => txn,
    })
}

/// Devices that waited to be admitted and are registered now wait no more.
async fn forget_pending(plant: &Plant, registered: &[&Entry]) {
    let work = async {
        let waiting: Vec<Held<Pending>> = list(plant.store.as_ref(), PENDING).await?;
        let registered: BTreeSet<Digest> = registered.iter().map(|entry| entry.ek).collect();
        for held in waiting.iter().filter(|held| registered.contains(&held.record.ek)) {
            complete::commit(plant, Txn::new().delete(held.key.clone())).await?;
        }
        Ok::<(), Refusal>(())
    };
    if let Err(error) = work.await {
        tracing::warn!(%error, "devices that are registered now are still listed as waiting");
    }
}

fn bounded(entry: &Entry) -> Result<(), Refusal> {
    if entry.zones.len() > MAX_ZONES {
        return Err(Refusal::malformed(format!(
            "{}: {} zones; a device joins at most {MAX_ZONES}",
            entry.name,
            entry.zones.len()
        )));
    }
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
    let machine: Option<Held<MachineOwner>> = fetch(store, machine_key(&entry.name)).await?;
    if let Some(owner) = machine {
        return Ok(Standing::Conflict(belongs_to(&entry.name, &owner.record)));
    }
    if let Some(owner) = device_of_idevid(plant, &entry.ek).await? {
        return Ok(match owner == entry.name {
            true => Standing::Same,
            false => Standing::Conflict(format!(
                "IDevID {} is {owner}'s, the list gives it to {}",
                entry.ek, entry.name
            )),
        });
    }
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

async fn register(plant: &Plant, reach: &Reach, entries: &[&Entry]) -> Result<Draft<()>, Refusal> {
    let (txn, told) = change_known(plant, reach.actor(), entries, Txn::new()).await?;
    let deed = told.iter().fold(None, |deed: Option<Deed>, (subject, text)| {
        Some(match deed {
            Some(deed) => deed.and(subject, text),
            None => reach.deed(subject, text),
        })
    });
    Ok(match deed {
        Some(deed) => Draft::write((), txn, deed),
        None => Draft::nothing(()),
    })
}

/// Adds to `txn` what registers `entries`, of which anything may be known by now; with what is done to each.
async fn change_known(
    plant: &Plant,
    actor: &Actor,
    entries: &[&Entry],
    mut txn: Txn,
) -> Result<(Txn, Vec<(String, String)>), Refusal> {
    let now = plant.now();
    let mut told = Vec::new();
    for entry in entries {
        let text = match standing(plant, entry).await? {
            Standing::New(tpm) => {
                let (zones, next) = existing_zones(plant, &entry.zones, txn).await?;
                txn = add(next, entry, zones, tpm, actor, now)?;
                format!("registered with EK {}", entry.ek)
            }
            Standing::Unvouched(tpm, _) => {
                txn = vouch(txn, tpm)?;
                format!("EK {} is registered from now on", entry.ek)
            }
            Standing::Same => continue,
            Standing::Conflict(why) => return Err(Refusal::Conflict(why)),
        };
        told.push((entry.name.to_string(), text));
    }
    Ok((txn, told))
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
    let txn = txn
        .absent(device_key.clone())
        .put(device_key, stored(&device)?)
        .put(ek_key, stored(&owned(entry, tpm.map(|held| held.record)))?)
        .delete(pending_key(&entry.ek));
    Ok(match inventory(entry, now) {
        Some(inventory) => txn.put(inventory_key(&entry.name), stored(&inventory)?),
        None => txn,
    })
}

/// The TPM as that of the entry's device. A quarantine is held by the EK and outlives everything.
fn owned(entry: &Entry, known: Option<Tpm>) -> Tpm {
    let manufacturer = known.as_ref().and_then(|tpm| tpm.manufacturer);
    let other_eks = known.as_ref().map(|tpm| tpm.other_eks.clone()).unwrap_or_default();
    let quarantine = known.and_then(|tpm| tpm.quarantine);
    let device = Some(entry.name.clone());
    Tpm { device, registered: true, quarantine, retired: false, manufacturer, other_eks }
}

/// What the list says of the device, if it says anything.
fn inventory(entry: &Entry, now: UnixTime) -> Option<Inventory> {
    let value = |value: &String| InventoryValue { value: value.clone(), source: Source::Vouched, at: now };
    let values = entry.inventory.iter().map(|(name, text)| (name.clone(), value(text))).collect();
    (!entry.inventory.is_empty()).then_some(Inventory { values })
}

fn sorted(zones: &[ZoneName]) -> Vec<ZoneName> {
    zones.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// Registers the EK of a device that was admitted without: zones and inventory stay as they are.
fn vouch(txn: Txn, tpm: Held<Tpm>) -> Result<Txn, Refusal> {
    let registered = Tpm { registered: true, ..tpm.record };
    Ok(txn.unchanged(tpm.key.clone(), tpm.version).put(tpm.key, stored(&registered)?))
}

/// A device that an administrator admits; it has not attested yet.
pub(crate) fn new_device(
    name: DeviceName,
    ek: Digest,
    zones: Vec<ZoneName>,
    actor: &Actor,
    now: UnixTime,
) -> Device {
    let by = actor.name().to_owned();
    Device::new(Admitted { name, ek, prover: Prover::Tpm, zones, by, at: now })
}
