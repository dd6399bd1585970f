//! The process that is crashed: this test binary again, told by its environment what to do.

use crate::{
    verdict::{number_at, open},
    workload::{self, Acks, TASKS},
};
use broker::store::{Revision, Store, blobs::Blobs, sled::SledStore};
use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{self, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

/// Carries the folder of the store to the child, under the name of its job.
const TRANSACT: &str = "CRASH_CHILD_TRANSACT";
const RESTORE: &str = "CRASH_CHILD_RESTORE";

/// Longest silence of a child before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a child does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job {
    /// Tasks side by side, one transaction after another each.
    Transact,
    /// One restore after another.
    Restore,
}

/// A running child.
pub(crate) struct Child {
    process: process::Child,
    lines: mpsc::Receiver<String>,
}

impl Child {
    /// Starts a child on the store below `root`, and waits until it is about to open it.
    pub(crate) fn start(job: Job, root: &Path) -> Self {
        let variable = match job {
            Job::Transact => TRANSACT,
            Job::Restore => RESTORE,
        };
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "tests::child", "--nocapture", "--test-threads=1"])
            .env(variable, root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let child = Self { process, lines };
        while child.lines.recv_timeout(PATIENCE).unwrap() != "opening" {}
        child
    }

    /// Waits for `count` acknowledgements.
    pub(crate) fn wait_for(&mut self, count: u64, acks: &mut Acks) {
        let mut seen = 0;
        while seen < count {
            let line = self.lines.recv_timeout(PATIENCE).expect("the child went on acknowledging");
            seen += u64::from(acks.hear(&line));
        }
    }

    /// Waits until the child stops by itself, because its store does not go on, and takes note of all it had acknowledged.
    pub(crate) fn gives_up(self, acks: &mut Acks) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    acks.hear(&line);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the child neither works nor stops"),
            }
        }
    }

    /// Kills the child with SIGKILL and takes note of all it had acknowledged.
    pub(crate) fn kill(mut self, acks: &mut Acks) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.lines.iter().for_each(|line| {
            acks.hear(&line);
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Only after a failed test is it still running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's side; returns at once where no job is given.
pub(crate) fn run() {
    let (job, root) = match (env::var_os(TRANSACT), env::var_os(RESTORE)) {
        (Some(root), None) => (Job::Transact, root),
        (None, Some(root)) => (Job::Restore, root),
        _ => return,
    };
    // The line that names the test ends here.
    say("\nopening");
    let store = Arc::new(open(Path::new(&root)));
    let blobs = Blobs::open(Path::new(&root)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        match job {
            Job::Transact => {
                let tasks =
                    (0..TASKS).map(|task| tokio::spawn(transact(task, Arc::clone(&store), blobs.clone())));
                futures::future::join_all(tasks).await;
            }
            Job::Restore => restore(&store).await,
        }
    });
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").unwrap();
}

async fn transact(task: u64, store: Arc<SledStore>, blobs: Blobs) {
    let key = workload::count_key(task);
    let mut number = number_at(&store, &key).await.unwrap();
    let mut version = store.get(&key).await.unwrap().map(|record| record.version);
    loop {
        number += 1;
        if let Some(blob) = workload::blob(task, number) {
            blobs.put(blob).await.unwrap();
        }
        let txn = workload::txn(task, number, version);
        say(&format!("begin {task} {number}"));
        version = Some(store.transact(txn).await.unwrap());
        say(&format!("ack {task} {number}"));
    }
}

async fn restore(store: &SledStore) {
    let mut generation = number_at(store, "generation").await.unwrap();
    loop {
        generation += 1;
        let content = Box::new(workload::restored(generation).into_iter().map(Ok));
        say(&format!("begin 0 {generation}"));
        store.replace_all(content, Revision(0)).await.unwrap();
        say(&format!("ack 0 {generation}"));
    }
}
