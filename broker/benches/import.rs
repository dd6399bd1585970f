//! What it costs to register 100,000 devices in one list, beside the floor of the same bytes written to the same
//! kind of store by whoever need not look at them.
//!
//! Run with `cargo bench -p broker --bench import`; the lines that begin with `ratio` are the result.

#![expect(clippy::unwrap_used, reason = "what a benchmark makes itself is well formed")]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod rig;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use broker::admin::Act;
use broker::admin::device::import::{Entry, import};
use broker::plant::Plant;
use broker::record::device::{DEVICE, EK, INVENTORY};
use broker::store::MAX_SCAN;
use broker::store::sled::SledStore;
use policy::digest::Digest;
use policy::zone::Zone;

/// Devices of the list.
const DEVICES: u32 = 100_000;
/// What is promised: the list within this time on two cores.
const PROMISED: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let zone = Zone::new("cell-3".parse().unwrap());
    let plant = rig::plant(&folder.path().join("plant"), [zone]).await;
    let actor = rig::actor(&plant, Act::ImportDevices).await;
    let list: Vec<Entry> = (0..DEVICES).map(entry).collect();
    let begin = Instant::now();
    let done = import(&plant, &actor, &list, false).await.unwrap();
    let spent = begin.elapsed();
    assert_eq!(done.created, list.len());
    let floor = floor(&plant, &folder.path().join("floor")).await;
    let kept = if spent <= PROMISED { "kept" } else { "MISSED" };
    println!("import of {DEVICES} devices: {spent:.1?} (promised: at most {PROMISED:?}; {kept})");
    println!("the same bytes, unread: {floor:.1?}");
    println!("ratio  import / floor: {:.2}", spent.as_secs_f64() / floor.as_secs_f64());
}

fn entry(n: u32) -> Entry {
    Entry {
        name: format!("press-{n}").parse().unwrap(),
        zones: vec!["cell-3".parse().unwrap()],
        ek: Digest::of(&n.to_be_bytes()),
        inventory: BTreeMap::from([("owner".to_owned(), "line 3".to_owned())]),
    }
}

/// Writes what the import wrote into a store of its own.
async fn floor(plant: &Plant, dir: &std::path::Path) -> Duration {
    let mut written = Vec::new();
    for prefix in [DEVICE, EK, INVENTORY] {
        let mut after: Option<String> = None;
        loop {
            let page = plant.store.scan(prefix, after.as_deref(), MAX_SCAN).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            written.extend(page.into_iter().map(|(key, found)| (key, found.value)));
        }
    }
    std::fs::create_dir_all(dir).unwrap();
    let store = SledStore::open(dir, "floor".parse().unwrap()).unwrap();
    let begin = Instant::now();
    rig::write(&store, written).await;
    begin.elapsed()
}
