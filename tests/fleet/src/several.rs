//! Two brokers at one plant on etcd: one finishes what the other began, both never take one answer, and devices are
//! served on when a broker or a node of etcd dies or stands still under load.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use attestor::client::{BrokerClient, CallError, Calls as _, Connection};
use broker::config::Backend;
use proto::v1::DenialReason;
use proto::v1::complete_response::Outcome;
use rustix::process::Signal;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::client::client;
use crate::device::Kind;
use crate::etcd::Cluster;
use crate::load::{Shared, each, shared, until};
use crate::plant;
use crate::report::Figure;
use crate::restore::{backup, done, restore};
use crate::server::{Server, program};

/// Exchanges at once that are not part of the load.
const AT_ONCE: usize = 8;
/// A device that got no answer within this time asks the other broker.
const ANSWER: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
/// Pause before it does.
const PAUSE: Duration = Duration::from_millis(50);
/// A device that is not served for so long never is.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// Attestations before a fault, and after it.
const SOME: usize = if cfg!(debug_assertions) { 30 } else { 1_000 };
/// Devices that ask at once at most, in seconds of the rate: more come where none is held up by a fault only if the
/// machine is too slow for the rate.
const WAITING: f64 = if cfg!(debug_assertions) { 2.0 } else { 4.0 };
/// What is promised: seconds until devices are served again.
const SERVED_AGAIN: f64 = 5.0;

/// The plant with its two brokers.
struct Plant {
    dirs: [PathBuf; 2],
    brokers: [Server; 2],
    clients: [BrokerClient; 2],
    cluster: Cluster,
}

/// What came of the load.
#[derive(Default)]
struct Log {
    /// When each attestation was due, and when it was done.
    done: Mutex<Vec<(Instant, Instant)>>,
    /// Answers that are wrong, by their words.
    wrong: Mutex<BTreeMap<String, usize>>,
    over: AtomicBool,
}

/// Measures two brokers with `count` devices and so many attestations a second. True if no answer was wrong.
pub async fn measure(folder: &Path, count: usize, rate: f64) -> bool {
    let Some(cluster) = Cluster::start(folder).await else { return true };
    let (mut plant, devices) = Plant::make(folder, cluster, count).await;
    enroll(&plant.clients, &devices).await;
    let mut well = one_takes_each(&plant.clients, &devices).await;
    let log = Arc::new(Log::default());
    let members = devices.iter().map(Member::of).collect();
    let begun = Instant::now();
    let load = tokio::spawn(arrivals(Arc::clone(&log), plant.clients.clone(), members, rate));
    log.reaches(SOME).await;
    let reached = log.count() as f64 / begun.elapsed().as_secs_f64();
    Figure::new("brokers_rate", reached, "attestations a second before any fault").over(rate).print();
    plant.faults(&log).await;
    log.over.store(true, Ordering::SeqCst);
    load.await.expect("the load ends");
    let wrong = log.wrong.lock().expect("no task panics").clone();
    for (error, times) in &wrong {
        eprintln!("{times} times: {error}");
    }
    well &= wrong.is_empty();
    Figure::new("brokers_wrong_answers", wrong.values().sum::<usize>() as f64, "answers")
        .at_most(0.0)
        .print();
    plant.moves(&devices[0]).await;
    well
}

impl Plant {
    async fn make(folder: &Path, cluster: Cluster, count: usize) -> (Self, Vec<Shared>) {
        let dirs = [folder.join("one"), folder.join("two")];
        let devices = plant::make(&dirs[0], count, Backend::Etcd(cluster.options("touchstone"))).await;
        let one = Server::broker(&dirs[0]);
        plant::listen_on(&dirs[0], one.address());
        let mut another = Command::new(program("touchstone-broker"));
        another.args(["another", "--listen", "127.0.0.1:0", "--dir"]).arg(&dirs[0]);
        another.arg("--out").arg(&dirs[1]);
        done(another);
        let two = Server::broker(&dirs[1]);
        plant::listen_on(&dirs[1], two.address());
        let clients = [&one, &two].map(|server| client(&dirs[0], server.address()));
        (Self { dirs, brokers: [one, two], clients, cluster }, shared(devices))
    }

