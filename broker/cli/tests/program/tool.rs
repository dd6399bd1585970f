//! Runs the program as a person would.
#![expect(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What was printed, as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Runs `touchstone` with these arguments, without the caller's context.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    end(Command::new(env!("CARGO_BIN_EXE_touchstone")).args(arguments))
}

/// The same with `home` for the caller's configuration.
pub(crate) fn run_at(home: &Path, arguments: &[&str]) -> Ran {
    end(Command::new(env!("CARGO_BIN_EXE_touchstone")).args(arguments).env("XDG_CONFIG_HOME", home))
}

/// A run that has not ended yet.
pub(crate) struct Running(Child);

impl Running {
    /// Waits for the end.
    pub(crate) fn end(self) -> Ran {
        ran(self.0.wait_with_output().unwrap())
    }
}

/// Starts `touchstone` with these arguments, without the caller's context.
pub(crate) fn spawn(arguments: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_touchstone"));
    let command = alone(command.args(arguments)).stdin(Stdio::null());
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits until `holds`, and no longer than a slow machine takes.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn alone(command: &mut Command) -> &mut Command {
    command.env_remove("TOUCHSTONE_CONTEXT").env_remove("TOUCHSTONE_ADDRESS")
}

fn end(command: &mut Command) -> Ran {
    ran(alone(command).output().unwrap())
}

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The folder of third-party vectors; where it is absent the test says so and passes.
pub(crate) fn vectors() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let folder = std::env::var_os("TOUCHSTONE_VECTORS").map_or(beside, PathBuf::from);
    if !folder.is_dir() {
        eprintln!("skipped: no third-party vectors; name their folder with TOUCHSTONE_VECTORS");
        return None;
    }
    Some(folder)
}

/// The folder of a recorded boot.
pub(crate) fn recorded(boot: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/measured-boot").join(boot)
}
