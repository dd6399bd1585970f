//! Three nodes of etcd on free ports of this machine.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use broker::store::etcd::EtcdOptions;
use rustix::process::{Pid, Signal, kill_process};

use crate::load::until;

/// Nodes: one of them may die.
const NODES: usize = 3;
/// Where data that need not outlive the run lie, if that is there: a disk that others use is slow.
const MEMORY: &str = "/dev/shm";
/// Says that a node is ready, in its log.
const READY: &str = "ready to serve client requests";

/// A node, ended when it is dropped.
pub struct Node {
    child: Child,
    name: String,
    args: Vec<String>,
    url: String,
    log: PathBuf,
}

/// The cluster.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// What the nodes keep; removed with the cluster.
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts it. None, with the reason said, where etcd is not installed.
    pub async fn start(dir: &Path) -> Option<Self> {
        let place = if Path::new(MEMORY).is_dir() { Path::new(MEMORY) } else { dir };
        let folder = tempfile::tempdir_in(place).expect("a folder of the run");
        let ports: Vec<(u16, u16)> = (0..NODES).map(|_| (free_port(), free_port())).collect();
        let peer = |n: usize| format!("http://127.0.0.1:{}", ports[n].1);
        let cluster = (0..NODES).map(|n| format!("n{n}={}", peer(n))).collect::<Vec<_>>().join(",");
        let node = |n: usize| Node::start(folder.path(), n, ports[n].0, &peer(n), &cluster);
        let nodes: std::io::Result<Vec<Node>> = (0..NODES).map(node).collect();
        let mut nodes = match nodes {
            Ok(nodes) => nodes,
            Err(why) => {
                eprintln!("skipped: etcd cannot be run ({why}); deploy/packages.sh names its package");
                return None;
            }
        };
        for node in &mut nodes {
            node.ready(1).await;
        }
        Some(Self { nodes, folder })
    }

    /// What one of the nodes keeps.
    pub fn folder_of_a_node(&self) -> PathBuf {
        self.folder.path().join(&self.nodes[0].name)
    }

    /// Where a plant is below `prefix`.
    pub fn options(&self, prefix: &str) -> EtcdOptions {
        let endpoints = self.nodes.iter().map(|node| node.url.clone()).collect();
        EtcdOptions { endpoints, prefix: prefix.to_owned(), tls: None }
    }
}

impl Node {
    fn start(folder: &Path, n: usize, port: u16, peer: &str, cluster: &str) -> std::io::Result<Self> {
        let (name, url) = (format!("n{n}"), format!("http://127.0.0.1:{port}"));
        let data = folder.join(&name);
        let args = [
            ["--name", &name],
            ["--data-dir", &data.display().to_string()],
            ["--listen-client-urls", &url],
            ["--advertise-client-urls", &url],
            ["--listen-peer-urls", peer],
            ["--initial-advertise-peer-urls", peer],
            ["--initial-cluster", cluster],
        ];
        let args: Vec<String> = args.concat().into_iter().map(str::to_owned).collect();
        let log = folder.join(format!("{name}.log"));
        let child = spawn(&args, &log)?;
        Ok(Self { child, name, args, url, log })
    }

    /// Waits until it was ready so many times.
    async fn ready(&mut self, times: usize) {
        let log = self.log.clone();
        let ready =
            || async { fs::read_to_string(&log).is_ok_and(|said| said.matches(READY).count() >= times) };
        until(&format!("{} is ready, see {}", self.name, self.log.display()), ready).await;
    }

    /// Stops it where it stands, or lets it go on.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts it again after it was killed.
    pub async fn restart(&mut self) {
        let before = fs::read_to_string(&self.log).expect("its log").matches(READY).count();
        self.child = spawn(&self.args, &self.log).expect("it started before");
        self.ready(before + 1).await;
    }
}

fn spawn(args: &[String], log: &Path) -> std::io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    Command::new("etcd").args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
