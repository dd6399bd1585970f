//! How soon a change reaches a fleet: 10,000 devices hold a Watch stream each, over TLS 1.3 with their certificates, when
//! a conduit opens to the zone that all of them are in. Measured from when the command is sent to when the first and
//! the last device has read its signed trust set.
//!
//! The devices are a process of their own on the same machine, so what they compute takes processors from the broker.
//!
//! Run with `cargo bench -p broker --bench push`, for fewer devices with `-- NUMBER` behind it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a benchmark makes itself is well formed"
)]

#[path = "push/devices.rs"]
mod devices;
#[expect(dead_code, reason = "the benchmarks of verifying use the rest")]
#[expect(clippy::allow_attributes, reason = "what is unfulfilled cannot be expected")]
#[allow(unfulfilled_lint_expectations, reason = "policy forbids randomness, the broker does not")]
#[path = "../../policy/benches/measure/mod.rs"]
mod measure;
#[path = "push/plant.rs"]
mod plant;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod rig;
#[path = "push/wire.rs"]
mod wire;

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use broker::server;
use proto::v1;
use proto::v1::admin_client::AdminClient;
use rig::measure::{mib, peak, processor_time};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Notify;

/// Without optimization, as `cargo test` builds, a small part shows that it works.
const DEVICES: u32 = if cfg!(debug_assertions) { 50 } else { 10_000 };
/// Changes that are measured, one after the other.
const CHANGES: usize = 4;
/// What is promised of each: the first device, and the last.
const PROMISED: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// Files that a process has open besides its connections.
const OTHER_FILES: u64 = 200;
/// Largest answer that the tool takes: it names each device that is affected.
const ANSWER: usize = 32 << 20;

#[tokio::main]
async fn main() -> ExitCode {
    let count = rig::devices(DEVICES);
    open_files(count);
    let role = std::env::var(devices::FOLDER);
    if let Ok(folder) = role {
        devices::run(Path::new(&folder)).await;
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("plant");
    plant::make(&dir, count).await;
    let stop = Arc::new(Notify::new());
    let serving = tokio::spawn({
        let (dir, stop) = (dir.clone(), Arc::clone(&stop));
        async move { server::serve(&dir, stop.notified()).await }
    });
    let address = wire::address(&dir).await;
    let (mut child, mut told) = fleet(&dir, count);
    assert_eq!(told.next_line().await.unwrap().as_deref(), Some("ready"));
    let processors = std::thread::available_parallelism().unwrap();
    println!("{count} devices watch on {processors} processors: {} resident in the broker", mib(peak()));
    let owner = wire::Identity::read(&dir.join("owner/admin.pem"), &dir.join("owner/admin.key"));
    let channel = wire::connect(&dir, &address, &owner).await.unwrap();
    let mut admin = AdminClient::new(channel).max_decoding_message_size(ANSWER);
    let mut kept = true;
    for change in 0..CHANGES {
        kept &= measured(&mut admin, change, count, &mut told).await;
    }
    child.kill().await.unwrap();
    stop.notify_one();
    serving.await.unwrap().unwrap();
    // Not what a build without optimization is promised for.
    if kept || cfg!(debug_assertions) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Opens a conduit, or closes it, waits until all devices know, and says whether that was as promised.
async fn measured(
    admin: &mut AdminClient<tonic::transport::Channel>,
    change: usize,
    count: u32,
    told: &mut Lines<BufReader<ChildStdout>>,
) -> bool {
    let conduit = v1::Conduit {
        from: "cell-4".to_owned(),
        to: "cell-3".to_owned(),
        service: "opcua".to_owned(),
        accept_observed: true,
        ..v1::Conduit::default()
    };
    let (busy, begin) = (processor_time(), now());
    let affected = if change.is_multiple_of(2) {
        let request = v1::AllowConduitRequest { conduit: Some(conduit), ..Default::default() };
        admin.allow_conduit(request).await.unwrap().into_inner().affected
    } else {
        let request = v1::CloseConduitRequest { conduit: Some(conduit), ..Default::default() };
        admin.close_conduit(request).await.unwrap().into_inner().affected
    };
    let answered = now().saturating_sub(begin);
    assert_eq!(affected.len(), usize::try_from(count).unwrap());
    let line = told.next_line().await.unwrap().unwrap();
    let moments: Vec<u64> = line.split(' ').map(|nanoseconds| nanoseconds.parse().unwrap()).collect();
    let [first, last, devices] = moments[..] else { unreachable!("{line}") };
    let since = |moment| Duration::from_nanos(moment).saturating_sub(begin);
    let (first, last) = (since(first), since(last));
    let kept = first <= PROMISED.0 && last <= PROMISED.1;
    println!(
        "a conduit {} to {count} devices: the first knows after {first:.1?}, the last after {last:.2?} (promised: at most {:?} and {:?}; {}); the command took {answered:.1?}; processor: {:.2} s of the broker, {:.2?} of the devices",
        if change.is_multiple_of(2) { "opens" } else { "closes" },
        PROMISED.0,
        PROMISED.1,
        if kept { "kept" } else { "MISSED" },
        processor_time() - busy,
        Duration::from_nanos(devices),
    );
    kept
}

/// The devices, and what they say.
fn fleet(dir: &Path, count: u32) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(count.to_string()).env(devices::FOLDER, dir).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let told = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, told)
}

/// Allows this process as many connections; what the system does not grant is said.
fn open_files(connections: u32) {
    let needed = u64::from(connections) + OTHER_FILES;
    let limits = getrlimit(Resource::Nofile);
    if limits.current.is_some_and(|current| current < needed) {
        let granted = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
        let enough = granted.is_ok() && limits.maximum.is_none_or(|most| most >= needed);
        assert!(
            enough,
            "{needed} open files are needed (ulimit -Hn); ask for fewer devices with `-- NUMBER`"
        );
    }
}

/// A moment that both processes tell alike (CLOCK_MONOTONIC).
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap()
}
