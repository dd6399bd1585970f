//! Programs of the operator's that the attestor runs: a health command, an updater.
//!
//! Promises: a program is run by its path and arguments, never through a shell; it gets no input, its output goes
//! nowhere, and it is ended when its time is over, with what it started itself and left in its process group. Does not
//! promise that it ends with the attestor: an updater may replace that.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::service_manager;

/// Most words of a command line.
pub const MAX_WORDS: usize = 32;
/// Longest word of a command line in bytes: a path (PATH_MAX).
pub const MAX_WORD: usize = 4096;

/// A program that was killed ends within this time, unless it hangs in the kernel.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// How a program failed to end by itself.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It cannot be run.
    #[error("{program} cannot be run: {source}; correct its path in attestor.toml, or its mode")]
    Start {
        /// Its path.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It did not end in time.
    #[error("it did not end within {} s", .0.as_secs())]
    Late(Duration),
    /// It was started, and the system does not say how it ended.
    #[error("the system does not say how it ended: {0}")]
    Lost(#[source] std::io::Error),
}

/// Starts `words`, the program and its arguments, with these variables besides the attestor's own.
pub(crate) fn start<'a>(
    words: &[String],
    variables: impl IntoIterator<Item = (&'static str, &'a str)>,
) -> Result<Child, ProgramError> {
    let program = words.first().map_or(OsStr::new(""), OsStr::new);
    let mut command = Command::new(program);
    command.args(words.iter().skip(1)).envs(variables);
    for variable in service_manager::VARIABLES {
        command.env_remove(variable);
    }
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|source| ProgramError::Start { program: program.display().to_string(), source })
}

/// Waits for the end of a program, and ends it after `limit`.
pub(crate) async fn end(mut child: Child, limit: Duration) -> Result<ExitStatus, ProgramError> {
    if let Ok(status) = timeout(limit, child.wait()).await {
        return status.map_err(ProgramError::Lost);
    }
    kill(child).await;
    Err(ProgramError::Late(limit))
}

/// Ends a program with what it started. One that hangs in the kernel is not waited for.
async fn kill(mut child: Child) {
    // Not waited for yet, so its number is still its own, and that of its group.
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(Err(error)) = group.map(|group| kill_process_group(group, Signal::KILL)) {
        tracing::warn!(%error, "what a program started may live on");
    }
    drop(child.start_kill());
    if timeout(KILLED_WITHIN, child.wait()).await.is_err() {
        tracing::error!(
            "a program does not end although it was killed: it hangs in the kernel; see the disk that it reads"
        );
    }
}
