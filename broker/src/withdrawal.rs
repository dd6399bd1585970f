//! Withdrawals reach every device: whoever last proved to run a withdrawn release loses the certificates of the
//! zones that enforce it, connected or not, so that peers refuse them by the next CRL. So it is with a release for
//! which only compromised keys vouch.
//!
//! The withdrawal itself is one small transaction, which also leaves a [`Withdrawal`] to do. It is done in steps of
//! bounded size and is removed after the last one, so that a broker that stops in between goes on where it was. A
//! device that attests meanwhile is judged under the new golden values, and its own transaction wins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use policy::appraisal::finding::FindingKind;
use policy::appraisal::policy::Mode;
use policy::id::{DeviceName, ProductName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::zone::Zone;

use crate::audit::Event;
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{
    ATTESTED, Attested, Decision, Device, HeldCertificates, device_key, held_place, held_prefix,
};
use crate::record::golden::{ReleaseRecord, WITHDRAWAL, Withdrawal, release_key};
use crate::record::release_key::{COMPROMISE, Compromise};
use crate::record::zone::ZONE;
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::session::issue::revoke_all;
use crate::store::{MAX_TXN_KEYS, Txn, WatchEvent};
use crate::trust;

/// What each transaction expects and writes besides what is of devices: the trust head.
const OVERHEAD: usize = 2;
/// How long to wait before a step that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Finishes withdrawals as they come, for ever; those of before the start first.
pub(crate) async fn follow(plant: Arc<Plant>) {
    let mut changes = plant.store.watch(plant.store.revision());
    loop {
        if let Err(error) = finish(&plant).await {
            tracing::warn!(%error, "a withdrawal goes on with the next try");
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        loop {
            match changes.next().await {
                None => return,
                Some(event) if concerns(&event) => break,
                Some(_) => {}
            }
        }
    }
}

fn concerns(event: &WatchEvent) -> bool {
    match event {
        WatchEvent::Resync { .. } => true,
        WatchEvent::Change(change) => {
            change.keys.iter().any(|key| key.starts_with(WITHDRAWAL) || key.starts_with(COMPROMISE))
        }
    }
}

/// Does what withdrawals have left to do.
pub(crate) async fn finish(plant: &Plant) -> Result<(), Refusal> {
    let open: Vec<Held<Withdrawal>> = list(plant.store.as_ref(), WITHDRAWAL).await?;
    for withdrawal in open {
        let Withdrawal { release, reason, .. } = &withdrawal.record;
        let why = format!("{release} was withdrawn: {reason}");
        let loss = Loss { release, why, revocation: "its release was withdrawn" };
        let (devices, revoked) = reach(plant, &loss).await?;
        let text = format!("reached {devices} devices, {revoked} certificates revoked");
        let release = withdrawal.record.release.to_string();
        let event = Event::new(plant.now(), "broker", "golden.withdrawn", &release, &text);
        let txn = Txn::new().unchanged(withdrawal.key.clone(), withdrawal.version).delete(withdrawal.key);
        commit(plant, txn.audit(event.entry())).await?;
        tracing::warn!(release, devices, revoked, "a withdrawal reached every device that ran the release");
    }
    let open: Vec<Held<Compromise>> = list(plant.store.as_ref(), COMPROMISE).await?;
    for compromise in open {
        let (devices, revoked) = expose(plant, &compromise.record).await?;
        let text = format!("reached {devices} devices, {revoked} certificates revoked");
        let key = compromise.record.key.to_string();
        let event = Event::new(plant.now(), "broker", "release-key.compromised", &key, &text);
        let txn = Txn::new().unchanged(compromise.key.clone(), compromise.version).delete(compromise.key);
        commit(plant, txn.audit(event.entry())).await?;
        tracing::warn!(
            key,
            devices,
            revoked,
            "a compromise reached every device that ran what the key signed"
        );
    }
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
        let loss = Loss { release, why, revocation: "the key of its release is compromised" };
        let (more, certificates) = reach(plant, &loss).await?;
        (devices, revoked) = (devices + more, revoked + certificates);
    }
    Ok((devices, revoked))
}

/// A release that keeps no trust any more, and why.
struct Loss<'a> {
    release: &'a ReleaseId,
    why: String,
    /// The same, as revocations say it.
    revocation: &'static str,
}

