//! Programs of the workspace as processes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use attestor::testing::command;

use crate::wait::until;

/// The program `name` of this workspace, built beside the test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows where it is");
    let folder = test.ancestors().nth(2).expect("a test lies in target/debug/deps");
    let program = folder.join(name);
    assert!(program.is_file(), "{} is missing: run `cargo build --workspace` first", program.display());
    program
}

/// A command that runs a program of the workspace quietly, without what the test process has open.
pub(crate) fn prepared(name: &str) -> Command {
    let program = program(name);
    let mut prepared = command(program.to_str().expect("target folders have plain names"));
    prepared
        .stdin(Stdio::null())
        .env("TSS2_LOG", "all+NONE")
        .env("NO_COLOR", "1")
        .env("TOUCHSTONE_LOG", "off");
    prepared
}

/// Variables that a program has beside those of the test.
pub type Environment = BTreeMap<&'static str, String>;

/// An environment in which clocks show `time`, as `faketime` spells it: `+31d`, or `@1970-01-01 00:02:00`, from where
/// they go on. None, with the reason said, where it is not installed. The programs are the same ones, and nothing in
/// them knows of it; how long something takes is not touched.
pub fn clock(time: &str) -> Option<Environment> {
    let Some(mut environment) = fake_clock() else {
        eprintln!("skipped: libfaketime is not installed; deploy/packages.sh names its package");
        return None;
    };
    environment.extend([("FAKETIME", time.to_owned()), ("TZ", "UTC".to_owned())]);
    Some(environment)
}

/// The same, where programs that run go by what is in `file` from when it is written: `+0` is the real time.
pub fn clock_of(file: &Path) -> Option<Environment> {
    let mut environment = clock("+0")?;
    environment.remove("FAKETIME");
    let set = |name: &'static str, value: String| (name, value);
    environment.extend([
        set("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        set("FAKETIME_NO_CACHE", "1".to_owned()),
    ]);
    Some(environment)
}

/// The environment of programs that take the time from libfaketime, which is still to be told what time; None where it is
/// not installed.
pub(crate) fn fake_clock() -> Option<Environment> {
    let preload = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    if !Path::new(&preload).is_file() {
        return None;
    }
    let set = |name: &'static str, value: &str| (name, value.to_owned());
    Some(Environment::from([
        set("LD_PRELOAD", &preload),
        set("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        set("NO_FAKE_STAT", "1"),
    ]))
}

/// The same as [`run`], in another environment.
pub fn run_in(environment: &Environment, name: &str, args: &[&str]) -> Output {
    prepared(name).envs(environment).args(args).output().expect("the program starts")
}

/// Runs a program of the workspace to its end. It logs nothing, so that standard error holds its own words.
pub fn run(name: &str, args: &[&str]) -> Output {
    prepared(name).args(args).output().expect("the program starts")
}

/// The same, with something to read on standard input.
pub fn run_with(environment: &Environment, name: &str, args: &[&str], input: &str) -> Output {
    let mut program = prepared(name);
    program.envs(environment).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    // A program that ends before it reads its input is no fault of the test.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

/// A running daemon; it dies with this value.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a daemon that logs to `log`.
    pub fn start(name: &str, args: &[&str], log: &Path) -> Self {
        Self::start_in(&Environment::new(), name, args, log)
    }

    /// The same in another environment.
    pub fn start_in(environment: &Environment, name: &str, args: &[&str], log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let child = prepared(name)
            .args(args)
            .envs(environment)
            .env("TOUCHSTONE_LOG", "info,tss_esapi=off")
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the daemon starts");
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to stop (SIGTERM) and waits until it has, in order.
    pub fn terminate(mut self) {
        self.signal("TERM");
        let status = until("a daemon stops when told to", || {
            self.child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| self.last_words())
        });
        assert!(status.success(), "{} stopped with {status}: {}", self.name, self.last_words());
    }

    /// Stops it where it is: its connections stay, and nothing comes over them.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let told = Command::new("bash").args(["-c", "kill -\"$0\" \"$1\"", name, &id]).status();
        let said = told.expect("bash runs").success();
        assert!(said, "{} had ended before it was told {name}: {}", self.name, self.last_words());
    }

    /// Panics with its last words if it has ended by itself.
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "{} ended by itself ({ended:?}): {}", self.name, self.last_words());
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn end(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
