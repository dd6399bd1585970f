//! A device that moves leaves the old zone when it says that it delivered its certificates of the new one.
//!
//! Until then those of the old zone hold, and are renewed as long as there are none of the new: a zone that does not
//! trust the device must not stop it. From then on none is made anew, so a device that never says so is out of the
//! old zone when the last one ends.

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Role;
use proto::v1;

use super::Refusal;
use super::proof::Proven;
use crate::plant::Plant;
use crate::record::device::{Device, HeldCertificate, HeldCertificates, held_key};
use crate::record::{Held, fetch};

/// Where a moving device stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Departure {
    /// It does not move.
    None,
    /// It has no certificates of the new zone yet.
    Joining(ZoneName),
    /// It has, and did not say yet that it delivered them.
    Certified(ZoneName),
    /// It is out of this zone.
    Left(ZoneName),
}

impl Departure {
    /// The zone that it left just now.
    pub(super) const fn left(&self) -> Option<&ZoneName> {
        match self {
            Self::Left(zone) => Some(zone),
            Self::None | Self::Joining(_) | Self::Certified(_) => None,
        }
    }

    /// Whether the device gets certificates in `zone` still.
    pub(super) fn certifies(&self, zone: &ZoneName) -> bool {
        !matches!(self, Self::Certified(leaves) if leaves == zone)
    }

    /// `device` as it is stored: asked to say soon that it delivered what it gets now in the zone that it goes to.
    pub(super) fn awaiting(&self, device: &Device, svids: &[v1::Svid]) -> Device {
        let to = device.leaving.as_ref().map(|leaving| leaving.to.as_str());
        let gets =
            matches!(self, Self::Joining(_)) && svids.iter().any(|svid| Some(svid.zone.as_str()) == to);
        let asked = device.asked.saturating_add(gets.into());
        Device { asked, ..device.clone() }
    }
}

/// Lets `device` leave its old zone, if it has arrived in the new one.
pub(super) async fn depart(
    plant: &Plant,
    device: &mut Device,
    proven: &Proven,
) -> Result<Departure, Refusal> {
    let Some(leaving) = device.leaving.clone() else { return Ok(Departure::None) };
    let now = plant.now();
    let new = living(plant, &device.name, &leaving.to, now).await?;
    let old = living(plant, &device.name, &leaving.from, now).await?;
    let certified = [Role::Caller, Role::Listener].iter().all(|role| new.iter().any(|one| one.role == *role));
    if old.is_empty() || (certified && delivered(&new, &leaving.to, proven)) {
        device.zones.retain(|zone| *zone != leaving.from);
        device.addresses.remove(&leaving.from);
        device.leaving = None;
        return Ok(Departure::Left(leaving.from));
    }
    Ok(if certified { Departure::Certified(leaving.from) } else { Departure::Joining(leaving.from) })
}

/// Whether the device says that its software has a certificate of each role. An attestor that says nothing of it
/// asks for none where it holds one.
fn delivered(new: &[HeldCertificate], zone: &ZoneName, proven: &Proven) -> bool {
    let Some(serials) = &proven.statement().delivered else {
        return !proven.keys().iter().any(|key| key.zone == *zone);
    };
    let has = |role: Role| new.iter().any(|one| one.role == role && serials.contains(&one.serial));
    has(Role::Caller) && has(Role::Listener)
}

async fn living(
    plant: &Plant,
    device: &DeviceName,
    zone: &ZoneName,
    now: UnixTime,
) -> Result<Vec<HeldCertificate>, Refusal> {
    let held: Option<Held<HeldCertificates>> = fetch(plant.store.as_ref(), held_key(device, zone)).await?;
    let all = held.map(|held| held.record.certificates).unwrap_or_default();
    Ok(all.into_iter().filter(|one| one.validity.not_after > now).collect())
}
