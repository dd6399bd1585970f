//! What a step of a rollout costs among 100,000 devices, beside the floor of reading the records of one kind once.
//!
//! Run with `cargo bench -p broker --bench rollout`; the lines that begin with `ratio` are the result.

#![expect(clippy::unwrap_used, reason = "what a benchmark makes itself is well formed")]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod rig;

use std::time::{Duration, Instant};

use broker::plant::Plant;
use broker::record::device::{ATTESTED, Attested};
use broker::record::rollout::{Rollout, RolloutState, rollout_key};
use broker::record::{list, stored};
use broker::rollout::roster;
use broker::rollout::step::step;
use broker::store::Txn;
use policy::digest::Digest;
use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseId;
use policy::rollout::{Budget, Plan, Position, RolloutId, Wave};
use policy::zone::Zone;

use rig::record;

/// Devices of the fleet.
const DEVICES: u32 = 100_000;
/// Steps that are measured.
const STEPS: u32 = 20;
/// Budget of the rollout: as many are in flight.
const BUDGET: u32 = 400;
/// What is promised: a step takes at most this part of reading the attestations once.
const PROMISED: f64 = 0.5;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("plant");
    let plant = rig::plant(&dir, [zone()]).await;
    rig::release::activate(&plant, &dir, MANIFEST).await;
    rig::write(plant.store.as_ref(), (0..DEVICES).flat_map(|n| device(&plant, n))).await;
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

fn zone() -> Zone {
    let mut zone = Zone::new("cell-3".parse().unwrap());
    zone.products = ["edge-box".parse().unwrap()].into();
    zone
}

fn release(version: &str) -> ReleaseId {
    format!("edge-box@{version}").parse().unwrap()
}

fn name(n: u32) -> DeviceName {
    format!("press-{n}").parse().unwrap()
}

fn attested(plant: &Plant, n: u32) -> Attested {
    record::attested("edge-box@1.0", Digest::of(&n.to_be_bytes()), plant.now())
}

/// A device that is trusted on the former release and named by a few inventory values.
fn device(plant: &Plant, n: u32) -> impl Iterator<Item = rig::Written> {
    let (name, now) = (name(n), plant.now());
    let ek = Digest::of(format!("ek {n}").as_bytes());
    let device = record::device(&name, &"cell-3".parse().unwrap(), ek, now);
    let values = [
        ("line", format!("{}", n % 100)),
        ("model", "X9".to_owned()),
        ("depends_on", format!("loop-{}", n / 4)),
    ];
    let registered = record::registered(&device, &record::inventory(values, now));
    registered.into_iter().chain([record::attestation(&name, &attested(plant, n))])
}

async fn attest(plant: &Plant, n: u32) {
    rig::write(plant.store.as_ref(), [record::attestation(&name(n), &attested(plant, n))]).await;
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
