//! What a step of a rollout costs among 100,000 devices, beside the floor of reading the records of one kind once.
//!
//! Run with `cargo bench -p broker --bench rollout`; the lines that begin with `ratio` are the result.

#![expect(clippy::unwrap_used, reason = "what a benchmark makes itself is well formed")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::admin::golden::apply::{Terms, apply};
use broker::admin::{Act, authorize};
use broker::ca::AuthorityKey;
use broker::grpc::peer::AdministratorPeer;
use broker::init::{Request, init};
use broker::plant::Plant;
use broker::ports::System;
use broker::record::device::{
    ATTESTED, Admission, Attested, BoundAk, Decision, Device, Inventory, InventoryValue, Source, Tpm,
    attested_key, device_key, ek_key, inventory_key,
};
use broker::record::plant::{Administrator, admin_key};
use broker::record::rollout::{Rollout, RolloutState, rollout_key};
use broker::record::{fetch, list, stored};
use broker::rollout::roster;
use broker::rollout::step::step;
use broker::server;
use broker::store::Txn;
use futures::{StreamExt as _, stream};
use policy::digest::Digest;
use policy::id::{DeviceName, ProductName};
use policy::reference::dsse::{Envelope, Unsigned};
use policy::reference::manifest::Manifest;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::rollout::{Budget, Plan, Position, RolloutId, Wave};
use policy::time::UnixTime;
use policy::zone::Zone;
use rcgen::SigningKey as _;

/// Devices of the fleet.
const DEVICES: u32 = 100_000;
/// Devices written in one transaction, and transactions at once.
const TOGETHER: usize = 24;
const AT_ONCE: usize = 64;
/// Steps that are measured.
const STEPS: u32 = 20;
/// Budget of the rollout: as many are in flight.
const BUDGET: u32 = 400;
/// What is promised: a step takes at most this part of reading the attestations once.
const PROMISED: f64 = 0.5;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let plant = plant(&folder.path().join("plant")).await;
    apply_release(&plant, &folder.path().join("plant")).await;
    fill(&plant).await;
    let product: ProductName = "edge-box".parse().unwrap();
    begin(&plant, &product).await;

    let floor =
        timed(async { assert_eq!(all_attested(&plant).await, usize::try_from(DEVICES).unwrap()) }).await;
    let first = timed(async { drop(roster(&plant).await.unwrap()) }).await;
    let mut told = Duration::ZERO;
    let tells = BUDGET / 40;
    for _ in 0..tells {
        told += timed(async { assert!(step(&plant, &product).await.unwrap()) }).await;
    }
    // As many are in flight as the budget has: there is nothing to do until one of them is there.
    let mut idle = Duration::ZERO;
    for n in 0..STEPS {
        attest(&plant, n).await;
        idle += timed(async { assert!(!step(&plant, &product).await.unwrap()) }).await;
    }
    let (told, idle) = (told / tells, idle / STEPS);
    let ratio = |spent: Duration| spent.as_secs_f64() / floor.as_secs_f64();
    println!("reading {DEVICES} attestations once: {floor:.1?}");
    println!("reading the fleet for the first time: {first:.1?}");
    println!(
        "a step that tells 40 devices: {told:.1?}; one after an attestation, with nothing to do: {idle:.1?}"
    );
    let kept = if ratio(told) <= PROMISED { "kept" } else { "MISSED" };
    println!("ratio  step that tells / floor: {:.2} (promised: at most {PROMISED}; {kept})", ratio(told));
    println!("ratio  step with nothing to do / floor: {:.2}", ratio(idle));
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let begin = Instant::now();
    work.await;
    begin.elapsed()
}

async fn all_attested(plant: &Plant) -> usize {
    list::<Attested>(plant.store.as_ref(), ATTESTED).await.unwrap().len()
}

async fn plant(dir: &std::path::Path) -> Arc<Plant> {
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
    let mut zone = Zone::new("cell-3".parse().unwrap());
    zone.products = ["edge-box".parse().unwrap()].into();
    plant.store.transact(Txn::new().put("zone/cell-3", stored(&zone).unwrap())).await.unwrap();
    plant
}

fn release(version: &str) -> ReleaseId {
    format!("edge-box@{version}").parse().unwrap()
}

fn name(n: u32) -> DeviceName {
    format!("press-{n}").parse().unwrap()
}

fn attested(plant: &Plant, n: u32) -> Attested {
    let digest = Digest::of(&n.to_be_bytes());
    Attested {
        at: plant.now(),
        decision: Decision::Trusted,
        verdict: "affirming".to_owned(),
        release: Some("edge-box@1.0".to_owned()),
        result: digest,
        evidence: digest,
        logs: None,
        basis: Some(digest),
        vouched: None,
        golden: 1,
        reset_count: 1,
        restart_count: 0,
        clock: 1,
        clock_safe: Some(true),
        clone_alarm: false,
        firmware_version: 1,
        running: Some(vec![release("1.0")]),
        lost: None,
    }
}

