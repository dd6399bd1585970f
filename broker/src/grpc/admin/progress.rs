//! A device's health, and what rollouts told it: fetch, convert.

use policy::id::DeviceName;
use policy::rollout::{Baseline, Health};
use proto::v1;

use crate::plant::Plant;
use crate::record::rollout::{HealthRecord, TellRecord, health_key, told_key};
use crate::record::{Held, fetch};
use crate::rollout::all;
use crate::session::Refusal;

/// What the health command of `name` says; none where it states none.
pub(super) async fn health(plant: &Plant, name: &DeviceName) -> Result<Option<v1::DeviceHealth>, Refusal> {
    let held: Option<Held<HealthRecord>> = fetch(plant.store.as_ref(), health_key(name)).await?;
    Ok(held.and_then(|held| stated(&held.record)))
}

fn stated(record: &HealthRecord) -> Option<v1::DeviceHealth> {
    let failing_in_a_row = match record.health() {
        Health::None => return None,
        Health::Ok => 0,
        Health::Failing { in_a_row } => in_a_row,
    };
    let word = |ok: bool| if ok { "ok" } else { "failing" }.to_owned();
    let results = record
        .results
        .iter()
        .map(|result| v1::HealthResult { at: result.at.0, exit_code: result.exit_code.map(u32::from) });
    Some(v1::DeviceHealth {
        state: word(failing_in_a_row == 0),
        failing_in_a_row,
        baseline: word(record.baseline() == Baseline::Ok),
        results: results.collect(),
    })
}

/// What the last rollout of each product told `name`.
pub(super) async fn rollouts(plant: &Plant, name: &DeviceName) -> Result<Vec<v1::DeviceRollout>, Refusal> {
    let mut told = Vec::new();
    for rollout in all(plant).await?.into_iter().map(|held| held.record) {
        let id = rollout.plan.id();
        let held: Option<Held<TellRecord>> = fetch(plant.store.as_ref(), told_key(&id.product, name)).await?;
        let own = held.map(|held| held.record).filter(|told| told.rollout == id.number);
        told.extend(own.map(|own| v1::DeviceRollout {
            id: id.to_string(),
            state: rollout.state.name().to_owned(),
            release: own.release.to_string(),
            told_at: own.told.at.0,
            proven_at: own.told.proven.map_or(0, |at| at.0),
        }));
    }
    Ok(told)
}
