//! A plant that lives on etcd.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::ports::System;
use crate::record::fetch;
use crate::server;
use crate::store::etcd::EtcdOpenError;
use crate::store::etcd::node::Node;

fn request(dir: &Path, node: &Node) -> Request {
    Request {
        dir: dir.to_owned(),
        plant: "plant.example".parse().unwrap(),
        listen: "127.0.0.1:0".to_owned(),
        address: "127.0.0.1:0".to_owned(),
        owner: "ada".to_owned(),
        tpm_roots: Vec::new(),
        idevid_roots: Vec::new(),
        kek: None,
        store: Backend::Etcd(node.options()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plant_is_made_and_opened_on_etcd() {
    let Some(node) = Node::start().await else { return };
    let folder = TempDir::new().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let system = System::default();
    init(&request(&first, &node), &system, &system).await.unwrap();
    assert!(!first.join("db.current").exists(), "nothing of the plant is in the folder");
    let plant = server::open(&first).await.unwrap();
    assert!(fetch::<Plant>(plant.store.as_ref(), PLANT.to_owned()).await.unwrap().is_some());

    let error = init(&request(&second, &node), &system, &system).await.unwrap_err();
    let InitError::Open(StoreError::Etcd(EtcdOpenError::Others { others })) = error else {
        panic!("{error}")
    };
    assert_eq!(others, std::fs::read_to_string(id_file(&first)).unwrap().trim());
    // A refusal leaves nothing that the plant's own broker is refused for.
    drop(plant);
    server::open(&first).await.unwrap();
}
