//! The store as of one revision, although it is read page by page while others write.
//!
//! Everything is read once, and what changed meanwhile is read again until nothing does: then every
//! value is of the last revision.

use std::collections::BTreeMap;

use crate::plant::Plant;
use crate::session::Refusal;
use crate::store::{AUDIT_PREFIX, MAX_SCAN, Revision, Versioned, WatchEvent};

/// How often everything is read anew because too much changed at once.
const ATTEMPTS: usize = 3;
/// How often what changed is read again before that.
const ROUNDS: usize = 1000;
/// Above the writers of audit chains, which begin with a letter, a digit or a dash.
const PAST_AUDIT: &str = "audit/~";

/// Every record but those of the audit chains, as of one revision.
#[derive(Debug)]
pub(in crate::admin) struct Snapshot {
    /// The revision.
    pub(in crate::admin) revision: Revision,
    /// The records.
    pub(in crate::admin) records: BTreeMap<String, Vec<u8>>,
}

/// Reads the store.
pub(in crate::admin) async fn snapshot(plant: &Plant) -> Result<Snapshot, Refusal> {
    for _ in 0..ATTEMPTS {
        if let Some(snapshot) = attempt(plant).await? {
            return Ok(snapshot);
        }
    }
    Err(Refusal::TryLater { why: "too much changes while the store is read".to_owned(), seconds: 60 })
}

/// What was read so far.
struct Reading {
    records: BTreeMap<String, Vec<u8>>,
    /// The highest version among the values: they are at least as new.
    newest: Revision,
}

impl Reading {
    fn take(&mut self, key: String, found: Option<Versioned>) {
        match found {
            Some(found) => {
                self.newest = self.newest.max(found.version);
                self.records.insert(key, found.value);
            }
            None => {
                self.records.remove(&key);
            }
        }
    }
}

/// `None` when the changes are no longer known one by one.
async fn attempt(plant: &Plant) -> Result<Option<Snapshot>, Refusal> {
    let mut reached = plant.store.revision();
    let mut watch = plant.store.watch(reached);
    let mut reading = read_all(plant).await?;
    for _ in 0..ROUNDS {
        if reading.newest <= reached && plant.store.revision() == reached {
            return Ok(Some(Snapshot { revision: reached, records: reading.records }));
        }
        // There is a later change, or it is about to be told.
        let Some(WatchEvent::Change(change)) = watch.next().await else { return Ok(None) };
        for key in change.keys.iter().filter(|key| !key.starts_with(AUDIT_PREFIX)) {
            reading.take(key.clone(), plant.store.get(key).await?);
        }
        reached = change.revision;
    }
    Ok(None)
}

async fn read_all(plant: &Plant) -> Result<Reading, Refusal> {
    let mut reading = Reading { records: BTreeMap::new(), newest: Revision(0) };
    let mut after: Option<String> = None;
    loop {
        let page = plant.store.scan("", after.as_deref(), MAX_SCAN).await?;
        let Some((last, _)) = page.last() else { return Ok(reading) };
        after = Some(last.clone());
        for (key, found) in page {
            if key.starts_with(AUDIT_PREFIX) {
                after = Some(PAST_AUDIT.to_owned());
                break;
            }
            reading.take(key, Some(found));
        }
    }
}
