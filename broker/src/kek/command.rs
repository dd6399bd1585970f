//! A command that prints the key: `tpm2_unseal`, `systemd-creds`, or whatever else the host keeps secrets with.
//!
//! The broker links no TPM library; what a TPM sealed comes from the program of the system that speaks to it.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::secrets::SecretKey;

/// Time that the command has: a slow TPM derives its primary key first.
const DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks at it.
const POLL: Duration = Duration::from_millis(10);
/// Longest output that is kept in bytes: the key, and a few words of an error.
const MAX_OUTPUT: u64 = 4096;
/// The same: memory that grew would leave a copy of the key behind.
const CAPACITY: usize = 4096;
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
    /// It did not end, or what it began still holds its output open.
    #[error(
        "the command for the key-encryption key did not end, with all that it began, within {} s: `{command}`; run it \
         by hand to see what it waits for", DEADLINE.as_secs()
    )]
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
    within(DEADLINE, words)
}

fn within(time: Duration, words: &[String]) -> Result<SecretKey, CommandError> {
    let deadline = Instant::now() + time;
    let command = || words.join(" ");
    let start = |why: io::Error| CommandError::Start { command: command(), why: why.to_string() };
    let late = || CommandError::Late { command: command() };
    let mut program = Command::new(words.first().map_or("", String::as_str));
    program.args(words.iter().skip(1));
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().map_err(start)?;
    // Read while it runs: a full pipe would hold it up, and what it began may hold a pipe open for ever.
    let (output, errors) = (said(child.stdout.take()), said(child.stderr.take()));
    let status = ended(&mut child, deadline).map_err(start)?.ok_or_else(late)?;
    let output = heard(&output, deadline).map_err(start)?.ok_or_else(late)?;
    let errors = heard(&errors, deadline).map_err(start)?.ok_or_else(late)?;
    if !status.success() {
        return Err(CommandError::Failed { command: command(), status, said: last_line(&errors) });
    }
    let hex = std::str::from_utf8(&output).ok().and_then(SecretKey::from_hex);
    hex.or_else(|| SecretKey::from_bytes(&output)).ok_or_else(|| CommandError::NoKey { command: command() })
}

/// What it says, which may be the key: kept up to a bound, read to the end.
type Said = io::Result<Zeroizing<Vec<u8>>>;

/// Reads `pipe` in a thread of its own, which ends with whoever holds the other end.
fn said(pipe: Option<impl Read + Send + 'static>) -> Receiver<Said> {
    let (sender, receiver) = sync_channel(1);
    // Nobody listens any more after the deadline.
    thread::spawn(move || drop(sender.send(pipe.map_or_else(|| Ok(Zeroizing::default()), whole))));
    receiver
}

fn whole(mut pipe: impl Read) -> Said {
    let mut bytes = Zeroizing::new(Vec::with_capacity(CAPACITY));
    pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes)?;
    io::copy(&mut pipe, &mut io::sink())?;
    Ok(bytes)
}

/// What was said until the pipe was closed; None: it was not in time.
fn heard(said: &Receiver<Said>, deadline: Instant) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(bytes) => bytes.map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// How it ended; None: not in time, and it was killed.
fn ended(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, time: Duration) -> Result<SecretKey, CommandError> {
        within(time, &["sh", "-c", script].map(str::to_owned))
    }

    #[test]
    fn a_command_that_does_not_end_or_leaves_its_output_open_is_named() {
        for script in ["exec sleep 60", "exec >&-; exec 2>&-; exec sleep 60", "sleep 60 & echo $!"] {
            let begun = Instant::now();
            let late = shell(script, Duration::from_millis(300)).unwrap_err();
            assert!(matches!(&late, CommandError::Late { command } if command.contains(script)), "{late}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{script}");
        }
    }

    #[test]
    fn a_command_that_says_much_is_heard_to_the_end() {
        let words = "i=0; while [ $i -lt 9000 ]; do echo 'the TPM is slow' >&2; i=$((i+1)); done; ";
        let key = shell(&format!("{words} echo {}", "07".repeat(32)), DEADLINE).unwrap();
        assert_eq!(key.expose(), &[7; 32]);
        let flood = shell(&words.replace(">&2", ""), DEADLINE).unwrap_err();
        assert!(matches!(flood, CommandError::NoKey { .. }), "{flood}");
    }
}
