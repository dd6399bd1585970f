//! Whether a move that was planned may begin: whoever planned it is asked nothing, so everything is looked at again.

use policy::id::ZoneName;
use policy::zone::Zone;

use crate::admin::actor::{Act, permitted};
use crate::admin::reach::Scope;
use crate::plant::Plant;
use crate::record::device::{Admission, Device, MAX_ZONES, device_key};
use crate::record::moving::PlannedMove;
use crate::record::plant::{Administrator, admin_key};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::store::Txn;

/// What a planned move comes to now.
pub(crate) enum Due {
    /// It begins; the transaction compares all that this rests on.
    Begins(Box<Held<Device>>, Txn),
    /// It does not, for this reason.
    Dropped(String),
}

/// Looks at a planned move whose window is open.
pub(crate) async fn due(plant: &Plant, planned: &PlannedMove) -> Result<Due, Refusal> {
    let held: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(&planned.device)).await?;
    let device = match fitting(held, planned) {
        Ok(device) => device,
        Err(why) => return Ok(Due::Dropped(why)),
    };
    let touched = [device.record.zones.as_slice(), std::slice::from_ref(&planned.to)].concat();
    let (mut txn, mut two_person) = (Txn::new().unchanged(device.key.clone(), device.version), None);
    for zone in &touched {
        let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(zone)).await?;
        let Some(held) = held else {
            return Ok(Due::Dropped(format!("there is no zone {zone} any more")));
        };
        two_person = two_person.or(held.record.two_person.then(|| zone.clone()));
        txn = txn.unchanged(held.key, held.version);
    }
    let people = planned.people();
    if let Some(zone) = two_person.filter(|_| people.len() < 2) {
        return Ok(Due::Dropped(format!(
            "zone {zone} asks for two people, and {} planned it alone",
            planned.by
        )));
    }
    for person in people {
        let held: Option<Held<Administrator>> = fetch(plant.store.as_ref(), admin_key(&person.name)).await?;
        let same = |held: &Held<Administrator>| {
            person.since.is_none_or(|since| since == held.record.created) && may(&held.record, &touched)
        };
        let Some(held) = held.filter(same) else {
            return Ok(Due::Dropped(format!("{} is no administrator any more who may do it", person.name)));
        };
        txn = txn.unchanged(held.key, held.version);
    }
    Ok(Due::Begins(Box::new(device), txn))
}

/// The device, if it still is where it was to be moved from.
fn fitting(held: Option<Held<Device>>, planned: &PlannedMove) -> Result<Held<Device>, String> {
    let PlannedMove { device: name, from, to, .. } = planned;
    let held = held.filter(|held| held.record.admission == Admission::Admitted);
    let held = held.ok_or_else(|| format!("{name} is no device in service any more"))?;
    let device = &held.record;
    if device.leaving.is_some() {
        return Err(format!("{name} is on its way to another zone"));
    }
    if !device.zones.contains(from) || device.zones.contains(to) {
        return Err(format!("{name} is not in the zones any more that it was in"));
    }
    if device.zones.len() >= MAX_ZONES {
        return Err(format!("{name} is in {MAX_ZONES} zones and cannot join one more"));
    }
    Ok(held)
}

/// Whether the administrator may move a device among these zones.
fn may(record: &Administrator, zones: &[ZoneName]) -> bool {
    let act = Act::MoveDevice;
    permitted(&record.name, record.role, act, act.needs()).is_ok() && Scope::of(record).covers(zones)
}
