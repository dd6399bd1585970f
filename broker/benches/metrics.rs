//! What a scrape costs in a plant of 100,000 devices.
//!
//! Run with `cargo bench -p broker --bench metrics`. The census goes over every device; the next scrapes show what it
//! found, until it is a twentieth of the time again.

#![expect(clippy::unwrap_used, reason = "what a benchmark makes itself is well formed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::init::{Request, init};
use broker::metrics::page::Page;
use broker::plant::Plant;
use broker::ports::System;
use broker::record::device::{
    Admission, Attested, BoundAk, Decision, Device, HeldCertificate, HeldCertificates, Inventory, Tpm,
    attested_key, device_key, ek_key, held_key, inventory_key,
};
use broker::record::stored;
use broker::server;
use broker::store::Txn;
use futures::{StreamExt as _, stream};
use policy::digest::Digest;
use policy::id::ZoneName;
use policy::time::Validity;
use policy::zone::{Role, Zone};

/// Devices of the plant, in so many zones.
const DEVICES: u32 = 100_000;
const ZONES: u32 = 20;
/// Devices of one transaction, and transactions at once.
const AT_ONCE: usize = 64;
const TOGETHER: usize = 19;
/// Scrapes that are timed while a census counts.
const SCRAPES: u32 = 100;
/// What is promised of one of those.
const PROMISED: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let plant = plant(&folder.path().join("plant")).await;
    let page = Page::new(Arc::clone(&plant));
    let begin = Instant::now();
    let mut text = page.text().await;
    let first = begin.elapsed();
    // The first scrape does not wait for ever; the census goes on.
    while !text.contains("touchstone_census_duration_seconds") {
        text = page.text().await;
    }
    let census = begin.elapsed();
    let trusted = text.lines().filter(|line| line.contains("state=\"trusted\"") && !line.ends_with(" 0"));
    assert_eq!(trusted.count(), usize::try_from(ZONES).unwrap());
    let begin = Instant::now();
    for _ in 0..SCRAPES {
        assert!(page.text().await.len() >= text.len() / 2);
    }
    let scrape = begin.elapsed() / SCRAPES;
    let kept = if scrape <= PROMISED { "kept" } else { "MISSED" };
    println!("first scrape with {DEVICES} devices: answered in {first:.1?}");
    println!("census of {DEVICES} devices: {census:.1?}");
    println!(
        "a scrape in between: {scrape:.1?}, {} bytes (promised: at most {PROMISED:?}; {kept})",
        text.len()
    );
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
    let zones = (0..ZONES).fold(Txn::new(), |txn, n| {
        let zone = Zone::new(format!("cell-{n}").parse().unwrap());
        txn.put(format!("zone/cell-{n}"), stored(&zone).unwrap())
    });
    plant.store.transact(zones).await.unwrap();
    let numbers: Vec<u32> = (0..DEVICES).collect();
    let txns: Vec<Txn> = numbers
        .chunks(TOGETHER)
        .map(|some| some.iter().fold(Txn::new(), |txn, n| device(&plant, txn, *n)))
        .collect();
    let writes = stream::iter(txns).map(|txn| plant.store.transact(txn)).buffer_unordered(AT_ONCE);
    writes.for_each(async |done| assert!(done.is_ok(), "{done:?}")).await;
    plant
}

/// A device as its first attestation leaves it.
fn device(plant: &Plant, txn: Txn, n: u32) -> Txn {
    let name = format!("press-{n}").parse().unwrap();
    let zone: ZoneName = format!("cell-{}", n % ZONES).parse().unwrap();
    let (now, ek) = (plant.now(), Digest::of(&n.to_be_bytes()));
    let device = Device {
        name,
        zones: vec![zone.clone()],
        ek,
        ak: Some(BoundAk { public: vec![1; 90].into(), name: vec![2; 34].into(), since: now }),
        admission: Admission::Admitted,
        admitted_by: "ada".to_owned(),
        admitted_at: now,
        counter: 1,
        services: [("opcua".to_owned(), 4840)].into(),
        asked: 0,
        answered: 0,
        clock_excused: false,
        clear_expected: None,
        leaving: None,
        addresses: std::collections::BTreeMap::new(),
        trust_sequence: 0,
    };
    let tpm = Tpm {
        device: Some(device.name.clone()),
        registered: true,
        quarantine: None,
        retired: false,
        manufacturer: None,
    };
    let name = &device.name;
    txn.put(device_key(name), stored(&device).unwrap())
        .put(ek_key(&ek), stored(&tpm).unwrap())
        .put(attested_key(name), stored(&attested(plant, ek)).unwrap())
        .put(inventory_key(name), stored(&Inventory::default()).unwrap())
        .put(held_key(name, &zone), stored(&held(plant, ek)).unwrap())
}

fn attested(plant: &Plant, digest: Digest) -> Attested {
    Attested {
        at: plant.now(),
        decision: Decision::Trusted,
        verdict: "affirming".to_owned(),
        release: Some("edge-box@1.0.0".to_owned()),
        result: digest,
        evidence: digest,
        logs: None,
        basis: Some(digest),
        golden: 1,
        reset_count: 1,
        restart_count: 0,
        clock: 1,
        clock_safe: Some(true),
        clone_alarm: false,
        firmware_version: 1,
        running: None,
        lost: None,
        vouched: None,
    }
}

fn held(plant: &Plant, spki: Digest) -> HeldCertificates {
    let now = plant.now();
    let validity = Validity { not_before: now, not_after: now.plus(12 * 3600) };
    let certificate = |role| HeldCertificate {
        role,
        generation: 1,
        serial: spki.hex(),
        spki,
        validity,
        service: None,
        addresses: Default::default(),
    };
    HeldCertificates { certificates: vec![certificate(Role::Caller), certificate(Role::Listener)] }
}
