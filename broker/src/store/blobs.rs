//! Content-addressed blobs beside the records: event logs, evidence, anything above a value's 4 KiB.
//!
//! For: bytes named by their SHA-256. Put the blob first, then the record that names it; a blob that no record names
//! is swept by whoever owns the records. Where the records lie in the broker's folder, so do the blobs (`folder`);
//! where they are on etcd, so are the blobs, since any broker may be asked for them.
//! Promises: when `put` answers, the blob survives what the store survives; `fetch` gives exactly the bytes that were
//! put, or refuses; what is put again while it waits to be swept stays.

pub(super) mod folder;
pub(super) mod form;
mod recent;

use super::{
    Digest,
    etcd::{EtcdBlobs, EtcdOpenError},
};
use crate::config::Backend;
use folder::Folder;
use recent::Recent;
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;

/// Largest blob in bytes: a 50,000-record IMA list is about 10 MiB.
pub const MAX_BLOB: usize = 16 << 20;

/// The blobs of a store.
#[derive(Debug, Clone)]
pub struct Blobs {
    place: Place,
    recent: Arc<Recent>,
}

/// Where they are.
#[derive(Debug, Clone)]
enum Place {
    Folder(Folder),
    Etcd(Arc<EtcdBlobs>),
}

/// The blobs cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlobsError {
    /// Those in the folder.
    #[error(transparent)]
    Folder(#[from] BlobIoError),
    /// Those on etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdOpenError),
}

/// An operation that the system, or etcd, refused.
#[derive(Debug, Error)]
#[error("cannot {action} {path:?}; {advice}")]
pub struct BlobIoError {
    action: &'static str,
    path: PathBuf,
    advice: &'static str,
    source: io::Error,
}

impl BlobIoError {
    pub(super) fn on_disk(action: &'static str, path: PathBuf, source: io::Error) -> Self {
        let advice = "check the disk and that the path belongs to the broker's user";
        Self { action, path, advice, source }
    }

    pub(super) fn in_etcd(action: &'static str, path: PathBuf, source: io::Error) -> Self {
        let advice = "check that etcd runs and has room, and that this machine reaches it";
        Self { action, path, advice, source }
    }
}

/// Why a blob was not put.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PutError {
    /// The blob is over [`MAX_BLOB`].
    #[error("a blob has {length} bytes, at most {MAX_BLOB} are allowed; split it into chunks")]
    TooLarge {
        /// Bytes of the blob.
        length: usize,
    },
    /// The system refused.
    #[error(transparent)]
    Io(BlobIoError),
}

/// Why a blob was not fetched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no such blob.
    #[error("there is no blob {path:?}; it was removed, or the backup that was restored lacks it")]
    Missing {
        /// The file, or the key in etcd.
        path: PathBuf,
    },
    /// The blob is over what the caller takes.
    #[error("blob {path:?} has more than the {max} bytes this use allows; it was stored for another use")]
    TooLarge {
        /// The file, or the key in etcd.
        path: PathBuf,
        /// Bytes the caller takes.
        max: usize,
    },
    /// The content is not what was put.
    #[error("blob {path:?} does not have the digest it is named by; restore it from the last backup")]
    Altered {
        /// The file, or the key in etcd.
        path: PathBuf,
    },
    /// The system refused.
    #[error(transparent)]
    Io(BlobIoError),
}

impl Blobs {
    /// The blobs in the folder `root`.
    pub fn open(root: &Path) -> Result<Self, BlobIoError> {
        Ok(Self::at(Place::Folder(Folder::open(root)?)))
    }

    /// The blobs of a store on `backend`; `root` is the broker's folder.
    pub fn open_on(root: &Path, backend: &Backend) -> Result<Self, BlobsError> {
        match backend {
            Backend::Sled => Ok(Self::open(root)?),
            Backend::Etcd(options) => Ok(Self::at(Place::Etcd(EtcdBlobs::open(options)?))),
        }
    }

    fn at(place: Place) -> Self {
        Self { place, recent: Arc::default() }
    }

