//! What the broker stores, record by record, and the key of each.
//!
//! Every record is versioned JSON of at most 4 KiB ([`crate::store::record`]); evidence, results and
//! envelopes are blobs that records name by digest. Uniqueness is by key, never by scan.

pub mod address;
pub mod audit;
mod binary;
pub mod boot;
pub mod change;
pub mod device;
pub mod drill;
pub mod golden;
pub mod idevid;
pub mod invitation;
pub mod leader;
pub mod moving;
pub mod overriding;
pub mod person;
pub mod plant;
pub mod release_key;
pub mod rollout;
pub mod sbom;
mod short;
#[cfg(test)]
mod size_tests;
pub mod stage;
pub mod vouched;
pub mod would;
pub mod zone;

pub use self::binary::Bytes;

use self::stage::Commits;
use crate::store::record::{DecodeError, EncodeError, Record, decode_staged, encode};
use crate::store::{ReadError, Revision, Store};

/// A record together with its key and the revision that last wrote it: what a change compares.
#[derive(Debug, Clone)]
pub struct Held<R> {
    /// Its key.
    pub key: String,
    /// The revision that last wrote it.
    pub version: Revision,
    /// The record.
    pub record: R,
}

/// A record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stored bytes are no such record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The record cannot be stored.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The record under `key`, if there is one. One of a larger change is there once that is committed.
pub async fn fetch<R: Record>(store: &dyn Store, key: String) -> Result<Option<Held<R>>, RecordError> {
    let Some(found) = store.get(&key).await? else { return Ok(None) };
    let (record, stage) = decode_staged(&key, &found.value)?;
    let counts = Commits::default().count(store, stage).await?;
    Ok(counts.then_some(Held { key, version: found.version, record }))
}

/// Every record whose key begins with `prefix`, in key order.
pub async fn list<R: Record>(store: &dyn Store, prefix: &str) -> Result<Vec<Held<R>>, RecordError> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = list_page(store, prefix, after.as_deref(), crate::store::MAX_SCAN).await?;
        let Some(last) = page.last else { return Ok(all) };
        after = Some(last);
        all.extend(page.records);
    }
}

/// A part of the records under a prefix.
#[derive(Debug)]
pub struct Page<R> {
    /// The records that count.
    pub records: Vec<Held<R>>,
    /// The last key that was looked at, where the next page begins; none: the end.
    pub last: Option<String>,
}

/// At most `limit` records whose key begins with `prefix`, after the key `after`, in key order.
pub async fn list_page<R: Record>(
    store: &dyn Store,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<R>, RecordError> {
    let mut commits = Commits::default();
    let found = store.scan(prefix, after, limit).await?;
    let last = found.last().map(|(key, _)| key.clone());
    let mut records = Vec::new();
    for (key, found) in found {
        let (record, stage) = decode_staged(&key, &found.value)?;
        if commits.count(store, stage).await? {
            records.push(Held { key, version: found.version, record });
        }
    }
    Ok(Page { records, last })
}

/// The stored form of `record`.
pub fn stored<R: Record>(record: &R) -> Result<Vec<u8>, RecordError> {
    Ok(encode(record)?)
}
