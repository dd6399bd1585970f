//! What it costs to register 100,000 devices in one list, beside the floor of the same bytes written to the same
//! kind of store by whoever need not look at them.
//!
//! Run with `cargo bench -p broker --bench import`; the lines that begin with `ratio` are the result.

#![expect(clippy::unwrap_used, reason = "what a benchmark makes itself is well formed")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use broker::admin::device::import::{Entry, import};
use broker::admin::{Act, Actor, authorize};
use broker::grpc::peer::AdministratorPeer;
use broker::init::{Request, init};
use broker::plant::Plant;
use broker::ports::System;
use broker::record::device::{DEVICE, EK, INVENTORY};
use broker::record::plant::{Administrator, admin_key};
use broker::record::{fetch, stored};
use broker::server;
use broker::store::sled::SledStore;
use broker::store::{MAX_SCAN, Store, Txn};
use futures::{StreamExt as _, stream};
use policy::digest::Digest;
use policy::time::UnixTime;
use policy::zone::Zone;

/// Devices of the list.
const DEVICES: u32 = 100_000;
/// Transactions of the floor, as large and as many at once as those of an import.
const KEYS: usize = 99;
const AT_ONCE: usize = 64;
/// What is promised: the list within this time on two cores.
const PROMISED: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let plant = plant(&folder.path().join("plant")).await;
    let actor = owner(&plant).await;
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

async fn plant(dir: &std::path::Path) -> std::sync::Arc<Plant> {
    let request = Request {
        dir: dir.to_owned(),
        plant: "plant.example".parse().unwrap(),
        listen: "127.0.0.1:0".to_owned(),
        address: "127.0.0.1:8443".to_owned(),
        owner: "ada".to_owned(),
        tpm_roots: Vec::new(),
        kek: None,
    };
    init(&request, &System::default(), &System::default()).await.unwrap();
    let plant = server::open(dir).await.unwrap();
    let zone = Zone::new("cell-3".parse().unwrap());
    plant.store.transact(Txn::new().put("zone/cell-3", stored(&zone).unwrap())).await.unwrap();
    plant
}

async fn owner(plant: &Plant) -> Actor {
    let held = fetch::<Administrator>(plant.store.as_ref(), admin_key("ada")).await.unwrap().unwrap();
    let not_after = UnixTime(u64::MAX);
    let peer = AdministratorPeer { name: "ada".to_owned(), spki: held.record.spki, not_after };
    authorize(plant, &peer, Act::ImportDevices).await.unwrap()
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
    let put = |txn: Txn, (key, value): &(String, Vec<u8>)| txn.put(key.clone(), value.clone());
    let txns: Vec<Txn> = written.chunks(KEYS).map(|keys| keys.iter().fold(Txn::new(), put)).collect();
    let begin = Instant::now();
    let writes = stream::iter(txns).map(|txn| store.transact(txn)).buffer_unordered(AT_ONCE);
    writes.for_each(async |done| assert!(done.is_ok(), "{done:?}")).await;
    begin.elapsed()
}
