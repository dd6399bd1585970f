//! A server in a process of its own: what it takes of the processors and of memory is its alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Clock ticks of `/proc/PID/stat` in a second: Linux tells user space 100, whatever it counts by itself.
const TICKS: u32 = 100;
/// A server listens, or ends, within this time, also with a large store on a slow disk.
const DEADLINE: Duration = Duration::from_secs(300);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(1);

/// The running server; it dies with this value.
pub struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts `command`, which writes where it listens into the file `address` of `dir`.
    pub fn start(mut command: Command, dir: &Path) -> Self {
        let file = dir.join("address");
        // One that was killed leaves its address behind.
        drop(fs::remove_file(&file));
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).expect("a log file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let begin = Instant::now();
        loop {
            if let Ok(address) = fs::read_to_string(&file) {
                return Self { child, address: address.trim().to_owned() };
            }
            let ended = child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "{command:?} ended by itself ({ended:?}); see {}/log", dir.display());
            assert!(begin.elapsed() < DEADLINE, "{command:?} does not listen; see {}/log", dir.display());
            thread::sleep(POLL);
        }
    }

    /// The broker of the plant in `dir`.
    pub fn broker(dir: &Path) -> Self {
        let mut command = Command::new(program("touchstone-broker"));
        command.args(["run", "--dir"]).arg(dir).env("TOUCHSTONE_LOG", "warn,broker::leader=info");
        Self::start(command, dir)
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Time that it took of the processors.
    pub fn processor_time(&self) -> Duration {
        let stat = self.read("stat");
        // The name in parentheses may hold anything; utime and stime are the 12th and 13th field after it.
        let (_, fields) = stat.rsplit_once(") ").expect("a line of proc(5)");
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u32>().expect("a number"));
        Duration::from_secs(1) * ticks.sum::<u32>() / TICKS
    }

    /// Most memory that it had since it started or it was last asked to forget, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of proc(5)");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Forgets its peak so far (proc(5), clear_refs).
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("our own child");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("the server runs")
    }

    /// Stops it where it stands, or lets it go on.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Asks it to stop and waits until it has, in order.
    pub fn stop(mut self) {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).expect("our own child");
        let status = self.child.wait().expect("our own child");
        assert!(status.success(), "the server stopped with {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program of the workspace, built beside this one.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    let program = own.with_file_name(name);
    assert!(program.is_file(), "{} is missing: build the whole workspace first", program.display());
    program
}