    /// One fault after the other, each mended before the next.
    async fn faults(&mut self, log: &Log) {
        let (terms, at) = (self.terms(1), Instant::now());
        self.brokers[0].signal(Signal::STOP);
        let led = self.led_after(1, terms, at).await;
        Figure::new("brokers_leader_moved", led.as_secs_f64(), "s").print();
        log.served("brokers_broker_stopped", at).await;
        self.brokers[0].signal(Signal::CONT);
        let said = self.dirs[0].join("log");
        let told =
            || async { fs::read_to_string(&said).is_ok_and(|log| log.contains("another broker leads")) };
        until("the one that woke late is told that another leads", told).await;

        let (terms, at) = (self.terms(0), Instant::now());
        self.brokers[1].kill();
        self.led_after(0, terms, at).await;
        log.served("brokers_broker_killed", at).await;
        self.brokers[1] = Server::broker(&self.dirs[1]);

        let at = Instant::now();
        self.cluster.nodes[0].kill();
        log.served("brokers_etcd_killed", at).await;
        self.cluster.nodes[0].restart().await;

        let at = Instant::now();
        self.cluster.nodes[1].signal(Signal::STOP);
        log.served("brokers_etcd_stopped", at).await;
        self.cluster.nodes[1].signal(Signal::CONT);
    }

    /// Waits until `broker` began another term than the first `terms`, and says how long after `since`.
    async fn led_after(&self, broker: usize, terms: usize, since: Instant) -> Duration {
        until("another broker leads", || async { self.terms(broker) > terms }).await;
        since.elapsed()
    }

    /// Terms that a broker began, as it says.
    fn terms(&self, broker: usize) -> usize {
        said(&self.dirs[broker]).matches("leads in term").count()
    }

    /// A backup of the plant on etcd is restored into a folder.
    async fn moves(self, device: &Shared) {
        let file = backup(&self.dirs[0], &self.brokers[1]).await;
        let (dir, broker) = restore(&self.dirs[0], &file, SOME, &Backend::Sled).await;
        let connection = client(&dir, broker.address()).connect(0).await.expect("the broker answers");
        let attested = device.lock().await.attest(&connection, Kind::Reattest).await;
        attested.expect("a device of the plant on etcd is one of the plant in the folder");
        broker.stop();
        for broker in self.brokers {
            broker.stop();
        }
    }
}

/// What the broker of `dir` logged.
fn said(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).expect("a broker logs")
}

/// Enrolls every device but the first, each begun at one broker and finished at the other.
async fn enroll(clients: &[BrokerClient; 2], devices: &[Shared]) {
    let enroll = |(n, device): (usize, Shared)| {
        let (begins, ends) = (clients[n % 2].clone(), clients[(n + 1) % 2].clone());
        async move {
            let begins = begins.connect(0).await.expect("the broker answers");
            let ends = ends.connect(0).await.expect("the broker answers");
            let mut device = device.lock().await;
            let begun = begins.begin_enrollment(device.begin_enrollment()).await.expect("a challenge");
            let request = device.complete_enrollment(begun);
            let answer = ends.complete_enrollment(request).await.expect("the other broker finishes it");
            device.adopt(answer, Kind::Replace);
        }
    };
    each(devices.iter().cloned().enumerate().skip(1), AT_ONCE, enroll).await;
}

/// Gives the answer to one challenge to both brokers at once, for every device. True if always one took it.
async fn one_takes_each(clients: &[BrokerClient; 2], devices: &[Shared]) -> bool {
    let both = |device: Shared| {
        let [one, two] = clients.clone();
        async move {
            let (one, two) = (one.connect(0).await, two.connect(0).await);
            let (one, two) = (one.expect("the broker answers"), two.expect("the broker answers"));
            let mut device = device.lock().await;
            let begun = one.begin_attestation(device.begin_attestation()).await.expect("a challenge");
            let request = device.complete_attestation(begun, Kind::Reattest);
            let answers =
                tokio::join!(one.complete_attestation(request.clone()), two.complete_attestation(request));
            let took = |answer: &Result<proto::v1::CompleteResponse, CallError>| {
                answer.as_ref().is_ok_and(|answer| matches!(answer.outcome, Some(Outcome::Issued(_))))
            };
            let took = usize::from(took(&answers.0)) + usize::from(took(&answers.1));
            if took != 1 {
                eprintln!("{} brokers took the answer of {}: {answers:?}", took, device.name());
            }
            took
        }
    };
    let took = each(devices.iter().cloned(), AT_ONCE, both).await;
    let twice = took.iter().filter(|took| **took != 1).count();
    Figure::new("brokers_challenges_not_taken_once", twice as f64, "challenges").at_most(0.0).print();
    twice == 0
}

