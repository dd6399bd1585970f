//! A command that prints the key: `tpm2_unseal`, `systemd-creds`, or whatever else the host keeps secrets with.
//!
//! The broker links no TPM library; what a TPM sealed comes from the program of the system that speaks to it.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::secrets::SecretKey;

/// Time that the command has: a slow TPM derives its primary key first.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at it.
const POLL: Duration = Duration::from_millis(10);
/// Longest output that is read in bytes: the key, and a few words of an error. It fits a pipe.
const MAX_OUTPUT: u64 = 4096;
/// Longest text of its errors that is shown, in characters.
const MAX_WORDS: usize = 200;

/// The command does not print the key.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be run.
    #[error(
        "the command for the key-encryption key cannot be run: `{command}`: {why}; correct `command` in secrets/kek"
    )]
    Start {
        /// The command.
        command: String,
        /// The system's reason.
        why: String,
    },
    /// It did not end.
    #[error("the command for the key-encryption key did not end within {} s: `{command}`", DEADLINE.as_secs())]
    Late {
        /// The command.
        command: String,
    },
    /// It failed.
    #[error(
        "the command for the key-encryption key failed ({status}): `{command}`: {said}; mend what it says"
    )]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// It printed something else.
    #[error(
        "the command for the key-encryption key prints no 256-bit key: `{command}`; it is to print 64 hex digits"
    )]
    NoKey {
        /// The command.
        command: String,
    },
}

/// The key that `words`, a program with its arguments, prints. No shell reads them.
pub(super) fn run(words: &[String]) -> Result<SecretKey, CommandError> {
    let command = || words.join(" ");
    let start = |why: std::io::Error| CommandError::Start { command: command(), why: why.to_string() };
    let mut program = Command::new(words.first().map_or("", String::as_str));
    program.args(words.iter().skip(1));
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().map_err(start)?;
    let status =
        ended(&mut child).map_err(start)?.ok_or_else(|| CommandError::Late { command: command() })?;
    let (mut output, mut errors) = (Zeroizing::new(Vec::new()), Vec::new());
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        stdout.take(MAX_OUTPUT).read_to_end(&mut output).map_err(start)?;
        stderr.take(MAX_OUTPUT).read_to_end(&mut errors).map_err(start)?;
    }
    if !status.success() {
        return Err(CommandError::Failed { command: command(), status, said: last_line(&errors) });
    }
    let hex = std::str::from_utf8(&output).ok().and_then(SecretKey::from_hex);
    hex.or_else(|| SecretKey::from_bytes(&output)).ok_or_else(|| CommandError::NoKey { command: command() })
}

/// How it ended; None: not in time, and it was killed.
fn ended(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

fn last_line(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(errors);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    line.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}
