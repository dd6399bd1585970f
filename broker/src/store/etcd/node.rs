//! An etcd of one node for a test, on free ports of this machine.

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

/// How long a node may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// Pause between looks at its log.
const POLL: Duration = Duration::from_millis(20);

/// A node, ended when it is dropped.
pub(super) struct Node {
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
    pub(super) async fn start() -> Option<Self> {
        Self::start_as("http", &[]).await
    }

    /// A node that serves its clients by `scheme`, with more arguments.
    pub(super) async fn start_as(scheme: &str, more: &[String]) -> Option<Self> {
        let slot = SLOTS.acquire().await.unwrap();
        let end = Instant::now() + READY;
        // Another program may take a port that was free.
        loop {
            let mut node = match Self::spawn(scheme, more) {
                Ok(node) => node,
                Err(why) => {
                    eprintln!("skipped: etcd cannot be run ({why}); deploy/packages.sh names its package");
                    return None;
                }
            };
            while node.child.try_wait().unwrap().is_none() {
                if node.log().contains("ready to serve client requests") {
                    node.slot = Some(slot);
                    return Some(node);
                }
                assert!(Instant::now() < end, "etcd does not become ready: {}", node.log());
                tokio::time::sleep(POLL).await;
            }
            assert!(Instant::now() < end, "etcd ends: {}", node.log());
        }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap()).into_owned()
    }

    fn spawn(scheme: &str, more: &[String]) -> io::Result<Self> {
        let folder = TempDir::new()?;
        let (client, peer) = (free_port(), free_port());
        let (url, peer) = (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let child = Command::new("etcd")
            .args(["--name", "n", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("n={peer}")])
            .args(more)
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()?;
        Ok(Self { child, folder, url, slot: None })
    }

    pub(super) fn options(&self) -> EtcdOptions {
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

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
