//! What tells software of its new files: a program, a job of systemd for its unit, or a signal to its process.
//!
//! Does not promise more leave than the attestor's user has: polkit decides about units, the kernel about signals.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::durable;
use crate::program::{self, ProgramError};

/// Speaks to systemd; it is looked for where programs are.
const SYSTEMCTL: &str = "systemctl";
/// Longest file with the number of a process in bytes; PID_MAX_LIMIT has seven digits, and some write a line of more after it.
const MAX_PID_FILE: u64 = 256;

/// How software is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A program is run with its arguments.
    Command(Vec<String>),
    /// Its unit is reloaded or restarted.
    Unit {
        /// The unit.
        unit: String,
        /// How.
        job: Job,
    },
    /// It is sent a signal.
    Signal {
        /// Which one.
        signal: SignalName,
        /// Whose process.
        to: Process,
    },
}

/// What systemd does with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// What its `ExecReload=` says.
    Reload,
    /// It is stopped and started.
    Restart,
}

/// A process that is sent a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Process {
    /// The main one of a unit.
    Main(String),
    /// The one whose number this file has.
    PidFile(PathBuf),
}

/// A signal that asks software for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalName(&'static str, Signal);

impl SignalName {
    /// Those by which software reads its files again, or ends so that whoever keeps it running starts it again.
    const ALL: [Self; 6] = [
        Self("HUP", Signal::HUP),
        Self("USR1", Signal::USR1),
        Self("USR2", Signal::USR2),
        Self("INT", Signal::INT),
        Self("QUIT", Signal::QUIT),
        Self("TERM", Signal::TERM),
    ];

    /// The signal of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.0 == name)
    }
}

/// How software could not be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ActionError {
    /// A program could not be run, or not to its end.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A program said so itself.
    #[error("it ended with {0}; see its own log")]
    Failed(ExitStatus),
    /// systemd did not do it.
    #[error(
        "systemctl ended with {status}; see `systemctl status {unit}`, and whether polkit lets the attestor's user do \
         this to it (touchstone-hooks.rules)"
    )]
    Unit {
        /// The unit.
        unit: String,
        /// How systemctl ended.
        status: ExitStatus,
    },
    /// The file has no number of a process.
    #[error("{} has no number of a process: {source}; see whether the software runs and writes it", file.display())]
    PidFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no such process.
    #[error("process {pid} of {} does not run; see the log of the software", file.display())]
    Gone {
        /// The file.
        file: PathBuf,
        /// What it has.
        pid: i32,
    },
    /// The process is another user's.
    #[error(
        "process {pid} of {} is another user's; name the software's unit beside the signal instead of its pid_file",
        file.display()
    )]
    Forbidden {
        /// The file.
        file: PathBuf,
        /// What it has.
        pid: i32,
    },
    /// The process is this one.
    #[error(
        "{} has the number of the attestor, which takes no signal from its own hook; correct pid_file in attestor.toml",
        file.display()
    )]
    Own {
        /// The file.
        file: PathBuf,
    },
    /// The system sends no signals so.
    #[error(
        "process {pid} of {} was not sent the signal: {source}; name the software's unit beside the signal instead of its pid_file",
        file.display()
    )]
    Unsent {
        /// The file.
        file: PathBuf,
        /// What it has.
        pid: i32,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Action {
    /// The program and its arguments, if it is one of the operator's.
    pub(crate) fn command(&self) -> Option<&Vec<String>> {
        match self {
            Self::Command(words) => Some(words),
            Self::Unit { .. } | Self::Signal { .. } => None,
        }
    }

    /// Tells software whose files are below `files`, and waits until that is done, `limit` at most.
    pub(super) async fn run(&self, files: &str, limit: Duration) -> Result<(), ActionError> {
        match self {
            Self::Command(words) => match run(words, files, limit).await? {
                status if status.success() => Ok(()),
                status => Err(ActionError::Failed(status)),
            },
            Self::Unit { unit, job: Job::Reload } => systemctl(&["reload"], unit, files, limit).await,
            Self::Unit { unit, job: Job::Restart } => systemctl(&["restart"], unit, files, limit).await,
            Self::Signal { signal, to: Process::Main(unit) } => {
                let signal = format!("--signal={}", signal.0);
                systemctl(&["kill", "--kill-whom=main", &signal], unit, files, limit).await
            }
            Self::Signal { signal, to: Process::PidFile(file) } => send(*signal, file, limit).await,
        }
    }
}

async fn run(words: &[String], files: &str, limit: Duration) -> Result<ExitStatus, ProgramError> {
    program::end(program::start(words, [("TOUCHSTONE_FILES", files)])?, limit).await
}

async fn systemctl(verb: &[&str], unit: &str, files: &str, limit: Duration) -> Result<(), ActionError> {
    let words = [&[SYSTEMCTL, "--no-ask-password"], verb, &["--", unit]].concat();
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    match run(&words, files, limit).await? {
        status if status.success() => Ok(()),
        status => Err(ActionError::Unit { unit: unit.to_owned(), status }),
    }
}

/// Sends a signal to the process whose number `file` has.
async fn send(signal: SignalName, file: &Path, limit: Duration) -> Result<(), ActionError> {
    let file = file.to_owned();
    let named = file.clone();
    // The disk may hang, as one over a network does.
    let read = timeout(limit, spawn_blocking(move || read_pid(&named)));
    let read = read.await.map_err(|_| ProgramError::Late(limit))?;
    let pid = match read.unwrap_or_else(|ended| Err(ended.into())) {
        Ok(pid) => pid,
        Err(source) => return Err(ActionError::PidFile { file, source }),
    };
    if pid == getpid() {
        return Err(ActionError::Own { file });
    }
    let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|process| pidfd_send_signal(process, signal.1));
    let pid = pid.as_raw_nonzero().get();
    match sent {
        Ok(()) => Ok(()),
        Err(Errno::SRCH) => Err(ActionError::Gone { file, pid }),
        Err(Errno::PERM) => Err(ActionError::Forbidden { file, pid }),
        Err(error) => Err(ActionError::Unsent { file, pid, source: error.into() }),
    }
}