    /// Stores `bytes` and gives their digest. Putting what is there already changes nothing.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Digest, PutError> {
        match &self.place {
            Place::Folder(folder) => folder.put(bytes).await,
            Place::Etcd(etcd) => etcd.put(bytes).await,
        }
    }

    /// [`put`](Self::put) of several at once.
    pub async fn put_all(&self, all: Vec<Vec<u8>>) -> Result<(), PutError> {
        match &self.place {
            Place::Folder(folder) => folder.put_all(all).await,
            Place::Etcd(etcd) => {
                for bytes in all {
                    etcd.put(bytes).await?;
                }
                Ok(())
            }
        }
    }

    /// [`put_all`](Self::put_all), and whether the blob `other` is there, whole as far as is known.
    pub async fn put_beside(&self, other: Digest, all: Vec<Vec<u8>>) -> Result<bool, PutError> {
        match &self.place {
            Place::Folder(folder) => folder.put_beside(other, all).await,
            Place::Etcd(etcd) => {
                self.put_all(all).await?;
                etcd.has(&other).await.map_err(PutError::Io)
            }
        }
    }

    /// [`fetch`](Self::fetch) for what many ask for, one after another: it may come from memory.
    pub async fn fetch_shared(&self, digest: Digest, max: usize) -> Result<Arc<[u8]>, FetchError> {
        if let Some(bytes) = self.recent.get(&digest).filter(|bytes| bytes.len() <= max) {
            return Ok(bytes);
        }
        let bytes: Arc<[u8]> = self.fetch(digest, max).await?.into();
        self.recent.keep(digest, &bytes);
        Ok(bytes)
    }

    /// The blob named `digest`, if it has at most `max` bytes and still has that digest.
    pub async fn fetch(&self, digest: Digest, max: usize) -> Result<Vec<u8>, FetchError> {
        match &self.place {
            Place::Folder(folder) => folder.fetch(digest, max).await,
            Place::Etcd(etcd) => etcd.fetch(digest, max).await,
        }
    }

    /// [`fetch`](Self::fetch) on this thread, which may wait and is none of the runtime's own.
    pub(crate) fn fetch_now(&self, digest: &Digest, max: usize) -> Result<Vec<u8>, FetchError> {
        match &self.place {
            Place::Folder(folder) => folder.fetch_now(digest, max),
            Place::Etcd(etcd) => etcd.fetch_now(digest, max),
        }
    }

    /// Every blob there is, in no order; 32 bytes of memory each.
    pub async fn list(&self) -> Result<Vec<Digest>, BlobIoError> {
        match &self.place {
            Place::Folder(folder) => folder.list().await,
            Place::Etcd(etcd) => etcd.list().await,
        }
    }

    /// Removes a blob; removing what is not there is no error. Not durable by itself: after a power cut the
    /// blob may be there again, which a later sweep mends.
    pub async fn remove(&self, digest: Digest) -> Result<(), BlobIoError> {
        match &self.place {
            Place::Folder(folder) => folder.remove(digest).await,
            Place::Etcd(etcd) => etcd.remove(digest).await,
        }
    }

    /// Removes a blob that no record names any more, at once or soon; what stays all the same is swept.
    pub async fn discard(&self, digest: Digest) {
        match &self.place {
            Place::Folder(folder) => folder.discard(digest).await,
            Place::Etcd(etcd) => etcd.discard(digest),
        }
    }

    /// Marks what [`remove_condemned`](Self::remove_condemned) may remove, instead of what it was before. They are of
    /// the last [`list`](Self::list).
    pub fn condemn(&self, digests: &BTreeSet<Digest>) {
        match &self.place {
            Place::Folder(folder) => folder.condemn(digests),
            Place::Etcd(etcd) => etcd.condemn(digests),
        }
    }

    /// Removes a blob, unless it was put again since it was condemned. Says whether it is gone.
    pub async fn remove_condemned(&self, digest: Digest) -> Result<bool, BlobIoError> {
        match &self.place {
            Place::Folder(folder) => folder.remove_condemned(digest).await,
            Place::Etcd(etcd) => etcd.remove_condemned(digest).await,
        }
    }
}
