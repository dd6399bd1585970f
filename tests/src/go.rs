//! Programs in Go, which nothing of Touchstone needs: they are tried where they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use attestor::testing::missing_tool;
use tempfile::TempDir;

/// Seconds for fetching modules: where nothing answers, Go waits for each of them by itself.
const FETCH: &str = "120";

/// A program that was built of the module `tests/go`; it goes with this value.
#[derive(Debug)]
pub struct GoProgram(TempDir);

impl GoProgram {
    /// Builds a package. An error says why it cannot be had here.
    pub fn build(package: &str) -> Result<Self, String> {
        if let Some(tool) = missing_tool(&["go"]) {
            return Err(format!("{tool} is not installed"));
        }
        let fetched = run("timeout", &[FETCH, "go", "mod", "download"]);
        if !fetched.status.success() {
            return Err(String::from_utf8_lossy(&fetched.stderr).into_owned());
        }
        let folder = TempDir::new().expect("a run folder");
        let file = folder.path().join("program");
        let file = file.to_str().expect("run folders have plain names");
        let built = run("go", &["build", "-buildvcs=false", "-o", file, package]);
        assert!(built.status.success(), "{package}: {}", String::from_utf8_lossy(&built.stderr));
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("program")
    }
}

fn run(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("go"));
    command.env("GOTOOLCHAIN", "local").output().expect("the program starts")
}