/// Every device trusted on the former release, each one named by a few inventory values.
async fn fill(plant: &Plant) {
    let numbers: Vec<u32> = (0..DEVICES).collect();
    let txns: Vec<Txn> = numbers
        .chunks(TOGETHER)
        .map(|part| part.iter().fold(Txn::new(), |txn, n| device(plant, txn, *n)))
        .collect();
    let writes = stream::iter(txns).map(|txn| plant.store.transact(txn)).buffer_unordered(AT_ONCE);
    writes.for_each(async |done| assert!(done.is_ok(), "{done:?}")).await;
}

fn device(plant: &Plant, txn: Txn, n: u32) -> Txn {
    let (name, ek) = (name(n), Digest::of(format!("ek {n}").as_bytes()));
    let device = Device {
        name: name.clone(),
        zones: vec!["cell-3".parse().unwrap()],
        ek,
        ak: Some(BoundAk { public: vec![1; 90].into(), name: vec![2; 34].into(), since: plant.now() }),
        admission: Admission::Admitted,
        admitted_by: "ada".to_owned(),
        admitted_at: plant.now(),
        counter: 1,
        services: BTreeMap::new(),
        asked: 0,
        answered: 0,
        clock_excused: false,
        clear_expected: None,
        leaving: None,
        addresses: std::collections::BTreeMap::new(),
        trust_sequence: 0,
    };
    let tpm = Tpm {
        device: Some(name.clone()),
        registered: true,
        quarantine: None,
        retired: false,
        manufacturer: None,
    };
    let value = |text: String| InventoryValue { value: text, source: Source::Vouched, at: plant.now() };
    let values = [
        ("line".to_owned(), value(format!("{}", n % 100))),
        ("model".to_owned(), value("X9".to_owned())),
        ("depends_on".to_owned(), value(format!("loop-{}", n / 4))),
    ];
    txn.put(device_key(&name), stored(&device).unwrap())
        .put(ek_key(&ek), stored(&tpm).unwrap())
        .put(attested_key(&name), stored(&attested(plant, n)).unwrap())
        .put(inventory_key(&name), stored(&Inventory { values: values.into() }).unwrap())
}

async fn attest(plant: &Plant, n: u32) {
    let txn = Txn::new().put(attested_key(&name(n)), stored(&attested(plant, n)).unwrap());
    plant.store.transact(txn).await.unwrap();
}

/// What the release that is rolled out accepts; no device boots it here.
const MANIFEST: &str = "\
schema = 1
product = \"edge-box\"
version = \"2.0\"
counter = 2
[[event]]
pcr = 4
type = \"EV_EFI_BOOT_SERVICES_APPLICATION\"
digest = [\"9a53b62e6012dea31e9da599eeb7802c60bd2775c6355b49de06c812fbecc41d\"]
name = \"kernel\"
";

/// Makes the release active, signed by the key that `init` made.
async fn apply_release(plant: &Plant, dir: &std::path::Path) {
    let key = std::fs::read_to_string(dir.join("owner/release.key")).unwrap();
    let key = AuthorityKey::from_pkcs8(pem::parse(key).unwrap().contents()).unwrap();
    let unsigned = Unsigned::new(&Manifest::parse(MANIFEST).unwrap());
    let signature = key.sign(&unsigned.to_be_signed()).unwrap();
    let envelope = Envelope::new(&unsigned, &[(Digest::of(&key.spki()), signature)]).to_json().into_bytes();
    let held = fetch::<Administrator>(plant.store.as_ref(), admin_key("ada")).await.unwrap().unwrap();
    let not_after = UnixTime(u64::MAX);
    let peer = AdministratorPeer { name: "ada".to_owned(), spki: held.record.spki, not_after };
    let actor = authorize(plant, &peer, Act::ApplyRelease).await.unwrap();
    let terms = Terms {
        to: ReleaseState::Active,
        allow_rollback: None,
        seen: None,
        base: None,
        plan: None,
        reason: String::new(),
        dry_run: false,
    };
    apply(plant, &actor, &envelope, &terms).await.unwrap();
}

/// A rollout in its last wave, where most devices are looked at.
async fn begin(plant: &Plant, product: &ProductName) {
    let id = RolloutId { product: product.clone(), number: 1 };
    let waves = vec![Wave::Percent(10), Wave::Percent(100)];
    let budget = Budget { trust: BUDGET, health: BUDGET };
    let rollout = Rollout {
        plan: Plan::new(id, release("2.0"), waves, budget, (0, 86_400)).unwrap(),
        from: Some(release("1.0")),
        state: RolloutState::Running,
        position: Position { wave: 1, done_at: None },
        started_at: plant.now(),
        started_by: "ada".to_owned(),
        given_up_from: None,
    };
    plant.store.transact(Txn::new().put(rollout_key(product), stored(&rollout).unwrap())).await.unwrap();
}