/// A device of the load, with the connections that it keeps to either broker while they work, as one that watches does.
struct Member {
    device: Shared,
    open: [AsyncMutex<Option<Connection>>; 2],
}

impl Member {
    fn of(device: &Shared) -> Arc<Self> {
        Arc::new(Self { device: Arc::clone(device), open: Default::default() })
    }

    /// Attests at one of the brokers. A call that fails, or is given up, takes the connection with it.
    async fn attest(&self, clients: &[BrokerClient; 2], broker: usize) -> Result<(), CallError> {
        let mut open = self.open[broker].lock().await;
        let connection = match open.take() {
            Some(connection) => connection,
            None => clients[broker].connect(0).await?,
        };
        self.device.lock().await.attest(&connection, Kind::Reattest).await?;
        *open = Some(connection);
        Ok(())
    }
}

/// Lets devices come in turn at the moments of the rate, half of them to either broker first, until it is over.
async fn arrivals(log: Arc<Log>, clients: [BrokerClient; 2], devices: Vec<Arc<Member>>, rate: f64) {
    let (begin, mut running) = (Instant::now(), JoinSet::new());
    let whole = |ended: Result<(), tokio::task::JoinError>| ended.expect("no task panics");
    for (n, device) in devices.iter().cycle().cloned().enumerate() {
        if log.over.load(Ordering::SeqCst) {
            break;
        }
        let due = begin + Duration::from_secs_f64(n as f64 / rate);
        sleep_until(due.into()).await;
        while let Some(ended) = running.try_join_next() {
            whole(ended);
        }
        if running.len() as f64 >= rate * WAITING {
            running.join_next().await.map(whole);
        }
        running.spawn(come(Arc::clone(&log), clients.clone(), device, n, due));
    }
    running.join_all().await;
}

/// A device comes, and asks until it is trusted: of the brokers in turn.
async fn come(log: Arc<Log>, clients: [BrokerClient; 2], device: Arc<Member>, n: usize, due: Instant) {
    let (mut turn, begun, mut last) = (n, Instant::now(), String::new());
    while begun.elapsed() < GIVEN_UP {
        match timeout(ANSWER, device.attest(&clients, turn % 2)).await {
            Ok(Ok(())) => {
                log.done.lock().expect("no task panics").push((due, Instant::now()));
                return;
            }
            Ok(Err(CallError::Denied(denial))) if !is_of_the_moment(denial.reason()) => {
                return log.wrong(denial.message);
            }
            // Away, or asked to come again: what the fault hit may be done or not.
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no answer within {ANSWER:?}"),
        }
        turn += 1;
        sleep(PAUSE).await;
    }
    log.wrong(format!("never served again: {last}"));
}

/// Whether it says to come again, and nothing against the device.
fn is_of_the_moment(reason: DenialReason) -> bool {
    matches!(reason, DenialReason::TryLater | DenialReason::MustReattest)
}

impl Log {
    fn wrong(&self, answer: String) {
        *self.wrong.lock().expect("no task panics").entry(answer).or_default() += 1;
    }

    fn count(&self) -> usize {
        self.done.lock().expect("no task panics").len()
    }

    async fn reaches(&self, count: usize) {
        until("devices attest", || async { self.count() >= count }).await;
    }

    /// Waits for more attestations, and prints for how long there was none since the fault, and the longest wait.
    async fn served(&self, name: &'static str, since: Instant) {
        // Those that were on their way when it struck say nothing.
        let later = since + ANSWER;
        let enough = || async {
            let done = self.done.lock().expect("no task panics");
            done.iter().filter(|(due, _)| *due > later).count() >= SOME
        };
        until("devices are served again", enough).await;
        let done = self.done.lock().expect("no task panics").clone();
        let mut times: Vec<Instant> = done.iter().map(|(_, at)| *at).filter(|at| *at > since).collect();
        times.sort_unstable();
        let outage =
            [since].iter().chain(&times).zip(&times).map(|(from, to)| to.duration_since(*from)).max();
        let outage = outage.unwrap_or_default().as_secs_f64();
        let struck = done.iter().filter(|(_, at)| *at > since);
        let longest = struck.map(|(due, at)| at.duration_since(*due)).max().unwrap_or_default();
        let longest = longest.as_secs_f64();
        Figure::new(name, longest, "s that a device waited at most").at_most(SERVED_AGAIN).print();
        eprintln!("{name}: {outage:.2} s without any attestation, then {}", times.len());
    }
}