fn read_pid(file: &Path) -> io::Result<Pid> {
    let bytes = durable::read_regular(file, MAX_PID_FILE)?;
    let text = String::from_utf8_lossy(&bytes);
    let number = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    // The first process is the machine's own.
    let number = number.filter(|number: &i32| *number > 1).and_then(Pid::from_raw);
    number.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "its first word is no number above 1"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    use rustix::process::geteuid;
    use tempfile::TempDir;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn signal(name: &str, file: PathBuf) -> Action {
        Action::Signal { signal: SignalName::of(name).unwrap(), to: Process::PidFile(file) }
    }

    /// A program that writes which signal it was sent into `told`, and ends.
    fn program(folder: &Path) -> Child {
        let script = "cd \"$0\"; for s in USR1 USR2; do trap \"echo $s >told; exit\" $s; done; \
                      echo $$ >new; mv new pid; while :; do sleep 0.01; done";
        let program = Command::new("/bin/sh").args(["-c", script]).arg(folder).spawn().unwrap();
        while !folder.join("pid").exists() {
            std::thread::yield_now();
        }
        program
    }

    #[tokio::test]
    async fn the_process_of_a_pid_file_gets_the_signal() {
        // Not HUP, which a shell below nohup cannot take.
        for name in ["USR1", "USR2"] {
            let folder = TempDir::new().unwrap();
            let mut program = program(folder.path());
            signal(name, folder.path().join("pid")).run("", LIMIT).await.unwrap();
            assert!(program.wait().unwrap().success());
            assert_eq!(std::fs::read_to_string(folder.path().join("told")).unwrap().trim(), name);
            let gone = signal(name, folder.path().join("pid")).run("", LIMIT).await.unwrap_err();
            assert!(matches!(gone, ActionError::Gone { .. }), "{gone}");
        }
    }

    #[tokio::test]
    async fn a_file_without_a_number_is_named_and_nothing_gets_the_signal() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("pid");
        let missing = signal("TERM", file.clone()).run("", LIMIT).await.unwrap_err().to_string();
        assert!(missing.contains("has no number of a process: No such file"), "{missing}");
        for text in ["", "press", "0", "1", "-1", "-7", "99999999999"] {
            std::fs::write(&file, text).unwrap();
            let refused = signal("TERM", file.clone()).run("", LIMIT).await.unwrap_err().to_string();
            assert!(refused.contains("its first word is no number above 1"), "{text}: {refused}");
        }
        std::fs::write(&file, getpid().to_string()).unwrap();
        let own = signal("TERM", file).run("", LIMIT).await.unwrap_err();
        assert!(matches!(own, ActionError::Own { .. }), "{own}");
    }

    #[tokio::test]
    async fn a_fifo_keeps_nobody_waiting() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("pid");
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        let refused = signal("TERM", file).run("", LIMIT).await.unwrap_err().to_string();
        assert!(refused.contains("has no number of a process: it is no regular file"), "{refused}");
    }

    /// Where this is set, a test runs as nobody, below the same test as root.
    const AS_NOBODY: &str = "TOUCHSTONE_TEST_AS_NOBODY";

    #[tokio::test]
    async fn the_process_of_another_user_gets_no_signal_and_is_told_as_that() {
        if std::env::var_os(AS_NOBODY).is_some() {
            let folder = TempDir::new().unwrap();
            let (file, root) = (folder.path().join("pid"), std::os::unix::process::parent_id());
            std::fs::write(&file, root.to_string()).unwrap();
            let refused = signal("USR1", file).run("", LIMIT).await.unwrap_err();
            return assert!(matches!(refused, ActionError::Forbidden { .. }), "{refused}");
        }
        if !geteuid().is_root() {
            return eprintln!("skipped: only root can be another user");
        }
        let test = "hooks::action::tests::the_process_of_another_user_gets_no_signal_and_is_told_as_that";
        // Not by its path, which may lead through a folder of root's.
        let mut nobody = Command::new("/proc/self/exe");
        nobody.args(["--exact", test]).env(AS_NOBODY, "1").current_dir("/").uid(65_534);
        let output = nobody.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
