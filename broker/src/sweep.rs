//! Removes what nothing needs any more: revocations of certificates that ended long ago, overrides that are over, keys in
//! software of certificates that ended,
//! would-be refusals of last quarter, what rollouts kept of devices that are gone, changes that were never completed,
//! and blobs that no record names.
//!
//! Promises: what counts is never removed, also when the clock is set wrong for a moment; a sweep that fails
//! changes no verdict and is tried again the next day. Does not promise when something is removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use policy::digest::Digest;
use policy::time::UnixTime;

use crate::admin::backup::blobs_in_use;
use crate::admin::staging;
use crate::audit::archive::archive;
use crate::plant::Plant;
use crate::record::device::{Admission, CertifiedKeyOwner, DEVICE, Device, KEY};
use crate::record::overriding::{OVERRIDE, OverrideRecord};
use crate::record::rollout::{HEALTH, HealthRecord, TOLD, TellRecord};
use crate::record::would::{WOULD, WouldRefuse};
use crate::record::zone::{REVOKED, RevokedCertificate};
use crate::record::{Held, list};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::record::Record;
use crate::store::{MAX_TXN_KEYS, Txn};

/// Seconds between two sweeps.
const EVERY: u64 = 86_400;
/// Seconds by which the wall clock may drift from the time that passed.
const DRIFT: u64 = 600;
/// Seconds for which a revocation is kept, and told, after the certificate's end: devices' clocks run late, and so may
/// the broker's have run ahead.
pub(crate) const KEPT: u64 = 30 * 86_400;
/// Seconds for which the evidence of a device that fell silent is kept: half a year explains what it was, and
/// a fleet's leftovers stay bounded.
const EVIDENCE_KEPT: u64 = 180 * 86_400;
/// Seconds for which a would-be refusal is remembered: a quarter, far longer than anybody observes a zone.
const REMEMBERED: u64 = 92 * 86_400;
/// Records of one transaction: each is compared and deleted.
const STEP: usize = MAX_TXN_KEYS / 2;
/// Most records of a kind that one sweep removes, so that it never holds up devices for long.
const MOST: usize = 5_000;

/// Sweeps once a day, for ever.
pub(crate) async fn every_day(plant: Arc<Plant>) {
    let mut orphans = BTreeSet::new();
    loop {
        let before = plant.now();
        tokio::time::sleep(Duration::from_secs(EVERY)).await;
        if let Some(why) = jumped(before, plant.now()) {
            tracing::warn!(why, "nothing is swept");
            orphans.clear();
            continue;
        }
        // The time of a day ago: whatever it says has ended was seen to be so for a whole day.
        match sweep(&plant, before, &orphans).await {
            Ok(next) => orphans = next,
            Err(error) => tracing::warn!(%error, "the sweep is tried again tomorrow"),
        }
    }
}

/// Why the wall clock is not believed: it did not move by the time that passed.
fn jumped(before: UnixTime, after: UnixTime) -> Option<&'static str> {
    match after.since(before) {
        moved if moved < EVERY - DRIFT => Some("the clock was set back"),
        moved if moved > EVERY + DRIFT => Some("the clock was set forward"),
        _ => None,
    }
}

/// One sweep. Blobs go if they are orphans now and were among `orphans` the last time; the others of now are
/// returned, since whoever put them may be about to name them.
async fn sweep(
    plant: &Plant,
    now: UnixTime,
    orphans: &BTreeSet<Digest>,
) -> Result<BTreeSet<Digest>, Refusal> {
    staging::sweep(plant, now).await?;
    let over = |record: &RevokedCertificate| record.not_after.plus(KEPT) < now;
    let revocations = ended(plant, REVOKED, over).await?;
    ended(plant, OVERRIDE, |record: &OverrideRecord| record.excused.until < now).await?;
    ended(plant, WOULD, |record: &WouldRefuse| record.last.plus(REMEMBERED) < now).await?;
    // Each was for one certificate, and whoever copied it has nothing of it any more.
    ended(plant, KEY, |key: &CertifiedKeyOwner| key.until.is_some_and(|end| end < now)).await?;
    let living = living(plant).await?;
    forgotten::<TellRecord>(plant, TOLD, &living).await?;
    forgotten::<HealthRecord>(plant, HEALTH, &living).await?;
    let events = archive(plant, now.minus(plant.config.audit_keep_days.saturating_mul(EVERY))).await?;
    let there = plant.blobs.list().await.map_err(Refusal::internal)?;
    let used = blobs_in_use(plant.store.as_ref(), now.minus(EVIDENCE_KEPT)).await?;
    let unused: BTreeSet<Digest> = there.into_iter().filter(|blob| !used.contains(blob)).collect();
    let (gone, next): (BTreeSet<_>, BTreeSet<_>) =
        unused.into_iter().partition(|blob| orphans.contains(blob));
    let mut removed = 0_usize;
    for blob in gone {
        let gone = plant.blobs.remove_condemned(blob).await.map_err(Refusal::internal)?;
        removed = removed.saturating_add(gone.into());
    }
    plant.blobs.condemn(&next);
    if revocations > 0 || events > 0 || removed > 0 {
        tracing::info!(revocations, events, blobs = removed, "swept what had ended");
    }
    Ok(next)
}

