//! What the broker stores, record by record, and the key of each.
//!
//! Every record is versioned JSON of at most 4 KiB ([`crate::store::record`]); evidence, results and
//! envelopes are blobs that records name by digest. Uniqueness is by key, never by scan.

mod binary;
pub mod change;
pub mod device;
pub mod golden;
pub mod plant;
pub mod zone;

pub use self::binary::Bytes;

use crate::store::record::{DecodeError, EncodeError, Record, decode, encode};
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

/// The record under `key`, if there is one.
pub async fn fetch<R: Record>(store: &dyn Store, key: String) -> Result<Option<Held<R>>, RecordError> {
    let Some(found) = store.get(&key).await? else { return Ok(None) };
    let record = decode(&key, &found.value)?;
    Ok(Some(Held { key, version: found.version, record }))
}

/// Every record whose key begins with `prefix`, in key order.
pub async fn list<R: Record>(store: &dyn Store, prefix: &str) -> Result<Vec<Held<R>>, RecordError> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.scan(prefix, after.as_deref(), crate::store::MAX_SCAN).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after = Some(last.clone());
        for (key, found) in page {
            let record = decode(&key, &found.value)?;
            all.push(Held { key, version: found.version, record });
        }
    }
}

/// The stored form of `record`.
pub fn stored<R: Record>(record: &R) -> Result<Vec<u8>, RecordError> {
    Ok(encode(record)?)
}
