//! What it costs to plan a change for 100,000 devices: with logs that devices share, beside the floor of reading the
//! same records without looking at them; and with every log another, beside the floor of appraising the same
//! evidence from memory, one after the other. In between, which of them may run a component.
//!
//! Run with `cargo bench -p broker --bench plan`, for fewer devices with `-- NUMBER` behind it; the lines that begin with `ratio` are the result.

#![expect(clippy::unwrap_used, reason = "what a benchmark makes itself is well formed")]

#[path = "plan/boot.rs"]
mod boot;
#[path = "plan/fleet.rs"]
mod fleet;
#[path = "plan/floor.rs"]
mod floor;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod rig;

use std::time::Duration;

use fleet::{Fleet, Logs};
use prost::Message;
use rig::measure::{measured, mib};

/// Without optimization, as `cargo test` builds, a small part shows that it works.
const SCALE: u32 = if cfg!(debug_assertions) { 100 } else { 1 };
/// Devices of the fleet.
const DEVICES: u32 = 100_000 / SCALE;
/// Logs that they share.
const SHARED: u32 = 20;
/// What is promised for shared logs, on two cores.
const PROMISED: (Duration, u64) = (Duration::from_secs(5), 1 << 30);
/// What is promised for distinct ones: this often the floor.
const PROMISED_RATIO: f64 = 1.5;
/// Largest answer that the tool takes.
const ANSWER: usize = 32 << 20;

#[tokio::main]
async fn main() {
    let devices = rig::devices(DEVICES);
    let fleet = Fleet::new(devices).await;
    fleet.attest(Logs::Shared(SHARED)).await;
    fleet.release().await;
    let bytes = fleet.stored();
    println!("stored for {devices} devices of {SHARED} logs: {bytes}");
    shared(&fleet).await;
    exposed(&fleet).await;
    fleet.attest(Logs::Distinct).await;
    println!("stored for {devices} devices of as many logs: {}", fleet.stored());
    distinct(&fleet).await;
}

async fn shared(fleet: &Fleet) {
    let devices = fleet.devices;
    for to in ["active", "withdrawn"] {
        let (answer, cost) = measured(fleet.plan(to)).await;
        fleet.expect(&answer, to);
        let kept = cost.elapsed <= PROMISED.0 && cost.peak <= PROMISED.1;
        println!(
            "plan for {devices} devices of {SHARED} logs becoming {to}: {cost} (promised: at most {:?} and {}; {})",
            PROMISED.0,
            mib(PROMISED.1),
            if kept { "kept" } else { "MISSED" }
        );
        println!("its answer: {} groups, {} KiB", answer.groups.len(), answer.encoded_len() >> 10);
        assert!(answer.encoded_len() <= ANSWER);
        let (_, floor) = measured(floor::read(fleet)).await;
        println!("the same records, unread: {floor}");
        println!("ratio  shared, {to}: {:.2}", cost.ratio(&floor));
    }
}

/// A component that the release of all devices says nothing of, so that each device is told.
async fn exposed(fleet: &Fleet) {
    let (lines, cost) = measured(fleet.exposed()).await;
    assert_eq!(lines, usize::try_from(fleet.devices).unwrap());
    println!("exposure of {lines} devices, a line each: {cost}");
}

async fn distinct(fleet: &Fleet) {
    let (answer, cost) = measured(fleet.plan("withdrawn")).await;
    fleet.expect(&answer, "withdrawn");
    let (floor, processor) = floor::appraise(fleet).await;
    let ratio = cost.elapsed.as_secs_f64() / floor.as_secs_f64();
    let kept = if ratio <= PROMISED_RATIO { "kept" } else { "MISSED" };
    println!("plan for {} devices of as many logs: {cost}", fleet.devices);
    println!("its answer: {} groups, {} KiB", answer.groups.len(), answer.encoded_len() >> 10);
    println!("the same evidence from memory, one by one: {floor:.1?}, {processor:.2} s of processor");
    println!("ratio  distinct: {ratio:.2} (promised: at most {PROMISED_RATIO}; {kept})");
    println!("ratio  distinct, by processor time: {:.2}", cost.processor / processor);
}