/// Removes the records below `prefix` that are over, as many as one sweep may, and returns how many.
async fn ended<R: Record>(plant: &Plant, prefix: &str, over: impl Fn(&R) -> bool) -> Result<usize, Refusal> {
    let all: Vec<Held<R>> = list(plant.store.as_ref(), prefix).await?;
    remove(plant, all.into_iter().filter(|held| over(&held.record)).take(MOST).collect()).await
}

/// Names of the devices that are there and not retired.
async fn living(plant: &Plant) -> Result<BTreeSet<String>, Refusal> {
    let all: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let in_use = all.into_iter().filter(|held| held.record.admission != Admission::Retired);
    Ok(in_use.map(|held| held.record.name.to_string()).collect())
}

/// Removes the records below `prefix` whose keys end with the name of a device that is not `living`.
async fn forgotten<R: Record>(
    plant: &Plant,
    prefix: &str,
    living: &BTreeSet<String>,
) -> Result<usize, Refusal> {
    let all: Vec<Held<R>> = list(plant.store.as_ref(), prefix).await?;
    let gone = |held: &Held<R>| held.key.rsplit('/').next().is_some_and(|name| !living.contains(name));
    remove(plant, all.into_iter().filter(gone).take(MOST).collect()).await
}

async fn remove<R>(plant: &Plant, ended: Vec<Held<R>>) -> Result<usize, Refusal> {
    for step in ended.chunks(STEP) {
        let delete =
            |txn: Txn, held: &Held<R>| txn.unchanged(held.key.clone(), held.version).delete(held.key.clone());
        commit(plant, step.iter().fold(Txn::new(), delete)).await?;
    }
    Ok(ended.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Bench, NOW, observing};
    use crate::ca::Serial;
    use crate::record::device::{Attested, Decision, StoredLogs, attested_key, certified_key, device_key};
    use crate::record::rollout::{health_key, told_key};
    use crate::record::stored;
    use crate::record::zone::revoked_key;
    use crate::store::blobs::MAX_BLOB;
    use policy::rollout::{Baseline, Told};
    use policy::zone::Role;

    async fn revoke(bench: &Bench, serials: std::ops::Range<u8>, not_after: UnixTime) {
        let zone = "cell-3".parse().unwrap();
        for serial in serials {
            let record = RevokedCertificate {
                device: "press-7".parse().unwrap(),
                at: NOW.minus(90 * 86_400),
                reason: "stolen".to_owned(),
                not_after,
            };
            let key = revoked_key(&zone, Role::Caller, 1, Serial::from_random([serial; 16]));
            bench.plant.store.transact(Txn::new().put(key, stored(&record).unwrap())).await.unwrap();
        }
    }

    async fn left(bench: &Bench) -> usize {
        list::<RevokedCertificate>(bench.plant.store.as_ref(), REVOKED).await.unwrap().len()
    }

    #[tokio::test]
    async fn revocations_go_a_month_after_the_certificate() {
        let bench = Bench::new().await;
        revoke(&bench, 0..120, NOW.minus(KEPT + 1)).await;
        revoke(&bench, 120..121, NOW.minus(KEPT)).await;
        revoke(&bench, 121..122, NOW.plus(3600)).await;
        sweep(&bench.plant, NOW, &BTreeSet::new()).await.unwrap();
        assert_eq!(left(&bench).await, 2);
        sweep(&bench.plant, NOW, &BTreeSet::new()).await.unwrap();
        assert_eq!(left(&bench).await, 2);
    }

    #[tokio::test]
    async fn keys_in_software_go_with_their_certificates_and_those_in_a_tpm_stay() {
        let bench = Bench::new().await;
        let key = |n: u8| certified_key(&Digest([n; 32]));
        for (n, until) in [(1, Some(NOW.minus(1))), (2, Some(NOW)), (3, None)] {
            let (device, zone) = ("press-7".parse().unwrap(), "cell-3".parse().unwrap());
            let owner = CertifiedKeyOwner { device, zone, role: Role::Caller, until };
            bench.plant.store.transact(Txn::new().put(key(n), stored(&owner).unwrap())).await.unwrap();
        }
        sweep(&bench.plant, NOW, &BTreeSet::new()).await.unwrap();
        let left: Vec<Held<CertifiedKeyOwner>> = list(bench.plant.store.as_ref(), KEY).await.unwrap();
        let left: Vec<String> = left.into_iter().map(|held| held.key).collect();
        assert_eq!(left, [key(2), key(3)]);
    }

    #[tokio::test]
    async fn what_rollouts_kept_goes_with_the_device() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let product = "edge-box".parse().unwrap();
        let told = Told { at: NOW, baseline: Baseline::Ok, proven: None };
        for name in ["press-7", "press-8"] {
            let name = bench.device(name, &["cell-3"]).await;
            let record = TellRecord {
                rollout: 1,
                release: "edge-box@1.0".parse().unwrap(),
                told,
                ran: None,
                depends_on: BTreeSet::new(),
                until: NOW,
            };
            let txn = Txn::new()
                .put(told_key(&product, &name), stored(&record).unwrap())
                .put(health_key(&name), stored(&HealthRecord::default()).unwrap());
            bench.plant.store.transact(txn).await.unwrap();
        }
        let kept = async || {
            let told = list::<TellRecord>(bench.plant.store.as_ref(), TOLD).await.unwrap();
            let health = list::<HealthRecord>(bench.plant.store.as_ref(), HEALTH).await.unwrap();
            told.into_iter().map(|held| held.key).chain(health.into_iter().map(|held| held.key)).collect()
        };
        sweep(&bench.plant, NOW, &BTreeSet::new()).await.unwrap();
        let all: Vec<String> = kept().await;
        assert_eq!(all.len(), 4, "{all:?}");
        let key = device_key(&"press-7".parse().unwrap());
        let device: Device = bench.read(key.clone()).await;
        let retired = Device { admission: Admission::Retired, ..device };
        bench.plant.store.transact(Txn::new().put(key, stored(&retired).unwrap())).await.unwrap();
        sweep(&bench.plant, NOW, &BTreeSet::new()).await.unwrap();
        let left: Vec<String> = kept().await;
        assert_eq!(left, ["told/edge-box/press-8", "health/press-8"]);
    }

    #[tokio::test]
    async fn blobs_go_that_no_record_named_two_times_in_a_row() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let press = bench.device("press-7", &["cell-3"]).await;
        bench.attest(&press, "boot-a", Decision::Trusted).await;
        let attested: Attested = bench.read(attested_key(&press)).await;
        let orphan = bench.plant.blobs.put(b"nobody names this".to_vec()).await.unwrap();

        let seen = sweep(&bench.plant, NOW, &BTreeSet::new()).await.unwrap();
        assert_eq!(seen, BTreeSet::from([orphan]), "it may be named in a moment");
        assert!(bench.plant.blobs.fetch(orphan, MAX_BLOB).await.is_ok());
        let late = bench.plant.blobs.put(b"nor this, yet".to_vec()).await.unwrap();
        assert_eq!(sweep(&bench.plant, NOW, &seen).await.unwrap(), BTreeSet::from([late]));
        let mut there = bench.plant.blobs.list().await.unwrap();
        there.sort();
        let mut kept = vec![attested.evidence, attested.result, late];
        kept.sort();
        assert_eq!(there, kept);
    }

    #[tokio::test]
    async fn evidence_of_a_silent_device_goes_after_half_a_year_and_shared_logs_stay() {
        let bench = Bench::new().await;
        bench.zone(&observing("cell-3")).await;
        let log = bench.plant.blobs.put(b"a log of both".to_vec()).await.unwrap();
        let logs = StoredLogs { firmware: Some(log), userspace: None, images: None, ima: Vec::new() };
        let mut records = Vec::new();
        for (name, age, boot) in [("press-7", EVIDENCE_KEPT + 1, "boot-a"), ("press-8", 60, "boot-b")] {
            let device = bench.device(name, &["cell-3"]).await;
            bench.attest(&device, boot, Decision::Trusted).await;
            let record: Attested = bench.read(attested_key(&device)).await;
            let record = Attested { at: NOW.minus(age), logs: Some(logs.clone()), ..record };
            let txn = Txn::new().put(attested_key(&device), stored(&record).unwrap());
            bench.plant.store.transact(txn).await.unwrap();
            records.push(record);
        }
        let seen = sweep(&bench.plant, NOW, &BTreeSet::new()).await.unwrap();
        assert_eq!(seen, BTreeSet::from([records[0].evidence]));
        assert!(sweep(&bench.plant, NOW, &seen).await.unwrap().is_empty());
        assert!(bench.plant.blobs.fetch(records[0].evidence, MAX_BLOB).await.is_err());
        assert!(bench.plant.blobs.fetch(records[1].evidence, MAX_BLOB).await.is_ok());
        assert!(bench.plant.blobs.fetch(log, MAX_BLOB).await.is_ok());
    }

    #[test]
    fn a_clock_that_was_set_removes_nothing() {
        assert_eq!(jumped(NOW, NOW.plus(EVERY)), None);
        assert_eq!(jumped(NOW, NOW.plus(EVERY + DRIFT)), None);
        assert_eq!(jumped(NOW, NOW.plus(EVERY - DRIFT)), None);
        assert_eq!(jumped(NOW, NOW.plus(EVERY + DRIFT + 1)), Some("the clock was set forward"));
        assert_eq!(jumped(NOW, NOW.plus(EVERY - DRIFT - 1)), Some("the clock was set back"));
        assert_eq!(jumped(NOW, NOW.minus(86_400)), Some("the clock was set back"));
    }
}
