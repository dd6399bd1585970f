//! Moves of devices that begin by the clock: each when its window opens, once.

use std::sync::Arc;
use std::time::Duration;

use policy::time::UnixTime;

use crate::admin::device::due::{Due, due};
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::device::{Device, Leaving};
use crate::record::moving::{MOVE, PlannedMove};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::Txn;
use crate::trust;

/// How often it is looked whether a window is open: windows are of minutes.
const LOOK: Duration = Duration::from_secs(10);

/// Begins moves as their windows open, for ever.
pub(crate) async fn follow(plant: Arc<Plant>) {
    loop {
        if let Err(error) = turn(&plant).await {
            tracing::warn!(%error, "planned moves begin with the next try");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Begins what may begin now. What cannot stays, and keeps no other from beginning.
pub(crate) async fn turn(plant: &Plant) -> Result<(), Refusal> {
    let now = plant.now();
    let planned: Vec<Held<PlannedMove>> = list(plant.store.as_ref(), MOVE).await?;
    for planned in planned.into_iter().filter(|held| held.record.window.is_open(now)) {
        let name = planned.record.device.clone();
        if let Err(error) = begin(plant, planned, now).await {
            tracing::warn!(device.id = %name, %error, "a planned move begins with the next try");
        }
    }
    Ok(())
}

/// Begins one of them, or drops it.
async fn begin(plant: &Plant, planned: Held<PlannedMove>, now: UnixTime) -> Result<(), Refusal> {
    let txn = Txn::new().unchanged(planned.key.clone(), planned.version).delete(planned.key);
    let PlannedMove { device: name, from, to, by, .. } = &planned.record;
    let (txn, text) = match due(plant, &planned.record).await? {
        Due::Begins(device, rests_on) => {
            let leaving = Leaving { from: from.clone(), to: to.clone(), since: now };
            let text = format!("from {from} to {to}, planned by {by}");
            (begun(plant, txn.and(rests_on), *device, leaving, now).await?, text)
        }
        Due::Dropped(why) => (txn, format!("not from {from} to {to}, as {by} planned it: {why}")),
    };
    tracing::info!(device.id = %name, "{text}");
    let event = Event::new(now, "broker", "device.move", name.as_str(), &text);
    commit(plant, txn.audit(event.entry())).await
}

/// Adds to `txn` that a device is in both zones from now on, and is asked to prove itself for the new one.
pub(crate) async fn begun(
    plant: &Plant,
    txn: Txn,
    Held { key, record, .. }: Held<Device>,
    leaving: Leaving,
    now: UnixTime,
) -> Result<Txn, Refusal> {
    let mut zones = record.zones.clone();
    zones.push(leaving.to.clone());
    zones.sort();
    zones.dedup();
    // One that was never here asks by itself when it comes.
    let asked = record.asked.saturating_add(u64::from(record.ak.is_some()));
    let device = Device { zones, asked, leaving: Some(leaving), ..record };
    trust::raise(plant, txn.put(key, stored(&device)?), now).await
}
