//! The broker's host is lost: another one takes its place from a backup, by the words of the README.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use broker::config::Backend;

use crate::load::timed;
use crate::plant::{DOMAIN, admit_connections};
use crate::report::Figure;
use crate::server::{Server, program};

/// Time for the broker to show who it is after a restore.
const SHOWN: Duration = Duration::from_secs(60);

/// Bytes of a backup of the plant in `dir`, made by its owner.
pub async fn backup(dir: &Path, broker: &Server) -> PathBuf {
    let file = dir.with_file_name("backup");
    let mut tool = tool(dir, broker);
    tool.arg("backup").arg("--out").arg(&file);
    let (_, took) = timed(async { done(tool) }).await;
    Figure::new("backup", took.as_secs_f64(), "s").print();
    file
}

/// Another host beside the lost one of `dir`, which restores `backup` into an empty plant on `backend`. Gives its folder
/// and its broker.
pub async fn restore(dir: &Path, backup: &Path, devices: usize, backend: &Backend) -> (PathBuf, Server) {
    let new = dir.with_file_name("restored");
    let mut init = Command::new(program("touchstone-broker"));
    init.args(["init", "--plant", DOMAIN, "--listen", "127.0.0.1:0", "--dir"]).arg(&new);
    init.arg("--kek").arg(dir.join("secrets/kek"));
    if let Backend::Etcd(options) = backend {
        for node in &options.endpoints {
            init.args(["--etcd", node]);
        }
        init.args(["--etcd-prefix", &options.prefix]);
    }
    done(init);
    admit_connections(&new, devices);
    let broker = Server::broker(&new);
    let mut tool = tool(&new, &broker);
    tool.arg("restore").arg(backup).arg("--yes");
    let (_, took) = timed(async { done(tool) }).await;
    Figure::new("restore", took.as_secs_f64(), "s").print();
    shows_the_old_plant(dir, &broker);
    (new, broker)
}

/// Waits until `broker` shows a certificate of the plant in `dir`: a moment after the restore is answered.
fn shows_the_old_plant(dir: &Path, broker: &Server) {
    let begun = Instant::now();
    let asked = || tool(dir, broker).args(["zone", "list"]).output().expect("the tool starts");
    while !asked().status.success() {
        assert!(
            begun.elapsed() < SHOWN,
            "the broker does not show a certificate of the plant that was restored"
        );
    }
}

/// The tool in the hands of the owner of the plant in `dir`.
pub fn tool(dir: &Path, broker: &Server) -> Command {
    let mut tool = Command::new(program("touchstone"));
    tool.arg("--context").arg(dir.join("owner")).args(["--address", broker.address()]);
    tool
}

/// Runs `command` to its end, which is a good one, and gives what it printed.
pub fn done(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
