//! The store room: everything the broker must not forget.
//!
//! For: one small port, [`Store`], in front of every backend: `get`, `scan`, `transact`, `watch`, and
//! `replace_all` for a restore. Records are small JSON values ([`record`]); anything larger is a
//! content-addressed file beside them ([`blobs`]).
//!
//! Promises: a transaction is applied whole or not at all, and only if everything it expects still
//! holds; when `transact` answers, the change survives `kill -9` and a power cut; a reader never sees a
//! change that a crash could still take back; audit entries join a hash chain in the same transaction.
//!
//! Does not promise: one snapshot over several calls (each call by itself is one), nor that the end of an
//! audit chain was not cut off (a seal held elsewhere shows that).

mod chain;
mod commit;
mod feed;
mod limit;
mod txn;

pub mod blobs;
pub mod etcd;
pub mod fence;
pub mod memory;
pub mod open;
pub mod record;
pub mod sled;
pub mod timed;

#[cfg(test)]
mod conformance;

pub use chain::{AUDIT_PREFIX, BrokerId, BrokerIdError, audit_key};
pub use feed::{Change, Watch, WatchEvent};
pub use limit::{
    LimitError, MAX_AUDIT_ENTRY, MAX_KEY, MAX_REVISION, MAX_SCAN, MAX_TXN_BYTES, MAX_TXN_KEYS, MAX_VALUE,
};
pub use policy::audit::{AuditRecord, ChainHead};
pub use policy::digest::Digest;
pub use txn::{Expect, Txn, TxnError, Write};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt, io};
use thiserror::Error;

/// The store's global counter: how many transactions (and restores) it has seen. It never goes back,
/// not even when a restore replaces the content. Zero is the store before its first transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value and the revision that last wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The revision of the transaction that last wrote the value: what [`Expect::Version`] compares.
    pub version: Revision,
    /// The value, at most [`MAX_VALUE`] bytes.
    pub value: Vec<u8>,
}

/// Values may hold wrapped keys and token verifiers, so only their length is shown.
impl fmt::Debug for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Versioned({} bytes at revision {})", self.value.len(), self.version)
    }
}

/// The content of a backup, for [`Store::replace_all`]: every key once, in any order.
///
/// An error from the source (a file that ends early, a bad checksum) abandons the restore.
pub type Content = Box<dyn Iterator<Item = io::Result<(String, Vec<u8>)>> + Send>;

/// Where the broker keeps its state. Object-safe, so that rooms hold an `Arc<dyn Store>`.
#[async_trait]
pub trait Store: Send + Sync {
    /// The value under `key`, as of the last durable transaction.
    async fn get(&self, key: &str) -> Result<Option<Versioned>, ReadError>;

    /// Up to `limit` records (never more than [`MAX_SCAN`]) whose key begins with `prefix` and comes after
    /// the key `after`, in the byte order of keys. One call is one snapshot. An empty answer is the end.
    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, ReadError>;

    /// Applies `txn` whole, if all it expects holds, and answers once it is durable.
    ///
    /// Waits while the store's queue is full. Dropping the future does not take the transaction back.
    async fn transact(&self, txn: Txn) -> Result<Revision, TxnError>;

    /// The changes after revision `after`, in order. Begin with `Revision(0)`: a store with content answers
    /// with a Resync, which names the revision to scan at.
    fn watch(&self, after: Revision) -> Watch;

    /// The revision of the last durable transaction.
    fn revision(&self) -> Revision;

    /// Replaces the whole content, for a restore. A crash at any moment leaves the old or the new content,
    /// never a mixture.
    ///
    /// `past` is the revision of the store that the content was taken from. The new revision is above both
    /// it and the present one, and every restored record gets it as its version, so no version remembered
    /// from before compares equal. Every watcher gets a Resync, and this broker begins a new audit chain.
    async fn replace_all(&self, content: Content, past: Revision) -> Result<Revision, ReplaceError>;

    /// Writes, syncs and reads back a health record of the store's own: proof that it can still keep a
    /// promise. Takes no revision.
    async fn probe(&self) -> Result<(), ProbeError>;
}

/// Why a read gave nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The key or prefix breaks a limit of the port.
    #[error(transparent)]
    Limit(LimitError),
    /// The backend could not read.
    #[error("cannot read {key:?} from the store ({why}); check the disk it is on")]
    Unreadable {
        /// The key or prefix that was asked for.
        key: String,
        /// What the backend said.
        why: String,
    },
    /// The cluster that the store is on did not answer.
    #[error(
        "cannot read {key:?} from the store ({why}); check that etcd runs and that this machine reaches it"
    )]
    Away {
        /// The key or prefix that was asked for.
        key: String,
        /// What the backend said.
        why: String,
    },
}

/// Why a restore did not replace the content. Except for `OutcomeUnknown`, the old content stands.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// The source of the content failed.
    #[error("the backup could not be read to its end; nothing was restored: use another backup")]
    Source(#[source] io::Error),
    /// A record of the content breaks a limit of the port.
    #[error(transparent)]
    Limit(LimitError),
    /// The content names a revision that no store can have reached.
    #[error("the backup claims revision {past}, above {MAX_REVISION}; it is damaged: use another backup")]
    PastTooHigh {
        /// The revision that was claimed.
        past: Revision,
    },
    /// An earlier failure stopped the store.
    #[error("nothing was restored, the store stopped writing ({why}); check the disk, restart the broker")]
    Poisoned {
        /// The failure that stopped it.
        why: String,
    },
    /// The new content could not be written.
    #[error("the new content could not be written ({why}); nothing was restored: check the disk")]
    Unwritten {
        /// What the backend said.
        why: String,
    },
    /// The cluster that the store is on did not take the content.
    #[error("nothing was restored ({why}); check that etcd runs and has room, then restore again")]
    Away {
        /// What the backend said.
        why: String,
    },
    /// Another broker changed the store while the new content was written.
    #[error(
        "nothing was restored, another broker changed the store meanwhile; stop the others, restore again"
    )]
    Overtaken,
    /// Putting the new content in place failed: the next start shows whether the old or the new one stands.
    #[error("the restore failed at its last step ({why}); check the disk, restart the broker, restore again")]
    OutcomeUnknown {
        /// What the backend said.
        why: String,
    },
}

/// Why the store is not healthy.
#[derive(Debug, Error)]
#[non_exhaustive]
#[error("the store cannot keep a promise ({why}); check the disk, then restart the broker")]
pub struct ProbeError {
    /// What failed.
    pub why: String,
}
