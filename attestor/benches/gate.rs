//! What a gate costs, beside a proxy that only copies, and beside stunnel and ghostunnel where they are installed.
//!
//! A client of this process speaks TLS 1.3 with a certificate to the gate, the gate plain TCP to a server of this process;
//! client and server of the plain proxy are the same without TLS. So a figure has everything that a peer sees, and the
//! plain proxy is the floor of it. Every proxy is a process of its own. Run with `cargo bench -p attestor --bench gate`,
//! for fewer idle sessions with `-- NUMBER` behind it.

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
use std::process::Stdio;
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
const IDLE: usize = if cfg!(debug_assertions) { 50 } else { 5_000 };
/// Requests in flight one after the other, and bytes that are sent.
const REQUESTS: usize = if cfg!(debug_assertions) { 200 } else { 20_000 };
const BYTES: usize = if cfg!(debug_assertions) { 4 << 20 } else { 1 << 30 };
/// Rounds of which the best counts: other programs disturb.
const ROUNDS: usize = if cfg!(debug_assertions) { 1 } else { 3 };
/// What is promised: added to a request, p50 and p99; resident with 5,000 idle sessions.
const ADDED: (Duration, Duration) = (Duration::from_micros(60), Duration::from_micros(250));
const RESIDENT: u64 = 100 << 20;

#[tokio::main]
async fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(IDLE);
    open_files();
    match std::env::var(ROLE).as_deref() {
        Ok("gate") => return gate().await,
        Ok("copy") => return copy().await,
        _ => {}
    }
    let keys = tempfile::tempdir().unwrap();
    KEPT.set(keys.path().to_owned()).unwrap();
    let peer = Peer::new();
    let server = Server::start().await;
    let (plain, mut gate) =
        (Proxy::start("copy", server.address).await, Proxy::start("gate", server.address).await);
    let floor = (
        latency(None, plain.address, REQUESTS, ROUNDS).await,
        throughput(None, plain.address, BYTES, ROUNDS).await,
    );
    let ours = (
        latency(Some(&peer), gate.address, REQUESTS, ROUNDS).await,
        throughput(Some(&peer), gate.address, BYTES, ROUNDS).await,
    );
    say("plain proxy, one request in flight", floor.0, None);
    say("gate, one request in flight", ours.0, Some(floor.0));
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    println!("value  plain proxy, throughput: {:.0} MiB/s", mib(floor.1));
    println!(
        "value  gate, throughput: {:.0} MiB/s (floor: plain proxy; ratio {:.2})",
        mib(ours.1),
        ours.1 / floor.1
    );
    for other in others::installed() {
        let running = other.start(server.address);
        let theirs = throughput(Some(&peer), running.address, BYTES, ROUNDS).await;
        let waits = latency(Some(&peer), running.address, REQUESTS, ROUNDS).await;
        let kept = if ours.1 >= theirs { "kept" } else { "MISSED" };
        say(&format!("{}, one request in flight", other.name), waits, Some(floor.0));
        println!(
            "ratio  gate / {}, throughput: {:.2} (theirs: {:.0} MiB/s; promised: at least 1; {kept})",
            other.name,
            ours.1 / theirs,
            mib(theirs)
        );
    }
    idle(&mut gate, &peer, count).await;
}

/// The folder of the plant's keys, in the process that made it.
static KEPT: OnceLock<PathBuf> = OnceLock::new();

fn plant() -> Plant {
    let kept = || std::env::var(KEYS).unwrap().into();
    Plant::kept(KEPT.get_or_init(kept))
}

fn say(what: &str, (p50, p99): (Duration, Duration), floor: Option<(Duration, Duration)>) {
    let Some(floor) = floor else { return println!("value  {what}: p50 {p50:.1?}, p99 {p99:.1?}") };
    let added = (p50.saturating_sub(floor.0), p99.saturating_sub(floor.1));
    let kept = if added.0 <= ADDED.0 && added.1 <= ADDED.1 { "kept" } else { "MISSED" };
    println!(
        "value  {what}: p50 {p50:.1?}, p99 {p99:.1?}; added to the plain proxy {:.1?} and {:.1?} (promised of the gate: at most {:?} and {:?}; {kept})",
        added.0, added.1, ADDED.0, ADDED.1
    );
}

/// Opens sessions that do nothing, and then takes the peer's trust away.
async fn idle(gate: &mut Proxy, peer: &Peer, count: usize) {
    let before = gate.resident();
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = peer.connect(gate.address).await;
        load::ask(&mut stream).await;
        sessions.push(stream);
    }
    let resident = gate.resident();
    let kept = if resident <= RESIDENT { "kept" } else { "MISSED" };
    println!(
        "value  gate, {count} idle sessions: {} KiB resident, {} before (promised of 5000: at most {} KiB; {kept})",
        resident >> 10,
        before >> 10,
        RESIDENT >> 10
    );
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
