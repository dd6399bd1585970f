//! An etcd of one node or three for a test, on free ports of this machine.

use super::{EtcdOptions, EtcdTls};
use std::time::{Duration, Instant};
use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Nodes that run at once: each wants the disk.
static SLOTS: Semaphore = Semaphore::const_new(4);

/// Where its data lie if that is there: what survives a power cut is etcd's own affair, and a disk that others use is
/// slow.
const MEMORY: &str = "/dev/shm";

/// How long a node may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// Pause between looks at its log.
const POLL: Duration = Duration::from_millis(20);

/// A node, ended when it is dropped.
pub(crate) struct Node {
    child: Child,
    folder: TempDir,
    pub(super) url: String,
    slot: Option<SemaphorePermit<'static>>,
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Node {
    /// A node without TLS. `None` where etcd is not installed: the test says so and is over.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_as("http", &[]).await
    }

    /// A node that serves its clients by `scheme`, with more arguments.
    pub(super) async fn start_as(scheme: &str, more: &[String]) -> Option<Self> {
        start(1, scheme, more).await?.pop()
    }

    /// Three nodes of one cluster.
    pub(super) async fn start_three() -> Option<Vec<Self>> {
        start(3, "http", &[]).await
    }

    /// Whether this node was the last to say that it leads, of those whose log it has.
    pub(super) fn leads_since(&self) -> Option<u64> {
        let log = self.log();
        let (_, term) = log.rsplit_once("became leader at term ")?;
        term.split(|sign: char| !sign.is_ascii_digit()).next()?.parse().ok()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap()).into_owned()
    }

    fn spawn(name: usize, ports: &[(u16, u16)], scheme: &str, more: &[String]) -> io::Result<Self> {
        let folder = if Path::new(MEMORY).is_dir() { TempDir::new_in(MEMORY)? } else { TempDir::new()? };
        let peer = |at: usize| format!("http://127.0.0.1:{}", ports[at].1);
        let url = format!("{scheme}://127.0.0.1:{}", ports[name].0);
        let cluster: Vec<String> = (0..ports.len()).map(|at| format!("n{at}={}", peer(at))).collect();
        let child = Command::new("etcd")
            .args(["--name", &format!("n{name}"), "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer(name), "--initial-advertise-peer-urls", &peer(name)])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(more)
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()?;
        Ok(Self { child, folder, url, slot: None })
    }

    pub(crate) fn options(&self) -> EtcdOptions {
        EtcdOptions { endpoints: vec![self.url.clone()], prefix: "touchstone".to_owned(), tls: None }
    }

    /// The options with the files `ca`, `client` and `client.key` of `folder`.
    pub(super) fn options_with(&self, folder: &Path) -> EtcdOptions {
        let file = |name| folder.join(name);
        let tls = EtcdTls { ca: file("ca"), certificate: file("client"), key: file("client.key") };
        EtcdOptions { tls: Some(tls), ..self.options() }
    }

    /// Stops it where it stands, or lets it go on.
    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

/// `count` nodes of one cluster, ready. `None` where etcd is not installed.
async fn start(count: u32, scheme: &str, more: &[String]) -> Option<Vec<Node>> {
    let slot = SLOTS.acquire_many(count).await.unwrap();
    let end = Instant::now() + READY;
    // Another program may take a port that was free: then all begin anew.
    loop {
        let ports: Vec<_> = (0..count).map(|_| (free_port(), free_port())).collect();
        let spawned = (0..ports.len()).map(|name| Node::spawn(name, &ports, scheme, more));
        let mut nodes: Vec<Node> = match spawned.collect() {
            Ok(nodes) => nodes,
            Err(why) => {
                eprintln!("skipped: etcd cannot be run ({why}); deploy/packages.sh names its package");
                return None;
            }
        };
        while nodes.iter_mut().all(|node| node.child.try_wait().unwrap().is_none()) {
            if nodes.iter().all(|node| node.log().contains("ready to serve client requests")) {
                nodes.first_mut()?.slot = Some(slot);
                return Some(nodes);
            }
            assert!(Instant::now() < end, "etcd does not become ready: {}", nodes[0].log());
            tokio::time::sleep(POLL).await;
        }
        assert!(Instant::now() < end, "etcd ends: {}", nodes[0].log());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
