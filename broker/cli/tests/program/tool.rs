//! Runs the program as a person would.
#![expect(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

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

fn end(command: &mut Command) -> Ran {
    let output = command.env_remove("TOUCHSTONE_CONTEXT").env_remove("TOUCHSTONE_ADDRESS").output().unwrap();
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
