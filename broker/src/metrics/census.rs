//! What is read from the store when somebody looks: it is true of that moment, and costs nothing at each event.
//!
//! A registry is made anew each time, so nothing stays that is gone.

mod audit;
mod devices;
mod expiry;

use policy::time::UnixTime;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::counted::gauge;
use super::disk::{self, Taken};
use super::{Labels, PREFIX};
use crate::plant::Plant;
use crate::record::change::{CHANGE, Change};
use crate::record::overriding::{OVERRIDE, OverrideRecord};
use crate::record::rollout::{ROLLOUT, Rollout, RolloutState};
use crate::record::{Held, list};
use crate::session::Refusal;
use crate::trust;

/// Everything that the store says, as of now.
pub(super) async fn census(plant: &Plant) -> Result<Registry, Refusal> {
    let now = plant.now();
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let mut registry = Registry::with_prefix(PREFIX);
    devices::count(plant, &zones, now, &mut registry).await?;
    expiry::authorities(plant, now, &mut registry).await?;
    expiry::own(plant, now, &mut registry).await?;
    expiry::administrators(plant, now, &mut registry).await?;
    audit::count(plant, now, &mut registry).await?;
    waiting(plant, now, &mut registry).await?;
    rollouts(plant, &mut registry).await?;
    store(plant, &mut registry).await?;
    Ok(registry)
}

/// A family of gauges while it is filled.
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;

/// Seconds until `end`; below zero once it is past.
fn seconds_to(end: UnixTime, now: UnixTime) -> i64 {
    let seconds = |from: UnixTime, to: UnixTime| i64::try_from(to.since(from)).unwrap_or(i64::MAX);
    if end >= now { seconds(now, end) } else { seconds(end, now).saturating_neg() }
}

async fn waiting(plant: &Plant, now: UnixTime, registry: &mut Registry) -> Result<(), Refusal> {
    let changes: Vec<Held<Change>> = list(plant.store.as_ref(), CHANGE).await?;
    let waiting = changes.iter().filter(|held| held.record.expires > now).count();
    let overrides: Vec<Held<OverrideRecord>> = list(plant.store.as_ref(), OVERRIDE).await?;
    let in_force = overrides.iter().filter(|held| held.record.excused.until > now).count();
    one(registry, "changes_waiting", "Changes that wait for a second person", gauge(waiting));
    one(registry, "overrides", "Devices whose mismatches are accepted by hand for a time", gauge(in_force));
    Ok(())
}

async fn rollouts(plant: &Plant, registry: &mut Registry) -> Result<(), Refusal> {
    let rollouts = Gauges::<1>::default();
    for state in RolloutState::NAMES {
        drop(rollouts.get_or_create(&[("state", state.to_owned())]));
    }
    for held in list::<Rollout>(plant.store.as_ref(), ROLLOUT).await? {
        rollouts.get_or_create(&[("state", held.record.state.name().to_owned())]).inc();
    }
    registry.register("rollouts", "Products by the state of their last rollout", rollouts);
    Ok(())
}

async fn store(plant: &Plant, registry: &mut Registry) -> Result<(), Refusal> {
    let dir = plant.config.dir.clone();
    let taken = tokio::task::spawn_blocking(move || disk::taken(&dir)).await.map_err(Refusal::internal)?;
    let Taken { records, blobs } = taken.map_err(Refusal::internal)?;
    let bytes = Gauges::<1>::default();
    for (part, taken) in [("records", records), ("blobs", blobs)] {
        bytes.get_or_create(&[("part", part.to_owned())]).set(i64::try_from(taken).unwrap_or(i64::MAX));
    }
    registry.register("store_bytes", "What the plant takes on disk", bytes);
    Ok(())
}

/// Registers a gauge without labels.
fn one(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

#[cfg(test)]
mod tests;
