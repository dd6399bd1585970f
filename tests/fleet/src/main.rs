//! The fleet simulator: thousands of devices with software TPMs, registered as such, that speak the real protocol over
//! real TLS with one broker, which is a program of its own. Prints what they measured, a line of JSON for each figure.
//!
//! Promises: every figure stands beside a floor, or a promise, that was taken on the same machine in the same run. Does not
//! promise anything outside measuring: it panics when a device is not trusted.

mod churn;
mod client;
mod cut;
mod device;
mod etcd;
mod exchange;
mod floor;
mod load;
mod plant;
mod report;
mod restore;
mod server;
mod several;
mod steady;
mod store;
mod storm;
mod tpm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use broker::config::Backend;
use clap::{Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::device::{Device, Kind};
use crate::etcd::Cluster;
use crate::load::{Shared, each, shared, timed};
use crate::report::{Figure, Times};
use crate::server::Server;
use crate::steady::Steady;

/// Enrollments at once: so many the broker works on; more are told to come later.
const ENROLLING: usize = 8;
/// Seconds in which each device attests once, unless a rate is stated: 333 a second of 100,000.
const USUAL_SECONDS: f64 = 300.0;
/// Devices that watch while sessions are cut, unless stated.
const WATCHING: usize = 1_000;
/// What is promised: seconds until a broker that starts serves, and how often the cost in a plant with a hundredth of the
/// devices a re-attestation costs.
const STARTED_WITHIN: f64 = 3.0;
const AT_SCALE: f64 = 1.2;
/// Attestations a second of two brokers, unless stated.
const SEVERAL_RATE: f64 = 200.0;
/// What figures are named after, that are taken after a restore.
const RESTORED: &str = "_after_restore";
/// Files that a process has open besides its connections.
const OTHER_FILES: usize = 200;

/// Measures a broker with a fleet of simulated devices.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Devices of the plant.
    #[arg(long, default_value_t = 1_000)]
    devices: usize,
    /// Of them power up at once; all unless stated.
    #[arg(long)]
    storm: Option<usize>,
    /// Of them have a Watch stream open in steady state; a tenth unless stated.
    #[arg(long)]
    watch: Option<usize>,
    /// Attestations a second in steady state; each device once in five minutes unless stated.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Seconds of steady state.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Proofs of each device before the store is measured; a day has 96, and six of those bring certificates.
    #[arg(long, default_value_t = 8)]
    churn: u32,
    /// What the plant has its records on.
    #[arg(long, value_enum, default_value_t = Kept::Sled)]
    store: Kept,
    /// What is measured; everything unless stated.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Folder for what the run keeps on disk, removed at its end.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Own>,
}

impl Args {
    fn asks(&self, scenario: Scenario) -> bool {
        self.scenario.is_empty() || self.scenario.contains(&scenario)
    }

    /// Devices that power up at once.
    fn storm(&self) -> usize {
        let count = self.devices.max(1);
        self.storm.unwrap_or(count).clamp(1, count)
    }

    fn steady(&self) -> Steady {
        let count = self.devices.max(1);
        let rate = self.rate.unwrap_or(count as f64 / USUAL_SECONDS);
        Steady { watch: self.watch.unwrap_or(count / 10), rate, seconds: self.seconds }
    }
}

/// What a plant has its records on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kept {
    /// The broker's own folder.
    Sled,
    /// Three nodes of etcd on this machine.
    Etcd,
}

/// A rate at which somebody comes.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error: std::num::ParseFloatError| error.to_string())?;
    (rate.is_finite() && rate > 0.0).then_some(rate).ok_or_else(|| "it must be above 0".to_owned())
}

