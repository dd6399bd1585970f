//! A plant powers up: every device connects and attests at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attestor::client::{BrokerClient, CallError};
use proto::v1::DenialReason;
use tokio::sync::{Barrier, Mutex};

use crate::client::client;
use crate::device::Kind;
use crate::load::{Shared, each};
use crate::report::{Figure, Times};
use crate::server::Server;

/// What is promised of a plant of 10,000: trusted within so many seconds, with so much memory in the broker.
const TRUSTED_WITHIN: f64 = 60.0;
const MEMORY: f64 = 1_024.0;
/// No device is starved: 99 of 100 wait at most so many times the mean.
const TAIL: f64 = 3.0;
/// As the attestor waits before it tries again: at first so long, each time twice that.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MOST_BACKOFF: Duration = Duration::from_secs(60);
/// A device that is not trusted by then is an error of its own.
const GIVE_UP: Duration = Duration::from_secs(900);

/// What went wrong for devices, by its words, and how often they were told to come later.
#[derive(Default)]
struct Mishaps {
    errors: BTreeMap<String, usize>,
    later: usize,
}

/// Powers up all `devices` and prints what came of it, `when`: empty, or after what. True if each was trusted without an
/// error.
pub async fn measure(dir: &Path, broker: &Server, devices: &[Shared], when: &str) -> bool {
    let client = client(dir, broker.address());
    for device in devices {
        device.lock().await.tpm().reset();
    }
    broker.forget_peak();
    let before = broker.processor_time();
    let (barrier, mishaps) = (Arc::new(Barrier::new(devices.len())), Arc::new(Mutex::<Mishaps>::default()));
    let work = |(n, device): (usize, Shared)| {
        let (client, barrier, mishaps) = (client.clone(), Arc::clone(&barrier), Arc::clone(&mishaps));
        async move {
            let mut device = device.lock().await;
            barrier.wait().await;
            let begin = Instant::now();
            let mut failures = 0;
            while let Err(error) = attest(&client, &mut device).await {
                let wait = note(&mut *mishaps.lock().await, &error, failures, n);
                failures += 1;
                if begin.elapsed() > GIVE_UP {
                    return None;
                }
                tokio::time::sleep(wait).await;
            }
            Some(begin.elapsed())
        }
    };
    let waited = each(devices.iter().cloned().enumerate(), usize::MAX, work).await;
    let trusted: Vec<Duration> = waited.iter().copied().flatten().collect();
    let spent = broker.processor_time().saturating_sub(before);
    let times = Times::new(trusted);
    let mishaps = mishaps.lock().await;
    for (error, count) in &mishaps.errors {
        eprintln!("{count} times: {error}");
    }
    let never = devices.len() - times.count();
    let errors = mishaps.errors.values().sum::<usize>() + never;
    let name = |figure| format!("storm{when}_{figure}");
    Figure::new(name("all_trusted"), times.longest(), "s").at_most(TRUSTED_WITHIN).print();
    Figure::new(name("waiting_p99"), times.percentile(99), "s").over(times.mean()).at_most(TAIL).print();
    Figure::new(name("errors"), errors as f64, "errors").at_most(0.0).print();
    Figure::new(name("try_later"), mishaps.later as f64, "answers").print();
    Figure::new(name("broker_memory"), broker.peak_memory() as f64 / f64::from(1 << 20), "MiB")
        .at_most(MEMORY)
        .print();
    eprintln!("{} devices in a storm: {spent:.2?} of processor in the broker", devices.len());
    errors == 0
}

async fn attest(client: &BrokerClient, device: &mut crate::device::Device) -> Result<(), CallError> {
    let connection = client.connect(0).await?;
    device.attest(&connection, Kind::Reattest).await
}

/// Takes down what a device met, and says how long it waits before it tries again.
fn note(mishaps: &mut Mishaps, error: &CallError, failures: u32, n: usize) -> Duration {
    // Devices draw their jitter; here it is spread evenly.
    let jitter = |span: Duration| span.mul_f64((n % 1_000) as f64 / 1_000.0);
    let own = FIRST_BACKOFF.saturating_mul(1 << failures.min(10)).min(MOST_BACKOFF);
    let own = own / 2 + jitter(own / 2);
    match error {
        CallError::Denied(denial) if denial.reason() == DenialReason::TryLater => {
            mishaps.later += 1;
            let asked = Duration::from_secs(denial.retry_after_seconds.into());
            own.max(asked + jitter(asked / 10))
        }
        _ => {
            *mishaps.errors.entry(error.to_string()).or_default() += 1;
            own
        }
    }
}
