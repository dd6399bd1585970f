//! The administrator's tool and what it answers.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::process::{Environment, prepared, run_with};

/// How one run of `touchstone -o json` ended.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// What it printed for programs; null if that is no JSON.
    pub json: Value,
    /// What it said to people.
    pub said: String,
}

impl Answer {
    /// Runs `touchstone` as the administrator of `context` against the broker at `address`.
    pub(crate) fn of(context: &Path, address: &str, environment: &Environment, args: &[&str]) -> Self {
        let mut tool = prepared("touchstone");
        tool.arg("--context")
            .arg(context)
            .args(["--address", address, "-o", "json"])
            .args(args)
            .envs(environment);
        Self::from(tool.output().expect("touchstone starts"))
    }

    /// The same, with something to read on standard input.
    pub(crate) fn of_input(context: &Path, address: &str, args: &[&str], input: &str) -> Self {
        let context = context.display().to_string();
        let options = ["--context", &context, "--address", address, "-o", "json"];
        Self::from(run_with(&Environment::new(), "touchstone", &[&options, args].concat(), input))
    }

    /// The JSON of a run that succeeded; `status` says 1 when something needs a person.
    pub fn done(self) -> Value {
        assert!(matches!(self.code, 0 | 1), "touchstone failed: {self:?}");
        self.json
    }

    /// The words of a run that was refused with this exit code.
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "touchstone was not refused as expected: {self:?}");
        self.said
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
