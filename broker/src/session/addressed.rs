//! Certificates whose IP addresses are not those of today: the device is told to ask for others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::{Role, Zone};

use super::Refusal;
use crate::authority;
use crate::plant::Plant;
use crate::record::device::{Device, HeldCertificates, held_place, held_prefix};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, list};

/// Serials of the device's certificates that hold and have other addresses than one that was made now.
pub(super) async fn stale(plant: &Plant, device: &Device, now: UnixTime) -> Result<Vec<Vec<u8>>, Refusal> {
    let prefix = held_prefix(&device.name);
    let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
    let mut stale = Vec::new();
    for held in &all {
        let Some((zone, _)) = held.key.strip_prefix(&prefix).and_then(held_place) else { continue };
        let living = held.record.certificates.iter().filter(|one| one.validity.not_after > now);
        // A workload's names none: they are the device's.
        let living = living.filter(|one| one.workload.is_none());
        for one in living.filter(|one| !one.addresses.is_empty() || device.addresses.contains_key(&zone)) {
            if one.addresses != permitted(plant, device, &zone, one.role).await? {
                stale.extend(hex::decode(&one.serial).ok());
            }
        }
    }
    Ok(stale)
}

/// The addresses that a certificate of this zone and role gets.
async fn permitted(
    plant: &Plant,
    device: &Device,
    zone: &ZoneName,
    role: Role,
) -> Result<BTreeSet<IpAddr>, Refusal> {
    let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(zone)).await?;
    let authority = authority::active(plant, zone, role).await.map_err(Refusal::internal)?;
    let admitted = device.addresses.get(zone).cloned().unwrap_or_default();
    let zone = held.map(|held| held.record);
    let admits = |address: &IpAddr| zone.as_ref().is_some_and(|zone| zone.admits(*address));
    Ok(admitted.into_iter().filter(|one| authority.record.permits(*one) && admits(one)).collect())
}
