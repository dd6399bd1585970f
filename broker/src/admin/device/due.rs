//! Whether a move that was planned may begin: whoever planned it is asked nothing, so everything is looked at again.

use super::provable;
use crate::admin::Act;
use crate::admin::stand::{Fallen, stand};
use crate::plant::Plant;
use crate::record::device::{Admission, Device, MAX_ZONES, device_key};
use crate::record::moving::PlannedMove;
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
    match provable(plant, &device.record, std::slice::from_ref(&planned.to)).await {
        Err(Refusal::Conflict(why)) => return Ok(Due::Dropped(why)),
        looked => looked?,
    }
    let touched = [device.record.zones.as_slice(), std::slice::from_ref(&planned.to)].concat();
    let why = match stand(plant, Act::MoveDevice, &planned.people(), &touched).await? {
        Ok(rests_on) => {
            let txn = rests_on.unchanged(device.key.clone(), device.version);
            return Ok(Due::Begins(Box::new(device), txn));
        }
        Err(Fallen::NoZone(zone)) => format!("there is no zone {zone} any more"),
        Err(Fallen::Alone(zone)) => {
            format!("zone {zone} asks for two people, and {} planned it alone", planned.by)
        }
        Err(Fallen::Person(name, _)) => format!("{name} is no administrator any more who may do it"),
    };
    Ok(Due::Dropped(why))
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