/// Revokes what the devices hold that last proved to run the release. Returns how many devices and certificates.
async fn reach(plant: &Plant, loss: &Loss<'_>) -> Result<(usize, usize), Refusal> {
    let zones = enforcing(plant, &loss.release.product).await?;
    let all: Vec<Held<Attested>> = list(plant.store.as_ref(), ATTESTED).await?;
    let (mut devices, mut batch) = (0, Batch::default());
    for seen in all {
        let name = seen.key.strip_prefix(ATTESTED).and_then(|name| name.parse::<DeviceName>().ok());
        let Some(name) = name.filter(|_| concerned(&seen.record, loss)) else { continue };
        if !is_in(plant, &name, &zones).await? {
            continue;
        }
        // A large fleet attests while it is reached: what it was when it was listed is old by now.
        let attested: Option<Held<Attested>> = fetch(plant.store.as_ref(), seen.key).await?;
        let Some(attested) = attested.filter(|held| concerned(&held.record, loss)) else { continue };
        devices += 1;
        lose(plant, &mut batch, loss, &name, attested, &zones).await?;
    }
    batch.commit(plant).await?;
    Ok((devices, batch.revoked))
}

fn concerned(attested: &Attested, loss: &Loss<'_>) -> bool {
    attested.lost.is_none() && attested.running().contains(loss.release)
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

/// Ends what `name` holds in `zones`, and puts on record why. Each step compares its attestation, the last one
/// writes it.
async fn lose(
    plant: &Plant,
    batch: &mut Batch,
    loss: &Loss<'_>,
    name: &DeviceName,
    mut attested: Held<Attested>,
    zones: &BTreeSet<ZoneName>,
) -> Result<(), Refusal> {
    let now = plant.now();
    let why = &loss.why;
    let prefix = held_prefix(name);
    let held: Vec<Held<HeldCertificates>> = list(plant.store.as_ref(), &prefix).await?;
    let (mut revoked, mut lost) = (0, BTreeSet::new());
    for held in held {
        let place = held.key.strip_prefix(&prefix).and_then(held_place);
        let (zone, _) = place.ok_or_else(|| Refusal::internal(format!("store key {}", held.key)))?;
        if zones.contains(&zone) {
            let step = Txn::new().unchanged(attested.key.clone(), attested.version);
            let (count, step) = revoke_all(step, name, &zone, held, now, loss.revocation)?;
            batch.add(plant, step, count).await?;
            revoked += count;
            lost.insert(zone);
        }
    }
    (attested.record.decision, attested.record.lost) = (Decision::Refused, Some(why.clone()));
    let text = format!("{why}; {revoked} certificates revoked");
    let event = Event::new(now, "broker", "device.lost", name.as_str(), &text);
    let step = Txn::new().unchanged(attested.key.clone(), attested.version);
    batch.add(plant, step.put(attested.key, stored(&attested.record)?).audit(event.entry()), 0).await?;
    lost.iter().for_each(|zone| plant.metrics.verdict(zone, Decision::Refused, Some(FindingKind::Withdrawn)));
    Ok(())
}

/// Steps that go into one transaction as long as there is room.
#[derive(Default)]
struct Batch {
    txn: Txn,
    revoked: usize,
}

impl Batch {
    async fn add(&mut self, plant: &Plant, step: Txn, revoked: usize) -> Result<(), Refusal> {
        if self.txn.keys() + step.keys() + OVERHEAD > MAX_TXN_KEYS {
            self.commit(plant).await?;
        }
        self.txn = std::mem::take(&mut self.txn).and(step);
        self.revoked += revoked;
        Ok(())
    }

    async fn commit(&mut self, plant: &Plant) -> Result<(), Refusal> {
        let txn = std::mem::take(&mut self.txn);
        if txn.keys() == 0 {
            return Ok(());
        }
        commit(plant, trust::raise(plant, txn, plant.now()).await?).await
    }
}
