//! Opens the store that the configuration names.

use std::path::Path;

use super::{
    BrokerId, Store,
    etcd::{EtcdOpenError, EtcdStore},
    sled::{OpenError, SledStore},
};
use crate::{config::Backend, ports::Entropy};
use thiserror::Error;

/// The store cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// In the broker's folder.
    #[error(transparent)]
    Sled(#[from] OpenError),
    /// On etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdOpenError),
}

/// Makes the store of the broker's folder `dir`, or of the etcd that `backend` names, for its first `broker`.
pub async fn create(
    dir: &Path,
    backend: &Backend,
    broker: BrokerId,
    entropy: &dyn Entropy,
) -> Result<Box<dyn Store>, StoreError> {
    match backend {
        Backend::Sled => open(dir, backend, broker, entropy).await,
        Backend::Etcd(options) => Ok(Box::new(EtcdStore::open(options, broker, entropy).await?)),
    }
}

/// Opens the store of the broker's folder `dir`, or of the etcd that `backend` names, as `broker`: on etcd, as one of
/// several.
pub async fn open(
    dir: &Path,
    backend: &Backend,
    broker: BrokerId,
    entropy: &dyn Entropy,
) -> Result<Box<dyn Store>, StoreError> {
    match backend {
        Backend::Sled => Ok(Box::new(SledStore::open(dir, broker)?)),
        Backend::Etcd(options) => Ok(Box::new(EtcdStore::join(options, broker, entropy).await?)),
    }
}
