//! A zone whose numbers became shorter: what was certified before lives as long as it says, and is replaced by what is
//! shorter. Nothing is revoked for it; people are told until when.

use std::collections::BTreeSet;

use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::Zone;

use crate::plant::Plant;
use crate::record::device::{HELD, HeldCertificates, held_place};
use crate::record::{Held, list};
use crate::session::Refusal;

/// Certificates of a zone that end later than one that were issued now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Longer {
    /// The zone.
    pub(crate) zone: ZoneName,
    /// How many.
    pub(crate) certificates: usize,
    /// Devices that hold them.
    pub(crate) devices: usize,
    /// When the last of them ends.
    pub(crate) until: UnixTime,
}

/// What lives longer than the numbers of `zones` say, by zone; zones in which nothing does are left out.
pub(crate) async fn longer(plant: &Plant, zones: &[&Zone]) -> Result<Vec<Longer>, Refusal> {
    if zones.is_empty() {
        return Ok(Vec::new());
    }
    let now = plant.now();
    let all: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), HELD).await?;
    let in_zone = |held: &Held<HeldCertificates>, zone: &Zone| {
        let (device, place) = held.key.strip_prefix(HELD)?.split_once('/')?;
        (held_place(place)?.0 == zone.name).then(|| device.to_owned())
    };
    let of_zone = |zone: &&Zone| {
        let last = now.plus(zone.timing.certificate_lifetime());
        let (mut devices, mut certificates, mut until) = (BTreeSet::new(), 0_usize, UnixTime(0));
        for held in &all {
            let Some(device) = in_zone(held, zone) else { continue };
            for ends in held.record.certificates.iter().map(|one| one.validity.not_after) {
                if ends > last {
                    devices.insert(device.clone());
                    certificates = certificates.saturating_add(1);
                    until = until.max(ends);
                }
            }
        }
        let found = Longer { zone: zone.name.clone(), certificates, devices: devices.len(), until };
        (certificates > 0).then_some(found)
    };
    Ok(zones.iter().filter_map(of_zone).collect())
}
