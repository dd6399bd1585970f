//! A zone whose rules changed: whoever holds certificates that its last proof would not earn any more loses them.

use std::collections::BTreeSet;

use policy::appraisal::policy::ZonePolicy;
use policy::id::{DeviceName, ZoneName};
use policy::zone::Zone;

use super::lose::{Batch, Loss, lose};
use crate::last_proof::{Against, LastProofs};
use crate::plant::Plant;
use crate::record::device::{
    Attested, DEVICE, Device, HeldCertificates, attested_key, device_key, held_place, held_prefix,
};
use crate::record::zone::{Reappraisal, zone_key};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;

/// A device that loses what it holds in a zone.
#[derive(Debug)]
pub(crate) struct Losing {
    /// The device.
    pub(crate) device: DeviceName,
    /// What counts against its last proof.
    pub(crate) against: Against,
}

/// The devices that lose what they hold in the zone of `policy`, were these its rules now.
pub(crate) async fn losing(plant: &Plant, policy: ZonePolicy) -> Result<Vec<Losing>, Refusal> {
    let zone = policy.zone.clone();
    let mut proofs = LastProofs::under(plant, policy).await?;
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let mut losing = Vec::new();
    for Held { record: device, .. } in devices.into_iter().filter(|held| held.record.zones.contains(&zone)) {
        if let Some((_, against)) = against(plant, &mut proofs, &device, &zone).await? {
            losing.push(Losing { device: device.name, against });
        }
    }
    Ok(losing)
}

/// The last proof of a device that holds certificates in `zone` and would be refused there, and why.
async fn against(
    plant: &Plant,
    proofs: &mut LastProofs<'_>,
    device: &Device,
    zone: &ZoneName,
) -> Result<Option<(Held<Attested>, Against)>, Refusal> {
    if !holds(plant, &device.name, &BTreeSet::from([zone.clone()])).await? {
        return Ok(None);
    }
    let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(&device.name)).await?;
    let Some(attested) = attested else { return Ok(None) };
    let against = proofs.against(device, &attested.record).await?;
    Ok(against.map(|against| (attested, against)))
}

/// Whether `device` holds a certificate of one of `zones` that has not ended.
pub(crate) async fn holds(
    plant: &Plant,
    device: &DeviceName,
    zones: &BTreeSet<ZoneName>,
) -> Result<bool, Refusal> {
    let (now, prefix) = (plant.now(), held_prefix(device));
    let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
    let in_zones = |held: &&Held<HeldCertificates>| {
        held.key.strip_prefix(&prefix).and_then(held_place).is_some_and(|(place, _)| zones.contains(&place))
    };
    let mut certificates = all.iter().filter(in_zones).flat_map(|held| &held.record.certificates);
    Ok(certificates.any(|certificate| certificate.validity.not_after > now))
}

/// Does what a change of rules has left to do. Returns how many devices and certificates lost trust.
pub(super) async fn reappraise(plant: &Plant, change: &Reappraisal) -> Result<(usize, usize), Refusal> {
    // Read now: a zone that is gone takes nothing, and one that observes only for what it never relaxes.
    let zone: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(&change.zone)).await?;
    let Some(zone) = zone else { return Ok((0, 0)) };
    let (zone, policy) = (zone.record.name.clone(), zone.record.policy());
    let only = BTreeSet::from([zone.clone()]);
    let mut proofs = LastProofs::under(plant, policy.clone()).await?;
    let (mut devices, mut batch) = (0, Batch::default());
    for Losing { device, .. } in losing(plant, policy).await? {
        // A large fleet attests while it is reached: what it was when it was listed is old by now.
        let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(&device)).await?;
        let Some(held) = held.filter(|held| held.record.zones.contains(&zone)) else { continue };
        let found = against(plant, &mut proofs, &held.record, &zone).await?;
        let Some((attested, Against { why, kind })) = found else { continue };
        devices += 1;
        let why = format!("by the rules of zone {zone} since {}: {why}", change.at);
        let loss = Loss::of_proof(why, "its zone has other rules", kind);
        lose(plant, &mut batch, &loss, &device, attested, &only).await?;
    }
    batch.commit(plant).await?;
    Ok((devices, batch.revoked))
}
