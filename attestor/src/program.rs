//! Programs of the operator's that the attestor runs: a health command, an updater.
//!
//! Promises: a program is run by its path and arguments, never through a shell; it gets no input, its output goes
//! nowhere, and it is ended when its time is over, with what it started itself and left in its process group. It inherits
//! no file or connection of the attestor: one that outlives it would keep a TPM that serves one process from the next
//! attestor. Does not promise that it ends with the attestor: an updater may replace that. Nor that for a TPM which is opened
//! in the very moment in which a program starts: libtss2 opens it first, and it can be closed to programs only then.

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

/// The first descriptor after standard input, output and error.
const FIRST_OWN: i32 = 3;
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
    // Ours are closed to programs anyway; libtss2 leaves the TPM open to them.
    close_fds::set_fds_cloexec_threadsafe(FIRST_OWN, &[]);
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

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::io::{FdFlags, fcntl_getfd};
    use tempfile::TempDir;

    use super::*;

    /// For a shell that looks at a thousand paths, many times over.
    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_program_inherits_nothing_besides_input_output_and_error() {
        let folder = TempDir::new().unwrap();
        let seen = folder.path().join("seen");
        // As libtss2 opens a TPM.
        let device = open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap();
        assert!(!fcntl_getfd(&device).unwrap().contains(FdFlags::CLOEXEC));
        // Nothing is opened while it looks, or it would see that.
        let look = "fd=0 open=; while [ $fd -lt 1024 ]; do [ -e /proc/$$/fd/$fd ] && open=\"$open $fd\"; fd=$((fd + 1)); done; \
                    echo \"$open\" >\"$0\"";
        let words = ["/bin/sh", "-c", look, seen.to_str().unwrap()].map(str::to_owned);
        let ended = end(start(&words, []).unwrap(), LIMIT).await.unwrap();
        assert!(ended.success(), "{ended}");
        assert_eq!(std::fs::read_to_string(seen).unwrap(), " 0 1 2\n");
        drop(device);
    }
}
