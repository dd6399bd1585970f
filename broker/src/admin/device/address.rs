//! IP addresses of devices, for peers that know each other by nothing else.
//!
//! An address is in a device's certificates because an administrator admitted it, never because a request asks for it,
//! and only within the subnets of the zone, which its authorities are held to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Zone;

use super::{Known, known, no_zone};
use crate::admin::Actor;
use crate::admin::change::{Draft, commit};
use crate::plant::Plant;
use crate::record::address::{AddressOwner, address_key};
use crate::record::device::{
    Device, HeldCertificates, MAX_ADDRESSES, MAX_ALL_ADDRESSES, device_key, held_place, held_prefix,
};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::issue::revoke_one;
use crate::store::Txn;
use crate::trust;

/// Which addresses come and go.
#[derive(Debug)]
pub struct Request {
    /// The device.
    pub name: DeviceName,
    /// In which of its zones; none: the only one.
    pub zone: Option<ZoneName>,
    /// To be admitted.
    pub add: BTreeSet<IpAddr>,
    /// To be admitted no more.
    pub remove: BTreeSet<IpAddr>,
}

/// What a change of addresses came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressed {
    /// The zone.
    pub zone: ZoneName,
    /// The addresses that the device has there now.
    pub addresses: BTreeSet<IpAddr>,
    /// Certificates that named one that was removed, and are revoked.
    pub revoked: usize,
}

