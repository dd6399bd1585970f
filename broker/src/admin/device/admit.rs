//! Lets a waiting TPM in as a device, or moves a device to other zones.

use policy::id::{DeviceName, ZoneName};

use super::import::new_device;
use super::seen::of_pending;
use super::{DeviceRef, Found, Known, existing_zones, find, provable};
use crate::admin::change::{Draft, commit};
use crate::admin::{Actor, Seen};
use crate::plant::Plant;
use crate::record::device::{Admission, Device, Pending, Tpm, device_key, ek_key};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::session::issue::revoke;
use crate::session::other_eks::unnamed;
use crate::session::vouched::no_machine;
use crate::store::Txn;
use crate::trust;

/// Whom to admit, as what, where.
#[derive(Debug)]
pub struct Request {
    /// A waiting TPM or a device.
    pub device: DeviceRef,
    /// The name it gets; none: the one it asks for.
    pub name: Option<DeviceName>,
    /// Its zones; none: those it asks for.
    pub zones: Vec<ZoneName>,
    /// What the caller saw of it.
    pub seen: Option<Seen>,
}

/// Admits and gives the device's name.
pub async fn admit(plant: &Plant, actor: &Actor, request: &Request) -> Result<DeviceName, Refusal> {
    commit(plant, || decide(plant, actor, request)).await
}

async fn decide(plant: &Plant, actor: &Actor, request: &Request) -> Result<Draft<DeviceName>, Refusal> {
    match find(plant, actor.scope(), &request.device).await? {
        Found::Device(known) => move_device(plant, actor, *known, request).await,
        Found::Pending(pending) => let_in(plant, actor, pending, request).await,
    }
}

async fn move_device(
    plant: &Plant,
    actor: &Actor,
    mut known: Known,
    request: &Request,
) -> Result<Draft<DeviceName>, Refusal> {
    let (now, name) = (plant.now(), known.device.record.name.clone());
    known.expected_as(request.seen.as_ref())?;
    if known.tpm.record.retired || known.device.record.admission == Admission::Retired {
        return Err(Refusal::Retired(name.to_string()));
    }
    if request.name.as_ref().is_some_and(|wanted| *wanted != name) {
        return Err(Refusal::Conflict(format!(
            "EK {} belongs to {name} already; a device keeps its name",
            known.device.record.ek
        )));
    }
    let (zones, txn) =
        existing_zones(plant, &wanted_zones(&request.zones, &[], &name)?, known.expected()).await?;
    let touched = [zones.as_slice(), known.device.record.zones.as_slice()].concat();
    let reach = actor.reach(plant, &touched).await?;
    if zones == known.device.record.zones {
        return Ok(Draft::nothing(name));
    }
    let joins: Vec<ZoneName> =
        zones.iter().filter(|zone| !known.device.record.zones.contains(zone)).cloned().collect();
    provable(plant, &known.device.record, &joins).await?;
    let leaves = |zone: &ZoneName| !zones.contains(zone);
    let (revoked, txn) = revoke(plant, txn, &name, leaves, now, "moved to other zones").await?;
    let joined: Vec<&str> = zones.iter().map(ZoneName::as_str).collect();
    let text = format!("zones are now {}; {revoked} certificates revoked", joined.join(", "));
    known.device.record.zones.clone_from(&zones);
    known.device.record.leaving = None;
    known.device.record.addresses.retain(|zone, _| zones.contains(zone));
    // The device attests anew for its new zones.
    known.device.record.asked = known.device.record.asked.saturating_add(1);
    let txn = txn.put(known.device.key, stored(&known.device.record)?);
    // What its zones offer and what is revoked both show in trust files.
    let txn = trust::raise(plant, txn, now).await?;
    let deed = reach.deed(name.as_str(), &text);
    Ok(Draft::write(name, txn, deed))
}

async fn let_in(
    plant: &Plant,
    actor: &Actor,
    pending: Held<Pending>,
    request: &Request,
) -> Result<Draft<DeviceName>, Refusal> {
    let (now, ek) = (plant.now(), pending.record.ek);
    let look = format!("touchstone device show {ek}");
    of_pending(&pending.record).expected(request.seen.as_ref(), &request.device.to_string(), None, &look)?;
    let asked = || request.name.clone().or_else(|| pending.record.name.clone());
    let name = asked()
        .ok_or_else(|| Refusal::malformed(format!("EK {ek} asks for no name; give it one with --as NAME")))?;
    if fetch::<Device>(plant.store.as_ref(), device_key(&name)).await?.is_some() {
        return Err(Refusal::Conflict(format!(
            "the name {name} belongs to another TPM; give this one another name with --as NAME"
        )));
    }
    let tpm: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(&ek)).await?;
    let txn = no_machine(plant, &name, Txn::new()).await?;
    let txn = txn.unchanged(pending.key.clone(), pending.version).absent(device_key(&name));
    if tpm.is_none() {
        // Its other EK may have become a device, or been stopped, while this one waited.
        unnamed(plant, &ek).await?;
    }
    let (txn, tpm) = adopt(txn, tpm, &name, &ek_key(&ek))?;
    let (zones, txn) =
        existing_zones(plant, &wanted_zones(&request.zones, &pending.record.zones, &name)?, txn).await?;
    let reach = actor.reach(plant, &zones).await?;
    let device = new_device(name.clone(), ek, zones, actor, now);
    let deed = reach.deed(name.as_str(), &format!("admitted with EK {ek} ({})", pending.record.tpm));
    let txn =
        txn.put(device_key(&name), stored(&device)?).put(ek_key(&ek), stored(&tpm)?).delete(pending.key);
    Ok(Draft::write(name, txn, deed))
}

/// The TPM's record as the device's own. Being admitted does not make it registered: the digest came
/// from the enrollment that it admits.
fn adopt(txn: Txn, tpm: Option<Held<Tpm>>, name: &DeviceName, key: &str) -> Result<(Txn, Tpm), Refusal> {
    let Some(held) = tpm else {
        let tpm = Tpm {
            device: Some(name.clone()),
            registered: false,
            quarantine: None,
            retired: false,
            manufacturer: None,
            other_eks: Vec::new(),
        };
        return Ok((txn.absent(key), tpm));
    };
    if held.record.retired {
        return Err(Refusal::Retired(name.to_string()));
    }
    if let Some(stop) = &held.record.quarantine {
        return Err(Refusal::Quarantined {
            device: name.to_string(),
            since: stop.at,
            by: stop.by.clone(),
            reason: stop.reason.clone(),
        });
    }
    Ok((txn.unchanged(key, held.version), Tpm { device: Some(name.clone()), ..held.record }))
}

fn wanted_zones(given: &[ZoneName], asked: &[ZoneName], name: &DeviceName) -> Result<Vec<ZoneName>, Refusal> {
    let zones = if given.is_empty() { asked } else { given };
    if zones.is_empty() {
        return Err(Refusal::malformed(format!("name the zone that {name} joins with --zone ZONE")));
    }
    Ok(zones.to_vec())
}
