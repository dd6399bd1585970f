//! The device's own health command: what it says is stated with every attestation.
//!
//! The broker compares it with what the same device said before; what is well or not is the operator's to define.
//!
//! Promises: one run at a time; "attest now" waits for a command no longer than a moment. What is stated meanwhile is marked
//! as no new result, and once the command has ended the device proves itself again with what it said.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use tokio::sync::{Notify, watch as latest};
use tokio::time::sleep;

use crate::program::{self, ProgramError};

/// Time that a command has unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most time that a command may be given: "attest now" is answered within a minute, TPM included.
pub const MOST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long "attest now" waits for a command: most end sooner, and the answer is due within a second.
const SOON: Duration = Duration::from_millis(300);
/// Longest reason for a missing exit code that is stated, in characters.
const MAX_FAULT: usize = 120;

/// A health command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The program and its arguments; the exit code 0 means that all is well.
    pub command: Vec<String>,
    /// When it is ended; then it failed.
    pub timeout: Duration,
}

impl HealthCheck {
    /// Runs the command. Whatever goes wrong counts as failing: the command cannot say that all is well.
    pub async fn run(&self) -> v1::Health {
        let fault = match self.ended().await {
            Ok(status) => match status.code().and_then(|code| u32::try_from(code).ok()) {
                Some(exit_code) => return v1::Health { exit_code, ..v1::Health::default() },
                None => format!("it was ended: {status}"),
            },
            Err(error) => error.to_string(),
        };
        tracing::warn!(fault, "the health command failed");
        let fault = fault.chars().filter(|c| !c.is_control()).take(MAX_FAULT).collect();
        v1::Health { fault, ..v1::Health::default() }
    }

    async fn ended(&self) -> Result<std::process::ExitStatus, ProgramError> {
        program::end(program::start(&self.command, [])?, self.timeout).await
    }
}

/// The health command with its run under way, and what it said last.
#[derive(Debug)]
pub struct Checkup {
    check: HealthCheck,
    run: latest::Sender<Run>,
    hurry: latest::Sender<bool>,
    late: Notify,
}

#[derive(Debug, Default)]
struct Run {
    runs: bool,
    /// It was stated that a run was unfinished: its result is to be stated as soon as it is there.
    awaited: bool,
    /// The result that was awaited, until it is stated.
    fresh: bool,
    last: Option<v1::Health>,
}

impl Checkup {
    /// The command, which never ran yet.
    #[must_use]
    pub fn new(check: HealthCheck) -> Self {
        let (run, hurry) = (latest::Sender::default(), latest::Sender::default());
        Self { check, run, hurry, late: Notify::new() }
    }

    /// Whether the next statement is due at once, also one that waits already.
    pub fn hurry(&self, hurry: bool) {
        self.hurry.send_replace(hurry);
    }

    /// Returns once a command has ended that was stated to be unfinished.
    pub async fn late(&self) {
        self.late.notified().await;
    }

    /// What is stated of the command: what it says when it is run now, unless there is hurry and it takes long.
    pub async fn stated(self: &Arc<Self>) -> v1::Health {
        let mut run = self.run.subscribe();
        if let Some(fresh) = self.take_fresh() {
            return fresh;
        }
        self.begin();
        let hurry = async {
            // The sender lives as long as this.
            drop(self.hurry.subscribe().wait_for(|hurry| *hurry).await);
            sleep(SOON).await;
        };
        tokio::select! {
            biased;
            _ = run.wait_for(|run| !run.runs) => {}
            () = hurry => {}
        }
        let mut stated = v1::Health::default();
        self.run.send_if_modified(|run| {
            (run.awaited, run.fresh) = (run.runs, false);
            stated = v1::Health { unfinished: run.runs, ..run.last.clone().unwrap_or_default() };
            false
        });
        stated
    }

    fn take_fresh(&self) -> Option<v1::Health> {
        let mut fresh = None;
        self.run.send_if_modified(|run| {
            fresh = run.last.clone().filter(|_| std::mem::take(&mut run.fresh));
            false
        });
        fresh
    }

