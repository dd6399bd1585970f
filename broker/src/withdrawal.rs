//! Withdrawals reach every device: whoever last proved to run a withdrawn release loses the certificates of the
//! zones that enforce it, connected or not, so that peers refuse them by the next CRL. So it is with a release for
//! which only compromised keys vouch, with a zone that enforces other rules than before (`rules`), and with addresses that a zone
//! does not admit any more (`narrowed`).
//!
//! The withdrawal itself is one small transaction, which also leaves a [`Withdrawal`] to do. It is done in steps of
//! bounded size and is removed after the last one, so that a broker that stops in between goes on where it was. A
//! device that attests meanwhile is judged under the new golden values, and its own transaction wins.

mod longer;
mod lose;
mod narrowed;
mod rules;

pub(crate) use self::longer::{Longer, longer};
pub(crate) use self::lose::{Batch, Loss, lose};
pub(crate) use self::narrowed::{Outside, outside};
pub(crate) use self::rules::{Losing, holds, losing};

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use policy::appraisal::finding::FindingKind;
use policy::appraisal::policy::Mode;
use policy::id::{DeviceName, ProductName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::zone::Zone;
use tokio::time::{Instant, timeout_at};

use crate::audit::Event;
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{ATTESTED, Attested, Device, device_key};
use crate::record::golden::{ReleaseRecord, WITHDRAWAL, Withdrawal, release_key};
use crate::record::release_key::{COMPROMISE, Compromise};
use crate::record::zone::{NARROWING, Narrowing, REAPPRAISAL, Reappraisal, ZONE};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::{Txn, Watch, WatchEvent};

/// How often it is looked for what is due by the clock.
const LOOK: Duration = Duration::from_secs(10);
/// How long to wait before a step that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Finishes withdrawals, and what is like them, as they come, for ever; those of before the start first.
pub(crate) async fn follow(plant: Arc<Plant>) {
    let mut changes = plant.store.watch(plant.store.revision());
    loop {
        if let Err(error) = finish(&plant).await {
            tracing::warn!(%error, "a withdrawal goes on with the next try");
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        if !something_to_do(&mut changes, LOOK).await {
            return;
        }
    }
}

/// Waits for a change that concerns it, at most for `look`: what is due by the clock does not wait until nothing changes.
/// Says whether the store still is there.
async fn something_to_do(changes: &mut Watch, look: Duration) -> bool {
    let until = Instant::now() + look;
    loop {
        match timeout_at(until, changes.next()).await {
            Ok(None) => return false,
            Ok(Some(event)) if !concerns(&event) => {}
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

fn concerns(event: &WatchEvent) -> bool {
    match event {
        WatchEvent::Resync { .. } => true,
        WatchEvent::Change(change) => {
            let jobs = [WITHDRAWAL, COMPROMISE, REAPPRAISAL, NARROWING];
            change.keys.iter().any(|key| jobs.iter().any(|job| key.starts_with(job)))
        }
    }
}

/// Does what withdrawals have left to do.
pub(crate) async fn finish(plant: &Plant) -> Result<(), Refusal> {
    for withdrawal in list::<Withdrawal>(plant.store.as_ref(), WITHDRAWAL).await? {
        let Withdrawal { release, reason, .. } = &withdrawal.record;
        let why = format!("{release} was withdrawn: {reason}");
        let loss = Loss::of_proof(why, "its release was withdrawn", Some(FindingKind::Withdrawn));
        let reached = reach(plant, release, &loss).await?;
        let release = release.to_string();
        done(plant, withdrawal, "golden.withdrawn", &release, reached).await?;
    }
    for compromise in list::<Compromise>(plant.store.as_ref(), COMPROMISE).await? {
        let reached = expose(plant, &compromise.record).await?;
        let key = compromise.record.key.to_string();
        done(plant, compromise, "release-key.compromised", &key, reached).await?;
    }
    for narrowing in list::<Narrowing>(plant.store.as_ref(), NARROWING).await? {
        narrowed::narrow(plant, narrowing).await?;
    }
    for change in list::<Reappraisal>(plant.store.as_ref(), REAPPRAISAL).await? {
        let reached = rules::reappraise(plant, &change.record).await?;
        let zone = change.record.zone.to_string();
        done(plant, change, "zone.reappraised", &zone, reached).await?;
    }
    Ok(())
}

/// Takes off what is done, unless it was asked for again meanwhile.
async fn done<R>(
    plant: &Plant,
    job: Held<R>,
    action: &str,
    subject: &str,
    (devices, revoked): (usize, usize),
) -> Result<(), Refusal> {
    let text = format!("reached {devices} devices, {revoked} certificates revoked");
    let event = Event::new(plant.now(), "broker", action, subject, &text);
    let txn = Txn::new().unchanged(job.key.clone(), job.version).delete(job.key);
    commit(plant, txn.audit(event.entry())).await?;
    tracing::warn!(action, subject, devices, revoked, "every device that it concerns was reached");
    Ok(())
}

/// Revokes what rests on releases that the key signed and that count for nothing. Returns how many devices and
/// certificates.
async fn expose(plant: &Plant, compromise: &Compromise) -> Result<(usize, usize), Refusal> {
    // Read now: what was signed again by other keys meanwhile counts.
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let (mut devices, mut revoked) = (0, 0);
    for (release, why) in golden.void.iter() {
        let slot = release_key(&release.product, release.version.as_str());
        let held: Option<Held<ReleaseRecord>> = fetch(plant.store.as_ref(), slot).await?;
        let id = compromise.key.to_string();
        if !held.is_some_and(|held| held.record.signers.contains(&id)) {
            continue;
        }
        let why = format!("{release} counts for nothing: {why}");
        let loss = Loss::of_proof(why, "the key of its release is compromised", Some(FindingKind::Withdrawn));
        let (more, certificates) = reach(plant, release, &loss).await?;
        (devices, revoked) = (devices + more, revoked + certificates);
    }
    Ok((devices, revoked))
}

/// Revokes what the devices hold that last proved to run the release. Returns how many devices and certificates.
async fn reach(plant: &Plant, release: &ReleaseId, loss: &Loss) -> Result<(usize, usize), Refusal> {
    let zones = enforcing(plant, &release.product).await?;
    let all: Vec<Held<Attested>> = list(plant.store.as_ref(), ATTESTED).await?;
    let (mut devices, mut batch) = (0, Batch::default());
    for seen in all.into_iter().filter(|held| held.record.running().contains(release)) {
        let name = seen.key.strip_prefix(ATTESTED).and_then(|name| name.parse::<DeviceName>().ok());
        let Some(name) = name else { continue };
        // A large fleet attests while it is reached: what it was when it was listed is old by now.
        let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), seen.key).await?;
        let Some(attested) = attested.filter(|held| held.record.running().contains(release)) else {
            continue;
        };
        if !is_in(plant, &name, &zones).await? {
            continue;
        }
        // What ended its trust before may have been a matter of other zones only.
        if attested.record.lost.is_some() && !rules::holds(plant, &name, &zones).await? {
            continue;
        }
        devices += 1;
        lose(plant, &mut batch, loss, &name, attested, &zones).await?;
    }
    batch.commit(plant).await?;
    Ok((devices, batch.revoked))
}

/// The zones in which the withdrawal ends trust: those that compare with releases of the product and enforce it.
async fn enforcing(plant: &Plant, product: &ProductName) -> Result<BTreeSet<ZoneName>, Refusal> {
    let zones: Vec<Held<Zone>> = list(plant.store.as_ref(), ZONE).await?;
    let zones = zones.into_iter().map(|held| held.record);
    let zones = zones.filter(|zone| zone.mode == Mode::Enforce && zone.products.contains(product));
    Ok(zones.map(|zone| zone.name).collect())
}

async fn is_in(plant: &Plant, name: &DeviceName, zones: &BTreeSet<ZoneName>) -> Result<bool, Refusal> {
    let device: Option<Held<Device>> = fetch(plant.store.as_ref(), device_key(name)).await?;
    Ok(device.is_some_and(|held| held.record.zones.iter().any(|zone| zones.contains(zone))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::Bench;

    #[tokio::test]
    async fn what_is_due_by_the_clock_does_not_wait_until_nothing_changes() {
        let bench = Bench::new().await;
        let store = &bench.plant.store;
        let mut changes = store.watch(store.revision());
        let busy = async {
            loop {
                store.transact(Txn::new().put("test/busy", "x")).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let looked = tokio::time::timeout(
            Duration::from_secs(60),
            something_to_do(&mut changes, Duration::from_millis(200)),
        );
        tokio::select! {
            () = busy => {}
            looked = looked => assert!(looked.expect("it is looked in time")),
        }
    }
}
