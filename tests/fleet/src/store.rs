//! What a plant takes on disk: its records, and the files that they are in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use broker::server;
use broker::store::{AUDIT_PREFIX, MAX_SCAN};

use crate::etcd::Cluster;
use crate::report::Figure;

/// What is promised: bytes of keys and values of a device, and how many times that on disk.
const RECORDS: f64 = 3_072.0;
const ON_DISK: f64 = 4.0;

/// Prints what the plant in `dir`, whose broker does not run, takes for each of `devices`; on a cluster, the disk of one
/// node.
pub async fn measure(dir: &Path, devices: usize, cluster: Option<&Cluster>) {
    let kinds = kinds(dir).await;
    let (audit, records): (Vec<_>, Vec<_>) =
        kinds.iter().partition(|(kind, _)| AUDIT_PREFIX.starts_with(*kind));
    let sum = |kinds: &[(&String, &u64)]| kinds.iter().map(|(_, bytes)| **bytes).sum::<u64>() as f64;
    let (audit, records) = (sum(&audit), sum(&records));
    for (kind, bytes) in &kinds {
        eprintln!("{:>8} bytes for each device: {kind}", bytes / devices as u64);
    }
    let count = devices as f64;
    Figure::new("store_records", records / count, "bytes a device").at_most(RECORDS).print();
    Figure::new("store_audit", audit / count, "bytes a device").print();
    if let Some(cluster) = cluster {
        // Evidence is there too, and a history of an hour: nothing is promised of it.
        let disk = size(&cluster.folder_of_a_node()) as f64 / count;
        return Figure::new("store_on_disk_of_a_node", disk, "bytes a device").over(records / count).print();
    }
    let folder = |folder: &fs::DirEntry| folder.file_name().to_string_lossy().starts_with("db-");
    let entries = fs::read_dir(dir).expect("the plant's folder").map(|entry| entry.expect("an entry"));
    let disk = entries.filter(folder).map(|folder| size(&folder.path())).sum::<u64>() as f64;
    Figure::new("store_files", disk / count, "bytes a device").print();
    // The audit lies in the same files and counts by itself.
    let apart = (disk - audit).max(0.0) / count;
    Figure::new("store_on_disk", apart, "bytes a device").over(records / count).at_most(ON_DISK).print();
    Figure::new("store_evidence", size(&dir.join("blobs")) as f64 / count, "bytes a device").print();
}

/// Bytes of keys and values by the first part of their keys.
async fn kinds(dir: &Path) -> BTreeMap<String, u64> {
    let plant = server::open(dir).await.expect("the plant opens");
    let (mut kinds, mut after) = (BTreeMap::<String, u64>::new(), None::<String>);
    loop {
        let page = plant.store.scan("", after.as_deref(), MAX_SCAN).await.expect("the store reads");
        let Some((last, _)) = page.last() else { return kinds };
        after = Some(last.clone());
        for (key, found) in &page {
            let kind = key.split('/').next().unwrap_or_default().to_owned();
            *kinds.entry(kind).or_default() += (key.len() + found.value.len()) as u64;
        }
    }
}

/// Bytes that the files below `path` take on disk.
fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::symlink_metadata(path).expect("a file of the plant");
    if !metadata.is_dir() {
        return metadata.blocks() * 512;
    }
    let entries = fs::read_dir(path).expect("a folder of the plant");
    entries.map(|entry| size(&entry.expect("an entry").path())).sum()
}
