//! A zone whose subnets became narrower: whoever holds certificates that name an address outside is asked to replace
//! them at once, and what still names one when everybody had an interval for that is revoked.
//!
//! What a device gets from then on names no such address: it learns when it proves itself that its certificates are to be
//! made anew.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Zone;

use super::done;
use crate::plant::Plant;
use crate::record::device::{
    DEVICE, Device, HeldCertificate, HeldCertificates, device_key, held_place, held_prefix,
};
use crate::record::zone::{Narrowing, zone_key};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::session::issue::revoke_one;
use crate::store::Txn;
use crate::trust;

/// What a device holds in a zone that names addresses outside of its subnets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outside {
    /// The device.
    pub(crate) device: DeviceName,
    /// The addresses.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// When the last of these certificates would end by itself.
    pub(crate) until: UnixTime,
}

/// Who holds such certificates, with `zone` as it is given.
pub(crate) async fn outside(plant: &Plant, zone: &Zone) -> Result<Vec<Outside>, Refusal> {
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let mut found = Vec::new();
    for Held { record: device, .. } in
        devices.into_iter().filter(|held| held.record.zones.contains(&zone.name))
    {
        let (mut addresses, mut until) = (BTreeSet::new(), UnixTime(0));
        for held in held_in(plant, &device.name, &zone.name).await? {
            for one in held.record.certificates {
                let outside = strangers(&one, zone, plant.now());
                if !outside.is_empty() {
                    until = until.max(one.validity.not_after);
                    addresses.extend(outside);
                }
            }
        }
        if !addresses.is_empty() {
            found.push(Outside { device: device.name, addresses, until });
        }
    }
    Ok(found)
}

/// The addresses outside the zone's subnets that a certificate names; of one that has ended, none.
fn strangers(one: &HeldCertificate, zone: &Zone, now: UnixTime) -> BTreeSet<IpAddr> {
    let named = one.addresses.iter().filter(|address| !zone.admits(**address));
    named.filter(|_| one.validity.not_after > now).copied().collect()
}

async fn held_in(
    plant: &Plant,
    device: &DeviceName,
    zone: &ZoneName,
) -> Result<Vec<Held<HeldCertificates>>, Refusal> {
    let prefix = held_prefix(device);
    let mut all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
    all.retain(|held| {
        held.key.strip_prefix(&prefix).and_then(held_place).is_some_and(|(place, _)| place == *zone)
    });
    Ok(all)
}

/// Does what narrower subnets have left to do now.
pub(super) async fn narrow(plant: &Plant, mut job: Held<Narrowing>) -> Result<(), Refusal> {
    let name = job.record.zone.clone();
    let zone: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(&name)).await?;
    // Read now: the subnets may be others again.
    let found = match &zone {
        Some(zone) => outside(plant, &zone.record).await?,
        None => Vec::new(),
    };
    if !found.is_empty() && !job.record.asked {
        for one in &found {
            ask(plant, &one.device).await?;
        }
        job.record.asked = true;
        let txn = Txn::new().unchanged(job.key.clone(), job.version);
        return commit(plant, txn.put(job.key, stored(&job.record)?)).await;
    }
    if !found.is_empty() && plant.now() < job.record.due {
        return Ok(());
    }
    let mut revoked = 0_usize;
    if let Some(zone) = &zone {
        for one in &found {
            revoked = revoked.saturating_add(revoke_outside(plant, &one.device, zone).await?);
        }
    }
    done(plant, job, "zone.narrowed", name.as_str(), (found.len(), revoked)).await
}

/// Lets a device prove itself now. One that never did asks by itself when it comes.
async fn ask(plant: &Plant, name: &DeviceName) -> Result<(), Refusal> {
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    let Some(Held { key, version, record }) = held else { return Ok(()) };
    let asked = record.asked.saturating_add(u64::from(record.ak.is_some()));
    let device = Device { asked, ..record };
    commit(plant, Txn::new().unchanged(key.clone(), version).put(key, stored(&device)?)).await
}

/// Revokes what the device holds in the zone that names an address outside. Returns how many certificates.
async fn revoke_outside(plant: &Plant, name: &DeviceName, zone: &Held<Zone>) -> Result<usize, Refusal> {
    let (now, mut revoked) = (plant.now(), 0_usize);
    for held in held_in(plant, name, &zone.record.name).await? {
        let strange = |one: &HeldCertificate| !strangers(one, &zone.record, now).is_empty();
        let (naming, rest): (Vec<_>, Vec<_>) = held.record.certificates.into_iter().partition(strange);
        if naming.is_empty() {
            continue;
        }
        let mut txn = Txn::new().unchanged(zone.key.clone(), zone.version);
        for one in &naming {
            let why = "it names an address outside the subnets of its zone";
            txn = revoke_one(txn, name, &zone.record.name, one, now, why)?;
        }
        revoked = revoked.saturating_add(naming.len());
        let rest = HeldCertificates { certificates: rest };
        let txn = txn.unchanged(held.key.clone(), held.version).put(held.key, stored(&rest)?);
        commit(plant, trust::raise(plant, txn, now).await?).await?;
    }
    Ok(revoked)
}
