//! The device's own health command: what it says is stated with every attestation.
//!
//! The broker compares it with what the same device said before; what is well or not is the operator's to define.

use std::time::Duration;

use proto::v1;

use crate::program::{self, ProgramError};

/// Time that a command has unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most time that a command may be given: "attest now" is answered within a minute, TPM included.
pub const MOST_TIMEOUT: Duration = Duration::from_secs(30);
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
                Some(exit_code) => return v1::Health { exit_code, fault: String::new() },
                None => format!("it was ended: {status}"),
            },
            Err(error) => error.to_string(),
        };
        tracing::warn!(fault, "the health command failed");
        let fault = fault.chars().filter(|c| !c.is_control()).take(MAX_FAULT).collect();
        v1::Health { exit_code: 0, fault }
    }

    async fn ended(&self) -> Result<std::process::ExitStatus, ProgramError> {
        program::end(program::start(&self.command, [])?, self.timeout).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