    /// Runs it on a task of its own, unless it runs: whoever waits may go, and the result is kept.
    fn begin(self: &Arc<Self>) {
        if !self.run.send_if_modified(|run| !std::mem::replace(&mut run.runs, true)) {
            return;
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let result = this.check.run().await;
            this.run.send_modify(|run| {
                run.fresh = std::mem::take(&mut run.awaited);
                (run.runs, run.last) = (false, Some(result));
            });
            if this.run.borrow().fresh {
                this.late.notify_one();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a command that touches a file or two.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// It ends with the number in a file, once that is there.
    fn checkup(folder: &std::path::Path) -> Arc<Checkup> {
        let words = ["sh", "-c", "until test -e \"$0\"; do sleep 0.05; done; exit $(cat \"$0\")"];
        let mut command = words.map(str::to_owned).to_vec();
        command.push(folder.join("result").display().to_string());
        Arc::new(Checkup::new(HealthCheck { command, timeout: PATIENCE }))
    }

    fn unfinished(exit_code: u32) -> v1::Health {
        v1::Health { exit_code, unfinished: true, ..v1::Health::default() }
    }

    fn finished(exit_code: u32) -> v1::Health {
        v1::Health { exit_code, ..v1::Health::default() }
    }

    #[tokio::test]
    async fn who_is_in_a_hurry_states_what_was_said_last_and_what_is_said_then() {
        let dir = tempfile::tempdir().unwrap();
        let (checkup, result) = (checkup(dir.path()), dir.path().join("result"));
        std::fs::write(&result, "4").unwrap();
        assert_eq!(checkup.stated().await, finished(4), "it is waited for");
        std::fs::remove_file(&result).unwrap();
        // Of an exchange on schedule, into which "attest now" comes.
        let (waits, hurries) = (checkup.stated(), async { checkup.hurry(true) });
        assert_eq!(tokio::join!(waits, hurries).0, unfinished(4));
        assert_eq!(checkup.stated().await, unfinished(4), "and the same run goes on");
        std::fs::write(&result, "5").unwrap();
        tokio::time::timeout(PATIENCE, checkup.late()).await.expect("the end is told");
        std::fs::remove_file(&result).unwrap();
        assert_eq!(checkup.stated().await, finished(5), "without another run");
        assert_eq!(checkup.stated().await, unfinished(5), "which begins with the next");
        std::fs::write(&result, "0").unwrap();
        checkup.hurry(false);
        assert_eq!(checkup.stated().await, finished(0));
    }

    #[tokio::test]
    async fn a_first_run_that_takes_long_says_nothing_yet() {
        let dir = tempfile::tempdir().unwrap();
        let checkup = checkup(dir.path());
        checkup.hurry(true);
        assert_eq!(checkup.stated().await, unfinished(0));
        // The command must not outlive the test.
        std::fs::write(dir.path().join("result"), "0").unwrap();
        tokio::time::timeout(PATIENCE, checkup.late()).await.expect("the end is told");
    }

    async fn run(words: &[&str], timeout: Duration) -> (u32, String) {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        let health = HealthCheck { command, timeout }.run().await;
        (health.exit_code, health.fault)
    }

    #[tokio::test]
    async fn the_exit_code_is_the_result() {
        assert_eq!(run(&["true"], DEFAULT_TIMEOUT).await, (0, String::new()));
        assert_eq!(run(&["sh", "-c", "exit 7"], DEFAULT_TIMEOUT).await, (7, String::new()));
    }

    #[tokio::test]
    async fn no_exit_code_is_a_fault() {
        let (_, fault) = run(&["sh", "-c", "kill -9 $$"], DEFAULT_TIMEOUT).await;
        assert!(fault.starts_with("it was ended: signal: 9"), "{fault}");
        let (_, fault) = run(&["sleep", "60"], Duration::from_millis(20)).await;
        assert!(fault.starts_with("it did not end within"), "{fault}");
        let (_, fault) = run(&["/no/such/program"], DEFAULT_TIMEOUT).await;
        assert!(fault.starts_with("/no/such/program cannot be run"), "{fault}");
        let (_, fault) = run(&["true; false"], DEFAULT_TIMEOUT).await;
        assert!(fault.contains("cannot be run"), "no shell reads it: {fault}");
    }
}