/// Changes the addresses of a device, or, for a dry run, says what that would come to.
pub async fn change(
    plant: &Plant,
    actor: &Actor,
    request: &Request,
    dry_run: bool,
) -> Result<Addressed, Refusal> {
    if request.add.len().saturating_add(request.remove.len()) > MAX_ADDRESSES {
        return Err(Refusal::malformed(format!("change at most {MAX_ADDRESSES} addresses at once")));
    }
    commit(plant, || decide(plant, actor, request, dry_run)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    request: &Request,
    dry_run: bool,
) -> Result<Draft<Addressed>, Refusal> {
    let (now, name) = (plant.now(), &request.name);
    let known = super::stop::not_retired(known(plant, actor.scope(), name).await?)?;
    let reach = actor.reach(plant, &known.device.record.zones).await?;
    let zone = zone_of(plant, &known.device.record, request.zone.as_ref()).await?;
    let of = zone.record.name.clone();
    let before = known.device.record.addresses.get(&of).cloned().unwrap_or_default();
    let mut addresses: BTreeSet<IpAddr> = before.union(&request.add).copied().collect();
    addresses.retain(|address| !request.remove.contains(address));
    if addresses.len() > MAX_ADDRESSES {
        return Err(Refusal::malformed(format!("a device has at most {MAX_ADDRESSES} addresses in a zone")));
    }
    let others = known.device.record.addresses.iter().filter(|(zone, _)| **zone != of);
    if others.map(|(_, all)| all.len()).sum::<usize>() + addresses.len() > MAX_ALL_ADDRESSES {
        return Err(Refusal::malformed(format!(
            "a device has at most {MAX_ALL_ADDRESSES} addresses in all its zones"
        )));
    }
    if addresses == before {
        return Ok(Draft::nothing(Addressed { zone: of, addresses, revoked: 0 }));
    }
    let mut txn = known.expected().unchanged(zone.key, zone.version);
    for address in addresses.difference(&before) {
        if !zone.record.admits(*address) {
            return Err(Refusal::Conflict(format!(
                "{address} is in no subnet of zone {of}; `touchstone zone set {of} --subnet CIDR` gives it one"
            )));
        }
        txn = claim(plant, txn, (&of, *address), name).await?;
    }
    let gone: BTreeSet<IpAddr> = before.difference(&addresses).copied().collect();
    txn = gone.iter().fold(txn, |txn, address| txn.delete(address_key(&of, *address)));
    let (revoked, txn) = revoke_naming(plant, txn, (name, &of), &gone, now).await?;
    let Known { mut device, .. } = known;
    device.record.addresses.insert(of.clone(), addresses.clone());
    device.record.addresses.retain(|_, addresses| !addresses.is_empty());
    // It learns when it proves itself that its certificates are to be made anew.
    device.record.asked = device.record.asked.saturating_add(u64::from(device.record.ak.is_some()));
    let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let text =
        format!("its addresses in {of} are now: {}; {revoked} certificates revoked", listed.join(", "));
    let txn = txn.put(device.key, stored(&device.record)?);
    let txn = if revoked > 0 { trust::raise(plant, txn, now).await? } else { txn };
    let answer = Addressed { zone: of, addresses, revoked };
    Ok(Draft::unless(dry_run, answer, txn, reach.deed(name.as_str(), &text)))
}

/// The zone that is meant, which the device is in.
async fn zone_of(plant: &Plant, device: &Device, wanted: Option<&ZoneName>) -> Result<Held<Zone>, Refusal> {
    let name = match (wanted, device.zones.as_slice()) {
        (Some(zone), zones) if zones.contains(zone) => zone,
        (Some(zone), _) => return Err(Refusal::Conflict(format!("{} is not in {zone}", device.name))),
        (None, [only]) => only,
        (None, zones) => {
            return Err(Refusal::malformed(format!(
                "{} is in {} zones; say in which with --zone ZONE",
                device.name,
                zones.len()
            )));
        }
    };
    fetch(plant.store.as_ref(), zone_key(name)).await?.ok_or_else(|| no_zone(name))
}

/// Claims an address for `name`, unless another device of the zone has it.
async fn claim(
    plant: &Plant,
    txn: Txn,
    (zone, address): (&ZoneName, IpAddr),
    name: &DeviceName,
) -> Result<Txn, Refusal> {
    let key = address_key(zone, address);
    let owner = AddressOwner { device: name.clone() };
    let Some(held) = fetch::<AddressOwner>(plant.store.as_ref(), key.clone()).await? else {
        return Ok(txn.absent(key.clone()).put(key, stored(&owner)?));
    };
    let txn = txn.unchanged(key.clone(), held.version).put(key, stored(&owner)?);
    let other = device_key(&held.record.device);
    if held.record.device == *name {
        return Ok(txn);
    }
    match fetch::<Device>(plant.store.as_ref(), other).await? {
        Some(other) if other.record.addresses.get(zone).is_some_and(|all| all.contains(&address)) => {
            Err(Refusal::Conflict(format!("{address} in {zone} is the address of {}", held.record.device)))
        }
        Some(other) => Ok(txn.unchanged(other.key, other.version)),
        None => Ok(txn),
    }
}

/// Revokes the certificates of the zone that name an address which is admitted no more.
async fn revoke_naming(
    plant: &Plant,
    mut txn: Txn,
    (name, zone): (&DeviceName, &ZoneName),
    gone: &BTreeSet<IpAddr>,
    now: UnixTime,
) -> Result<(usize, Txn), Refusal> {
    let mut revoked = 0;
    if gone.is_empty() {
        return Ok((revoked, txn));
    }
    let prefix = held_prefix(name);
    let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
    for held in all {
        let place = held.key.strip_prefix(&prefix).and_then(held_place);
        if place.is_none_or(|(of, _)| of != *zone) {
            continue;
        }
        let names = |one: &crate::record::device::HeldCertificate| !one.addresses.is_disjoint(gone);
        let (naming, rest): (Vec<_>, Vec<_>) = held.record.certificates.into_iter().partition(names);
        if naming.is_empty() {
            continue;
        }
        for certificate in naming.iter().filter(|one| one.validity.not_after > now) {
            txn = revoke_one(txn, name, zone, certificate, now, "it names an address that is another's")?;
            revoked += 1;
        }
        let rest = HeldCertificates { certificates: rest };
        txn = txn.unchanged(held.key.clone(), held.version).put(held.key, stored(&rest)?);
    }
    Ok((revoked, txn))
}
