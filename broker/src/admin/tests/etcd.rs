//! The plant on etcd.

use std::sync::Arc;

use super::backup::{furnish, furnished, put_back, save};
use super::{Bench, NOW};
use crate::ports::System;
use crate::record::device::{Device, device_key};
use crate::record::fetch;
use crate::secrets::SecretKey;
use crate::store::etcd::node::Node;
use crate::store::etcd::{EtcdOptions, EtcdStore};

/// A plant below `prefix` in the etcd of `node`.
async fn on_etcd(node: &Node, prefix: &str) -> Bench {
    let options = EtcdOptions { prefix: prefix.to_owned(), ..node.options() };
    let store = EtcdStore::open(&options, "test".parse().unwrap(), &System::default()).await.unwrap();
    Bench::on(SecretKey::from_bytes(&[7; 32]).unwrap(), Arc::new(store)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_from_one_backend_into_the_other_and_back() {
    let Some(node) = Node::start().await else { return };
    let memory = furnished().await;
    let etcd = on_etcd(&node, "one").await;
    let restored = put_back(&etcd, &save(&memory).await, &[]).await.unwrap();
    assert_eq!(restored.epoch, 2);
    let press: policy::id::DeviceName = "press-7".parse().unwrap();
    let there = async |bench: &Bench| {
        fetch::<Device>(bench.plant.store.as_ref(), device_key(&press)).await.unwrap().is_some()
    };
    assert!(there(&etcd).await);
    assert!(etcd.plant.now() >= NOW);

    let other = furnish(on_etcd(&node, "two").await).await;
    let back = Bench::new().await;
    assert!(!there(&back).await);
    put_back(&back, &save(&other).await, &[]).await.unwrap();
    assert!(there(&back).await);
}
