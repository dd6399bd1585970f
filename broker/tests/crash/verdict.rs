//! Whether a store that crashed holds what it must.

use crate::{
    child::Job,
    workload::{self, Acks, TASKS},
};
use broker::store::{AUDIT_PREFIX, Digest, Revision, Store, Versioned, blobs::Blobs, sled::SledStore};
use policy::audit::Trail;
use std::{collections::BTreeMap, path::Path};

/// Page size of the scans here, small enough that there are several.
const PAGE: usize = 500;

type Verdict<T> = Result<T, String>;

/// Opens the store below `root`.
pub(crate) fn open(root: &Path) -> SledStore {
    SledStore::open(root, "b1".parse().unwrap()).unwrap()
}

/// The number stored under `key`, or 0.
pub(crate) async fn number_at(store: &SledStore, key: &str) -> Verdict<u64> {
    let Some(record) = store.get(key).await.map_err(|error| error.to_string())? else { return Ok(0) };
    let text = String::from_utf8(record.value).map_err(|error| error.to_string())?;
    text.parse().map_err(|_| format!("{key} holds {text:?}"))
}

async fn all(store: &SledStore, prefix: &str) -> Verdict<Vec<(String, Versioned)>> {
    let mut found: Vec<(String, Versioned)> = Vec::new();
    loop {
        let after = found.last().map(|(key, _)| key.clone());
        let page = store.scan(prefix, after.as_deref(), PAGE).await.map_err(|error| error.to_string())?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}

/// The revision of the store below `root`, if it holds all of `acks` and nothing torn.
pub(crate) async fn verify(job: Job, store: &SledStore, root: &Path, acks: &Acks) -> Verdict<Revision> {
    match job {
        Job::Transact => {
            for task in 0..TASKS {
                verify_task(store, task, acks.of(task)).await?;
            }
            verify_blobs(store, root).await?;
            verify_audit(store).await?;
        }
        Job::Restore => verify_restored(store, acks.of(0)).await?,
    }
    let newest = all(store, "").await?.into_iter().map(|(_, record)| record.version).max();
    match newest {
        Some(newest) if newest > store.revision() => Err(format!("revision {newest} is of the future")),
        _ => Ok(store.revision()),
    }
}

async fn verify_task(store: &SledStore, task: u64, acked: u64) -> Verdict<()> {
    let count = number_at(store, &workload::count_key(task)).await?;
    if count < acked {
        return Err(format!("task {task}: {acked} acknowledged, {count} there"));
    }
    let mut found = BTreeMap::new();
    for prefix in [workload::count_key(task), format!("slot/{task}/"), format!("blob/{task}")] {
        found.extend(all(store, &prefix).await?.into_iter().map(|(key, record)| (key, record.value)));
    }
    let expected = workload::expected(task, count);
    match found.keys().chain(expected.keys()).find(|key| found.get(*key) != expected.get(*key)) {
        Some(key) => Err(format!("task {task} at {count}: {key} is not as written")),
        None => Ok(()),
    }
}

async fn verify_blobs(store: &SledStore, root: &Path) -> Verdict<()> {
    let blobs = Blobs::open(root).map_err(|error| error.to_string())?;
    for (_, record) in all(store, "blob/").await? {
        let digest: Digest =
            String::from_utf8_lossy(&record.value).parse().map_err(|_| "a blob has no digest".to_owned())?;
        blobs.fetch(digest, usize::MAX).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Every chain is whole and begins after the one before, and every transaction has its entry, in order.
async fn verify_audit(store: &SledStore) -> Verdict<()> {
    let mut records: BTreeMap<(u64, String), Vec<u8>> = BTreeMap::new();
    for (key, record) in all(store, AUDIT_PREFIX).await? {
        let start = key.split(['.', '/']).nth(2).and_then(|start| start.parse().ok());
        let start: u64 = start.ok_or_else(|| format!("{key} names no start"))?;
        records.insert((start, key), record.value);
    }
    let mut trail = Trail::new(&[], false);
    let mut entries = BTreeMap::new();
    for ((start, _), record) in records {
        let record = trail.follow(&record).map_err(|error| error.to_string())?;
        let entry = String::from_utf8(record.entry).map_err(|error| error.to_string())?;
        entries.insert((start, record.sequence), entry);
    }
    for task in 0..TASKS {
        let count = number_at(store, &workload::count_key(task)).await?;
        let own = entries.values().filter(|entry| entry.starts_with(&format!("{task} ")));
        if !own.cloned().eq((1..=count).map(|number| workload::audit_entry(task, number))) {
            return Err(format!("task {task} at {count}: its audit entries are not as written"));
        }
    }
    Ok(())
}

async fn verify_restored(store: &SledStore, acked: u64) -> Verdict<()> {
    let generation = number_at(store, "generation").await?;
    if generation < acked {
        return Err(format!("restore {acked} acknowledged, {generation} there"));
    }
    let mut found: Vec<_> =
        all(store, "").await?.into_iter().map(|(key, record)| (key, record.value)).collect();
    let mut expected = if generation == 0 { Vec::new() } else { workload::restored(generation) };
    found.sort();
    expected.sort();
    match found == expected {
        true => Ok(()),
        false => Err(format!("the content is not that of restore {generation}")),
    }
}
