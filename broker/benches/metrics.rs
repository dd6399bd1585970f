//! What a scrape costs in a plant of 100,000 devices.
//!
//! Run with `cargo bench -p broker --bench metrics`. The census goes over every device; the next scrapes show what it
//! found, until it is a twentieth of the time again.

#![expect(clippy::unwrap_used, reason = "what a benchmark makes itself is well formed")]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::metrics::page::Page;
use broker::plant::Plant;
use broker::record::device::held_key;
use broker::record::stored;
use policy::digest::Digest;
use policy::id::ZoneName;
use policy::zone::Zone;

use rig::record::{attestation, attested, certificates, inventory, registered};

/// Devices of the plant, in so many zones.
const DEVICES: u32 = 100_000;
const ZONES: u32 = 20;
/// Scrapes that are timed while a census counts.
const SCRAPES: u32 = 100;
/// What is promised of one of those.
const PROMISED: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let zones = (0..ZONES).map(|n| Zone::new(zone(n)));
    let plant = rig::plant(&folder.path().join("plant"), zones).await;
    rig::write(plant.store.as_ref(), (0..DEVICES).flat_map(|n| device(&plant, n))).await;
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

fn zone(n: u32) -> ZoneName {
    format!("cell-{}", n % ZONES).parse().unwrap()
}

/// A device as its first attestation leaves it.
fn device(plant: &Plant, n: u32) -> impl Iterator<Item = rig::Written> {
    let (name, zone) = (format!("press-{n}").parse().unwrap(), zone(n));
    let (now, ek) = (plant.now(), Digest::of(&n.to_be_bytes()));
    let held = stored(&certificates(ek, &ek.hex(), now)).unwrap();
    let attested = attestation(&name, &attested("edge-box@1.0.0", ek, now));
    let registered = registered(&rig::record::device(&name, &zone, ek, now), &inventory([], now));
    registered.into_iter().chain([attested, (held_key(&name, &zone), held)])
}
