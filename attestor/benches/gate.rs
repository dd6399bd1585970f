//! What a gate costs, beside a proxy that only copies, and beside stunnel and ghostunnel where they are installed.
//!
//! A client of this process speaks TLS 1.3 with a certificate to the gate, the gate plain TCP to a server of this process;
//! client and server of the plain proxy are the same without TLS. So a figure has everything that a peer sees, and the
//! plain proxy is the floor of it. Every proxy is a process of its own, and they take turns, so that what else the machine
//! does falls on all alike. Run with `cargo bench -p attestor --bench gate`, for fewer idle sessions with `-- NUMBER`
//! behind it. Whether a promise is kept is said of optimized programs, and of memory with as many sessions as promised; one that
//! is missed fails the run.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a benchmark makes itself is well formed"
)]

#[path = "gate/load.rs"]
mod load;
#[path = "gate/others.rs"]
mod others;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/gate/rig.rs"]
mod rig;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use attestor::config::Limits;
use attestor::role::Role;
use load::{Peer, Server, latency, throughput};
use rig::{Device, Plant, Running, Told};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Says to a process what it is: `gate`, or `copy` for the plain proxy.
const ROLE: &str = "TOUCHSTONE_BENCH_GATE";
/// Where the keys of the plant are, which all processes share.
const KEYS: &str = "TOUCHSTONE_BENCH_GATE_KEYS";
/// Idle sessions.
const IDLE: usize = if cfg!(debug_assertions) { 50 } else { PROMISED };
/// Requests in flight one after the other, and bytes that are sent.
const REQUESTS: usize = if cfg!(debug_assertions) { 200 } else { 20_000 };
const BYTES: usize = if cfg!(debug_assertions) { 4 << 20 } else { 512 << 20 };
/// Rounds of which the best counts: other programs disturb.
const ROUNDS: usize = if cfg!(debug_assertions) { 1 } else { 6 };
/// With how many idle sessions memory is promised.
const PROMISED: usize = 5_000;
/// What is promised: added to a request, p50 and p99; resident with so many idle sessions.
const ADDED: (Duration, Duration) = (Duration::from_micros(60), Duration::from_micros(250));
const RESIDENT: u64 = 100 << 20;

