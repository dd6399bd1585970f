//! Keys of devices without a TPM that followed since a backup was made: a restore brings none back that was followed, nor
//! a line of keys that ended.

use std::collections::BTreeMap;

use crate::plant::Plant;
use crate::record::device::{DEVICE, Device};
use crate::record::{Held, list};
use crate::session::Refusal;

/// The devices without a TPM as a plant that is still here knows them, by store key.
#[derive(Debug, Default)]
pub(super) struct KeyLines(BTreeMap<String, Device>);

impl KeyLines {
    /// Those of this plant.
    pub(super) async fn of(plant: &Plant) -> Result<Self, Refusal> {
        let all: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
        let keyed = all.into_iter().filter(|held| held.record.key_line().is_some());
        Ok(Self(keyed.map(|held| (held.key, held.record)).collect()))
    }

    /// The device as it is restored: with the keys of now, unless those of the backup are newer, because an older backup
    /// was restored before.
    pub(super) fn device(&self, key: &str, restored: Device) -> Device {
        let Some(now) = self.0.get(key) else { return restored };
        match restored.turn().is_some_and(|turn| Some(turn) <= now.turn()) {
            true => Device {
                ak: now.ak.clone(),
                prover: now.prover,
                admitted_at: now.admitted_at,
                admitted_by: now.admitted_by.clone(),
                counter: restored.counter.max(now.counter),
                ..restored
            },
            false => restored,
        }
    }
}
