//! Devices as administrators see and steer them.

pub mod address;
pub mod admit;
pub(crate) mod due;
pub mod import;
pub mod moving;
pub mod replace;
pub mod result;
pub mod retire;
pub(crate) mod seen;
pub mod stop;
pub mod view;
pub mod vouch;
pub mod why;

use std::fmt;

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::zone::Zone;

use super::reach::Scope;
use crate::plant::Plant;
use crate::record::device::{Device, MAX_ZONES, PENDING, Pending, Tpm, device_key, ek_key, pending_key};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::session::without_tpm::refusal_of;
use crate::store::Txn;

/// A device by its name or by the digest of its EK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceRef {
    /// By name.
    Name(DeviceName),
    /// By EK.
    Ek(Digest),
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ek(ek) => ek.fmt(f),
        }
    }
}

/// A device of the plant with its TPM, as they were read together.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) device: Held<Device>,
    pub(super) tpm: Held<Tpm>,
}

impl Known {
    /// A transaction that expects both as they were read.
    pub(super) fn expected(&self) -> Txn {
        Txn::new()
            .unchanged(self.device.key.clone(), self.device.version)
            .unchanged(self.tpm.key.clone(), self.tpm.version)
    }
}

/// What a reference leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// A device of the plant.
    Device(Box<Known>),
    /// A TPM that waits.
    Pending(Held<Pending>),
}

/// The device or waiting TPM that `wanted` names, if it is in sight; what is not is told apart from what is not
/// there by nothing.
pub(super) async fn find(plant: &Plant, scope: &Scope, wanted: &DeviceRef) -> Result<Found, Refusal> {
    match wanted {
        DeviceRef::Name(name) => by_name(plant, scope, name).await,
        DeviceRef::Ek(ek) => by_ek(plant, scope, ek).await,
    }
}

/// The device `name`, if it is in sight; one that still waits is not meant.
pub(super) async fn known(plant: &Plant, scope: &Scope, name: &DeviceName) -> Result<Known, Refusal> {
    let device: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    let device = device.filter(|held| scope.sees(&held.record.zones)).ok_or_else(|| unknown(scope, name))?;
    let tpm: Held<Tpm> = fetch(plant.store.as_ref(), ek_key(&device.record.ek))
        .await?
        .ok_or_else(|| Refusal::internal(format!("the device {name} is known, its TPM is not")))?;
    Ok(Known { device, tpm })
}

fn unknown(scope: &Scope, wanted: &dyn fmt::Display) -> Refusal {
    Refusal::NotFound(format!(
        "there is no device {wanted}{}; `touchstone device list` shows what there is",
        scope.phrase()
    ))
}

async fn by_name(plant: &Plant, scope: &Scope, name: &DeviceName) -> Result<Found, Refusal> {
    if fetch::<Device>(plant.store.as_ref(), device_key(name)).await?.is_some() {
        return Ok(Found::Device(Box::new(known(plant, scope, name).await?)));
    }
    let waiting: Vec<Held<Pending>> = list(plant.store.as_ref(), PENDING).await?;
    let waiting = waiting.into_iter().filter(|held| scope.sees(&held.record.zones));
    let mut asking = waiting.filter(|held| held.record.name.as_ref() == Some(name));
    match (asking.next(), asking.next()) {
        (Some(one), None) => Ok(Found::Pending(one)),
        (Some(one), Some(other)) => Err(Refusal::Conflict(format!(
            "several pending devices ask for the name {name}: {}, {}, ...; name one by its EK digest",
            one.record.ek, other.record.ek
        ))),
        (None, _) => Err(unknown(scope, name)),
    }
}

async fn by_ek(plant: &Plant, scope: &Scope, ek: &Digest) -> Result<Found, Refusal> {
    let tpm: Option<Held<Tpm>> = fetch(plant.store.as_ref(), ek_key(ek)).await?;
    if let Some(name) = tpm.and_then(|held| held.record.device) {
        // By its EK: a refusal must not tell the name of what is out of sight.
        let known = known(plant, scope, &name).await.map_err(|refusal| match refusal {
            Refusal::NotFound(_) => unknown(scope, ek),
            other => other,
        });
        return Ok(Found::Device(Box::new(known?)));
    }
    let pending: Option<Held<Pending>> = fetch(plant.store.as_ref(), pending_key(ek)).await?;
    let pending = pending.filter(|held| scope.sees(&held.record.zones));
    pending.map(Found::Pending).ok_or_else(|| unknown(scope, ek))
}

/// `zones` in order and once each, if there are not too many and each exists; the transaction expects
/// that they still do.
pub(super) async fn existing_zones(
    plant: &Plant,
    zones: &[ZoneName],
    mut txn: Txn,
) -> Result<(Vec<ZoneName>, Txn), Refusal> {
    let mut sorted = zones.to_vec();
    sorted.sort();
    sorted.dedup();
    if sorted.len() > MAX_ZONES {
        return Err(Refusal::malformed(format!(
            "{} zones; a device joins at most {MAX_ZONES}",
            sorted.len()
        )));
    }
    for zone in &sorted {
        let held: Held<Zone> =
            fetch(plant.store.as_ref(), zone_key(zone)).await?.ok_or_else(|| no_zone(zone))?;
        txn = txn.unchanged(held.key, held.version);
    }
    Ok((sorted, txn))
}

/// Refuses zones that ask for what this device cannot prove, having no TPM.
pub(super) async fn provable(plant: &Plant, device: &Device, zones: &[ZoneName]) -> Result<(), Refusal> {
    if device.prover.is_tpm() {
        return Ok(());
    }
    for zone in zones {
        let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(zone)).await?;
        if let Some(why) = held.and_then(|held| refusal_of(&held.record)) {
            return Err(Refusal::Conflict(why));
        }
    }
    Ok(())
}

/// The refusal for a zone that is not there.
pub(super) fn no_zone(zone: &ZoneName) -> Refusal {
    Refusal::NotFound(format!("there is no zone {zone}; `touchstone zone create {zone}` makes it"))
}