/// What this program starts itself for.
#[derive(Debug, Subcommand)]
enum Own {
    /// Serves the least that anybody can do.
    #[command(hide = true)]
    Floor {
        /// Its folder.
        dir: PathBuf,
    },
}

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Scenario {
    /// What one exchange costs, beside its floor.
    Exchange,
    /// The same in a plant with a hundredth of the devices, for comparison.
    Scale,
    /// All power up at once.
    Storm,
    /// Some watch, the others come in turn.
    Steady,
    /// Sessions at a gate are cut, of devices that prove to be tampered with.
    Cut,
    /// What the store takes on disk after a day's proofs, and how soon the broker serves it.
    Store,
    /// Two brokers at a plant of its own on etcd, and what becomes of the devices when parts of it fail; only if it is
    /// asked for.
    Brokers,
    /// Storm, steady state and start again, after a backup was restored on another host.
    Restore,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    open_files(args.devices);
    if let Some(Own::Floor { dir }) = &args.command {
        floor::serve(dir).await;
        return ExitCode::SUCCESS;
    }
    let folder = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder of the run");
    match run(&args, folder.path()).await {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs what is asked for. True if every device was trusted without an error.
async fn run(args: &Args, folder: &Path) -> bool {
    let count = args.devices.max(1);
    if args.scenario.contains(&Scenario::Brokers) {
        return several::measure(folder, count, args.rate.unwrap_or(SEVERAL_RATE)).await;
    }
    let cluster = match args.store {
        Kept::Sled => None,
        Kept::Etcd => match Cluster::start(folder).await {
            None => return true,
            cluster => cluster,
        },
    };
    let ground = Ground { dir: folder.join("plant"), cluster };
    let (broker, devices) = power_on(&ground.dir, count, ground.backend("plant")).await;
    let mut well = ground.measure(args, &broker, &devices).await;
    let backup = match args.asks(Scenario::Restore) {
        true => Some(restore::backup(&ground.dir, &broker).await),
        false => None,
    };
    broker.stop();
    if args.asks(Scenario::Store) {
        store::measure(&ground.dir, count, ground.cluster.as_ref()).await;
        start(&ground.dir, &devices[0], "").await.stop();
    }
    if let Some(backup) = backup {
        let backend = ground.backend("restored");
        let (dir, broker) = restore::restore(&ground.dir, &backup, count, &backend).await;
        let storm = args.storm();
        well &= storm::measure(&ground.dir, &broker, &devices[..storm], RESTORED).await;
        // Whoever watches has to have attested since.
        let steady = Steady { watch: args.steady().watch.min(storm), ..args.steady() };
        well &= steady::measure(&ground.dir, &broker, &devices, steady, RESTORED).await;
        broker.stop();
        start(&dir, &devices[0], RESTORED).await.stop();
    }
    well
}

/// Where a plant is.
struct Ground {
    dir: PathBuf,
    cluster: Option<Cluster>,
}

impl Ground {
    /// What the plant of this name has its records on.
    fn backend(&self, name: &str) -> Backend {
        self.cluster.as_ref().map_or(Backend::Sled, |cluster| Backend::Etcd(cluster.options(name)))
    }

    /// Measures what needs no other broker. True if every device was trusted without an error.
    async fn measure(&self, args: &Args, broker: &Server, devices: &[Shared]) -> bool {
        let (dir, mut well) = (&self.dir, true);
        if args.asks(Scenario::Exchange) {
            exchange::measure(dir, broker, devices).await;
        }
        if args.asks(Scenario::Scale) {
            self.scale(broker, devices).await;
        }
        if args.asks(Scenario::Storm) {
            well &= storm::measure(dir, broker, &devices[..args.storm()], "").await;
        }
        if args.asks(Scenario::Steady) {
            well &= steady::measure(dir, broker, devices, args.steady(), "").await;
        }
        if args.asks(Scenario::Cut) {
            well &= cut::measure(dir, broker, devices, args.watch.unwrap_or(WATCHING)).await;
        }
        if args.asks(Scenario::Store) {
            churn::measure(dir, broker, devices, args.churn).await;
        }
        well
    }

    /// Compares what a re-attestation costs here and in a plant with a hundredth of the devices.
    async fn scale(&self, broker: &Server, devices: &[Shared]) {
        let (dir, small) = (&self.dir, self.dir.with_file_name("small"));
        let (other, few) = power_on(&small, devices.len().div_ceil(100), self.backend("small")).await;
        let client = |dir: &Path, server: &Server| client::client(dir, server.address());
        let floor = exchange::reattest_micros(&other, &client(&small, &other), &few, true).await;
        let cost = exchange::reattest_micros(broker, &client(dir, broker), devices, true).await;
        Figure::new("reattest_at_scale", cost, "us of processor").over(floor).at_most(AT_SCALE).print();
    }
}

/// A plant in `dir`, on `backend`, with so many devices that are enrolled, and its broker.
async fn power_on(dir: &Path, devices: usize, backend: Backend) -> (Server, Vec<Shared>) {
    let devices = plant::make(dir, devices, backend).await;
    let broker = Server::broker(dir);
    let devices = enroll(dir, &broker, devices).await;
    (broker, devices)
}

/// Starts the broker of `dir` again, and prints how long it took until `device` was trusted.
async fn start(dir: &Path, device: &Shared, when: &str) -> Server {
    let started = async {
        let broker = Server::broker(dir);
        let connection = client::client(dir, broker.address()).connect(0).await.expect("the broker answers");
        device.lock().await.attest(&connection, Kind::Reattest).await.expect("it is trusted");
        broker
    };
    let (broker, took) = timed(started).await;
    Figure::new(format!("start{when}"), took.as_secs_f64(), "s").at_most(STARTED_WITHIN).print();
    broker
}

/// Enrolls every device but the first, which the golden release was learned from.
async fn enroll(dir: &Path, broker: &Server, devices: Vec<Device>) -> Vec<Shared> {
    let (client, devices) = (client::client(dir, broker.address()), shared(devices));
    let before = broker.processor_time();
    let enroll = |device: Shared| {
        let client = client.clone();
        async move {
            let enrolled = async {
                let connection = client.connect(0).await.expect("the broker answers");
                device
                    .lock()
                    .await
                    .enroll(&connection)
                    .await
                    .expect("it is registered, and what it boots is golden");
            };
            timed(enrolled).await.1
        }
    };
    let times = each(devices[1..].iter().cloned(), ENROLLING, enroll).await;
    if !times.is_empty() {
        let each = (broker.processor_time() - before).as_secs_f64() * 1e6 / times.len() as f64;
        Figure::new("enroll", each, "us of processor").print();
        Figure::new("enroll_p99", Times::new(times).percentile(99), "s").print();
    }
    devices
}

/// Allows this process, and those that it starts, as many connections.
fn open_files(devices: usize) {
    let needed = u64::try_from(devices + OTHER_FILES).expect("a small number");
    let limits = getrlimit(Resource::Nofile);
    if limits.current.is_some_and(|current| current < needed) {
        let most = limits.maximum.map_or(needed, |most| most.min(needed));
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limits }).expect("below the hard limit");
        if most < needed {
            eprintln!(
                "{needed} open files are needed and {most} are granted (ulimit -Hn): connect fewer at once"
            );
        }
    }
}