#[tokio::main]
async fn main() -> ExitCode {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(IDLE);
    open_files();
    match std::env::var(ROLE).as_deref() {
        Ok("gate") => {
            gate().await;
            return ExitCode::SUCCESS;
        }
        Ok("copy") => {
            copy().await;
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let keys = tempfile::tempdir().unwrap();
    KEPT.set(keys.path().to_owned()).unwrap();
    let peer = Peer::new();
    let server = Server::start().await;
    let (plain, mut gate) =
        (Proxy::start("copy", server.address).await, Proxy::start("gate", server.address).await);
    let others: Vec<_> =
        others::installed().into_iter().map(|other| (other.name, other.start(server.address))).collect();
    let mut all =
        vec![Turn::new("plain proxy", None, plain.address), Turn::new("gate", Some(&peer), gate.address)];
    all.extend(others.iter().map(|(name, running)| Turn::new(name, Some(&peer), running.address)));
    for _ in 0..ROUNDS {
        for turn in &mut all {
            turn.take().await;
        }
    }
    let mut promises = Promises::default();
    compare(&mut promises, &all);
    // They do not stand in the way of what comes.
    drop(all);
    drop(others);
    idle(&mut promises, &mut gate, &peer, count).await;
    promises.finish()
}

/// The folder of the plant's keys, in the process that made it.
static KEPT: OnceLock<PathBuf> = OnceLock::new();

fn plant() -> Plant {
    let kept = || std::env::var(KEYS).unwrap().into();
    Plant::kept(KEPT.get_or_init(kept))
}

/// A proxy that takes its turns, and its best ones.
struct Turn<'a> {
    name: &'a str,
    peer: Option<&'a Peer>,
    address: SocketAddr,
    waits: (Duration, Duration),
    throughput: f64,
}

impl<'a> Turn<'a> {
    const fn new(name: &'a str, peer: Option<&'a Peer>, address: SocketAddr) -> Self {
        Self { name, peer, address, waits: (Duration::MAX, Duration::MAX), throughput: 0.0 }
    }

    async fn take(&mut self) {
        let waits = latency(self.peer, self.address, REQUESTS).await;
        self.waits = (self.waits.0.min(waits.0), self.waits.1.min(waits.1));
        self.throughput = self.throughput.max(throughput(self.peer, self.address, BYTES).await);
    }
}

/// Says what came out: the plain proxy is the first, the gate the second.
fn compare(promises: &mut Promises, all: &[Turn<'_>]) {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let (floor, gate) = (&all[0], &all[1]);
    for turn in all {
        let (name, (p50, p99)) = (turn.name, turn.waits);
        let added = (p50.saturating_sub(floor.waits.0), p99.saturating_sub(floor.waits.1));
        println!(
            "value  {name}, one request in flight: p50 {p50:.1?}, p99 {p99:.1?}; added to the plain proxy {:.1?} and {:.1?}",
            added.0, added.1
        );
        println!(
            "value  {name}, throughput: {:.0} MiB/s (ratio to the plain proxy {:.2})",
            mib(turn.throughput),
            turn.throughput / floor.throughput
        );
    }
    let added = (gate.waits.0.saturating_sub(floor.waits.0), gate.waits.1.saturating_sub(floor.waits.1));
    let kept = promises.judge(added.0 <= ADDED.0 && added.1 <= ADDED.1);
    println!(
        "promise  gate, added to one request: at most {:?} at p50 and {:?} at p99; {kept}",
        ADDED.0, ADDED.1
    );
    for other in &all[2..] {
        let (name, ratio) = (other.name, gate.throughput / other.throughput);
        let kept = promises.judge(ratio >= 1.0);
        println!("promise  gate / {name}, throughput: at least 1, is {ratio:.2}; {kept}");
    }
}

/// How many promises were missed.
#[derive(Default)]
struct Promises(usize);

impl Promises {
    /// What is said of one.
    fn judge(&mut self, kept: bool) -> &'static str {
        match kept {
            _ if cfg!(debug_assertions) => "not judged: not optimized",
            true => "kept",
            false => {
                self.0 += 1;
                "MISSED"
            }
        }
    }

    fn finish(self) -> ExitCode {
        if self.0 == 0 {
            return ExitCode::SUCCESS;
        }
        eprintln!("{} promises missed; on a busy machine run again", self.0);
        ExitCode::FAILURE
    }
}

/// Opens sessions that do nothing, and then takes the peer's trust away.
async fn idle(promises: &mut Promises, gate: &mut Proxy, peer: &Peer, count: usize) {
    let before = gate.resident();
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = peer.connect(gate.address).await;
        load::ask(&mut stream).await;
        sessions.push(stream);
    }
    let resident = gate.resident();
    println!("value  gate, {count} idle sessions: {} KiB resident, {} before", resident >> 10, before >> 10);
    let kept = match count {
        PROMISED => promises.judge(resident <= RESIDENT),
        _ => "not judged: not as many",
    };
    println!("promise  gate, {PROMISED} idle sessions: at most {} KiB resident; {kept}", RESIDENT >> 10);
    let begun = Instant::now();
    gate.stdin.write_all(b"revoke\n").await.unwrap();
    let line = gate.told.next_line().await.unwrap().unwrap();
    println!(
        "value  gate, {count} sessions decided again and cut: {line}; the last is known after {:.1?}",
        begun.elapsed()
    );
}

/// A proxy in a process of its own.
struct Proxy {
    child: Child,
    stdin: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Proxy {
    async fn start(role: &str, server: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(ROLE, role)
            .env(KEYS, KEPT.get().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{server}\n").as_bytes()).await.unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = told.next_line().await.unwrap().unwrap().parse().unwrap();
        Self { child, stdin, told, address }
    }

    /// Bytes that it has in memory.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

/// What the parent says next; None once it has ended.
async fn heard() -> Option<String> {
    let line = || std::io::stdin().lines().next().and_then(Result::ok);
    tokio::task::spawn_blocking(line).await.unwrap()
}

/// The gate of press-1, until its parent ends.
async fn gate() {
    let server = heard().await.unwrap().parse().unwrap();
    let plant = Arc::new(plant());
    let press = Device::new(&plant, Role::Listener, plant.usual("press-1", "press", "listener"));
    let limits = Limits { connections: 10_000, each: 10_000, ..Limits::default() };
    let running = Running::open(&press, server, limits).await;
    println!("{}", running.address);
    while let Some(line) = heard().await {
        assert_eq!(line, "revoke");
        let begun = Instant::now();
        press.tell(&Told { revoked: vec![0x41], ..Told::default() });
        while running.gate.status().sessions > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("{:.1?}", begun.elapsed());
    }
}

/// A proxy that only copies: what nobody can leave out.
async fn copy() {
    let server: SocketAddr = heard().await.unwrap().parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut one, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut other = TcpStream::connect(server).await.unwrap();
                one.set_nodelay(true).unwrap();
                other.set_nodelay(true).unwrap();
                drop(
                    tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, 64 << 10, 64 << 10).await,
                );
            });
        }
    });
    while heard().await.is_some() {}
}

/// Allows this process as many files as the system grants.
fn open_files() {
    let limits = getrlimit(Resource::Nofile);
    // What is not granted is asked for in vain: accepts say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
}
