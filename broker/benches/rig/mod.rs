//! What the benchmarks share: a plant whose owner is ada, in the store that the broker uses; what its records are
//! made of; and what a piece of work costs.

pub(crate) mod measure;
pub(crate) mod record;
pub(crate) mod release;

use std::path::Path;
use std::sync::Arc;

use broker::admin::{Act, Actor, authorize};
use broker::grpc::peer::AdministratorPeer;
use broker::init::{Request, init};
use broker::plant::Plant;
use broker::ports::System;
use broker::record::plant::{Administrator, admin_key};
use broker::record::{fetch, stored};
use broker::server;
use broker::store::{Store, Txn};
use futures::{StreamExt as _, stream};
use policy::time::UnixTime;
use policy::zone::Zone;

/// Records written in one transaction, and transactions at once.
const KEYS: usize = 96;
const AT_ONCE: usize = 64;

/// A key of the store, and its value.
pub(crate) type Written = (String, Vec<u8>);

/// How many devices there are: as many as the command line says, or `usual`.
pub(crate) fn devices(usual: u32) -> u32 {
    std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(usual)
}

/// Makes a plant in the folder `dir`.
pub(crate) async fn initialized(dir: &Path) {
    let request = Request {
        dir: dir.to_owned(),
        plant: "plant.example".parse().unwrap(),
        listen: "127.0.0.1:0".to_owned(),
        address: "127.0.0.1:8443".to_owned(),
        owner: "ada".to_owned(),
        tpm_roots: Vec::new(),
        idevid_roots: Vec::new(),
        kek: None,
        store: broker::config::Backend::Sled,
    };
    init(&request, &System::default(), &System::default()).await.unwrap();
}

/// A plant in the folder `dir` with these zones, which have no authorities.
pub(crate) async fn plant(dir: &Path, zones: impl IntoIterator<Item = Zone>) -> Arc<Plant> {
    initialized(dir).await;
    let plant = server::open(dir).await.unwrap();
    let zones = zones.into_iter().map(|zone| (format!("zone/{}", zone.name), stored(&zone).unwrap()));
    write(plant.store.as_ref(), zones).await;
    plant
}

/// The owner, as the broker knows her by her certificate.
pub(crate) async fn owner(plant: &Plant) -> AdministratorPeer {
    let held = fetch::<Administrator>(plant.store.as_ref(), admin_key("ada")).await.unwrap().unwrap();
    AdministratorPeer { name: "ada".to_owned(), spki: held.record.spki, not_after: UnixTime(u64::MAX) }
}

/// The owner, who does `act`.
pub(crate) async fn actor(plant: &Plant, act: Act) -> Actor {
    authorize(plant, &owner(plant).await, act).await.unwrap()
}

/// Writes records, as large and as many transactions at once as an import does.
pub(crate) async fn write(store: &dyn Store, records: impl IntoIterator<Item = Written>) {
    let records: Vec<Written> = records.into_iter().collect();
    let put = |txn: Txn, (key, value): &Written| txn.put(key.clone(), value.clone());
    let txns: Vec<Txn> = records.chunks(KEYS).map(|part| part.iter().fold(Txn::new(), put)).collect();
    let writes = stream::iter(txns).map(|txn| store.transact(txn)).buffer_unordered(AT_ONCE);
    writes.for_each(async |done| assert!(done.is_ok(), "{done:?}")).await;
}
