//! A server of some software on a device, kept running as a service manager would.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use attestor::testing::command;
use tempfile::TempDir;

use super::{Place, ResourceManager, Software, text_of, words};
use crate::device::Device;
use crate::process::{Environment, fake_clock};

/// Starts the server again whenever it ended, and ends it when it is told to.
const SUPERVISOR: &str = r#"
cd "$1" && shift
trap 'kill "$pid"; wait "$pid"; exit 0' TERM
while :; do
    "$@" >>log 2>&1 & pid=$!
    echo "$pid" >pid.new && mv pid.new pid
    wait "$pid" || echo "supervisor: ended with $?" >>log
    rm -f pid
    read -rt 0.1 <> <(:) || true
done"#;

/// Ends the server and waits until the supervisor has started it again and it listens.
const RESTART: &str = r#"pid=$(cat "$0") || exit 0
kill "$pid" && timeout 30 tail -s 0.02 -f /dev/null --pid="$pid"
timeout 30 bash -c 'until (: >"/dev/tcp/127.0.0.1/$0") 2>/dev/null; do read -rt 0.05 <> <(:) || true; done' "$1""#;

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Server {
    /// What it is.
    pub software: &'static dyn Software,
    /// The name in its certificate.
    pub host: String,
    folder: TempDir,
    place: Place,
    supervisor: Option<Child>,
}

impl Server {
    /// Sets `software` up on `device` for its service in `zone`; it is not started yet.
    pub fn set_up(software: &'static dyn Software, device: &Device, zone: &str) -> Self {
        let folder = TempDir::new().expect("a run folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let place = Place {
            dir: folder.path().to_owned(),
            files: device.delivered(zone, ""),
            port,
            zone: zone.to_owned(),
            authorize: device.path("authorize.sock"),
        };
        let host = format!("{}.{zone}.plant.example", device.name());
        Self { software, host, folder, place, supervisor: None }
    }

    /// The lines of attestor.toml that tell it of new files, if it has to be told.
    pub fn hook(&self) -> String {
        if self.software.reads_by_itself() {
            return String::new();
        }
        let service = self.software.service();
        let mut hook = format!("[[hook]]\nname = \"{service}\"\nservice = \"{service}\"\n");
        let reload = self.software.reload(&self.place);
        if let Some(reload) = &reload {
            hook += &reload.line(&self.place);
        }
        if reload.is_none() || self.software.restarts_on_removal() {
            hook += &format!("restart = {}\n", serde_json::json!(self.restart_words()));
        }
        hook
    }

    fn restart_words(&self) -> Vec<String> {
        words(&["/bin/sh", "-c", RESTART, &text_of(&self.place.pid_file()), &self.place.port.to_string()])
    }

    /// Starts it, and keeps it running; until files are delivered it does not come up. `clock` is where it takes the
    /// time from.
    pub fn start(&mut self, tpm: Option<&ResourceManager>, clock: Option<&Clock>) {
        let mut supervisor = command("bash");
        supervisor.args(["-c", SUPERVISOR, "bash"]).arg(&self.place.dir);
        supervisor.args(self.software.command(&self.place)).stdin(Stdio::null());
        if let Some(tpm) = tpm.filter(|_| self.software.key_in_tpm()) {
            supervisor.envs(tpm.environment());
        }
        let clock = clock.filter(|_| self.software.takes_clock());
        supervisor.envs(clock.map(Clock::environment).unwrap_or_default());
        self.supervisor = Some(supervisor.spawn().expect("bash starts"));
    }

    /// Stops it, and what keeps it running.
    pub fn stop(&mut self) {
        let Some(mut supervisor) = self.supervisor.take() else { return };
        // It ends its server in order: that has workers.
        let id = supervisor.id().to_string();
        drop(Command::new("bash").args(["-c", "kill -TERM \"$0\"", &id]).status());
        drop(supervisor.wait());
    }

    /// Restarts it, as its hook would.
    pub fn restart(&self) {
        let [program, rest @ ..] = &self.restart_words()[..] else {
            unreachable!("words begin with a program")
        };
        assert!(command(program).args(rest).status().expect("a shell runs").success());
    }

    /// Runs its hook, if it has one: for a reload, or a restart.
    pub fn tell(&self) {
        if self.software.reads_by_itself() {
            return;
        }
        let reload = self.software.reload(&self.place);
        let reload = reload.map_or_else(|| self.restart_words(), |reload| reload.words(&self.place));
        let [program, rest @ ..] = &reload[..] else { unreachable!("words begin with a program") };
        // What it says of a server that is not up yet is no matter: the caller waits for the server.
        drop(command(program).args(rest).stderr(Stdio::null()).status());
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.place.port
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A clock of some programs only, which can be put ahead (libfaketime).
#[derive(Debug)]
pub struct Clock {
    environment: Environment,
    folder: TempDir,
}

impl Clock {
    /// A clock that shows the time; None where libfaketime is not installed.
    pub fn new() -> Option<Self> {
        let clock = Self { environment: fake_clock()?, folder: TempDir::new().ok()? };
        clock.put_ahead("+0");
        Some(clock)
    }

    /// Puts it ahead, as in `+2d`.
    pub fn put_ahead(&self, by: &str) {
        let (new, file) = (self.folder.path().join("new"), self.file());
        fs::write(&new, by).and_then(|()| fs::rename(new, file)).expect("a file in the run folder");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// What a program needs to take the time from it.
    pub fn environment(&self) -> Environment {
        let told = [
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
        ];
        self.environment.clone().into_iter().chain(told).collect()
    }
}
