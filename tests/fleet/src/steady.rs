//! Steady state: some devices have a Watch stream open, and the others come one after the other to re-attest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attestor::client::BrokerClient;
use proto::v1::WatchEvent;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tonic::Streaming;

use crate::client::{client, credentials};
use crate::device::Kind;
use crate::load::{Shared, each};
use crate::report::{Figure, Times};
use crate::server::Server;

/// Handshakes at once of those that watch.
const CONNECTING: usize = 64;
/// What is promised: of the time from when a device comes until it is trusted, in milliseconds, and of memory, in MiB.
const P99: f64 = 50.0;
const MEMORY: f64 = 1_536.0;

/// How much there is of what.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    /// Devices with a Watch stream.
    pub watch: usize,
    /// Attestations a second.
    pub rate: f64,
    /// How long, in seconds.
    pub seconds: u32,
}

/// What went wrong, by its words.
pub type Errors = Arc<Mutex<BTreeMap<String, usize>>>;

/// Keeps the plant in steady state and prints what came of it, `when`: empty, or after what. True if nothing went wrong.
pub async fn measure(dir: &Path, broker: &Server, devices: &[Shared], steady: Steady, when: &str) -> bool {
    let client = client(dir, broker.address());
    broker.forget_peak();
    let errors = Errors::default();
    let (watching, others) = devices.split_at(steady.watch.min(devices.len()));
    let mut streams = watch(&client, watching, &errors).await;
    // Where all watch, those that do come.
    let coming = if others.is_empty() { watching } else { others };
    let before = broker.processor_time();
    let (times, over) = arrivals(&client, coming, steady, &errors).await;
    let spent = broker.processor_time().saturating_sub(before);
    while let Some(ended) = streams.try_join_next() {
        *errors.lock().await.entry(ended.expect("no task panics")).or_default() += 1;
    }
    streams.shutdown().await;
    let errors = errors.lock().await;
    for (error, count) in &*errors {
        eprintln!("{count} times: {error}");
    }
    let count: usize = errors.values().sum();
    let name = |figure| format!("steady{when}_{figure}");
    let done = times.len();
    eprintln!("{done} attestations in {over:.1?}, {watching} watch", watching = watching.len());
    if !times.is_empty() {
        let times = Times::new(times);
        Figure::new(name("p50"), times.percentile(50) * 1e3, "ms").print();
        Figure::new(name("p99"), times.percentile(99) * 1e3, "ms").at_most(P99).print();
    }
    Figure::new(name("rate"), done as f64 / over.as_secs_f64(), "attestations a second").print();
    Figure::new(name("processor"), spent.as_secs_f64() / over.as_secs_f64(), "cores of the broker").print();
    Figure::new(name("errors"), count as f64, "errors").at_most(0.0).print();
    let memory = broker.peak_memory() as f64 / f64::from(1 << 20);
    Figure::new(name("broker_memory"), memory, "MiB").at_most(MEMORY).print();
    count == 0
}

/// Opens the streams, and reads each in a task, which ends with why it ended.
pub async fn watch(client: &BrokerClient, devices: &[Shared], errors: &Errors) -> JoinSet<String> {
    let open = |device: Shared| {
        let client = client.clone();
        async move {
            let credentials = credentials(&*device.lock().await);
            client.watch(credentials, 0, 0).await.map(|(stream, _)| stream)
        }
    };
    let opened = each(devices.iter().cloned(), CONNECTING, open).await;
    let mut streams = JoinSet::new();
    for stream in opened {
        match stream {
            Ok(stream) => drop(streams.spawn(ended(stream))),
            Err(error) => *errors.lock().await.entry(format!("Watch: {error}")).or_default() += 1,
        }
    }
    streams
}

async fn ended(mut stream: Streaming<WatchEvent>) -> String {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return "a Watch stream ended".to_owned(),
            Err(status) => return format!("a Watch stream ended: {status}"),
        }
    }
}

/// Lets devices come, in turn and at the moments of the rate, however long those before them take. Gives the time from
/// when each was to come until it was trusted, and over how long.
async fn arrivals(
    client: &BrokerClient,
    devices: &[Shared],
    steady: Steady,
    errors: &Errors,
) -> (Vec<Duration>, Duration) {
    let (begin, mut running) = (Instant::now(), JoinSet::new());
    let count = (steady.rate * f64::from(steady.seconds)).ceil() as usize;
    for (n, device) in devices.iter().cycle().take(count).cloned().enumerate() {
        let due = begin + Duration::from_secs_f64(n as f64 / steady.rate);
        tokio::time::sleep_until(due.into()).await;
        let (client, errors) = (client.clone(), Arc::clone(errors));
        running.spawn(async move {
            let attested = async {
                let connection = client.connect(0).await?;
                device.lock().await.attest(&connection, Kind::Reattest).await
            };
            match attested.await {
                Ok(()) => Some(due.elapsed()),
                Err(error) => {
                    *errors.lock().await.entry(error.to_string()).or_default() += 1;
                    None
                }
            }
        });
    }
    let times = running.join_all().await.into_iter().flatten().collect();
    (times, begin.elapsed())
}
