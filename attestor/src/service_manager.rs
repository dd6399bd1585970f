//! What the service manager hears of the attestor, by the protocol of sd_notify(3): ready, state, alive, stopping.
//!
//! Promises: ready is said once, and only of a trusted device, so that what is ordered after the unit starts on one; a
//! sign of life is given by whoever makes progress and by nobody else, so that a hang is noticed before and after.
//! Does not promise that anybody listens: without a service manager nothing is sent, and a sign of life that cannot be
//! sent is lost.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Variables by which the service manager says where it listens and how often it wants to hear; programs that the
/// attestor starts do not speak for it.
pub(crate) const VARIABLES: [&str; 3] = [SOCKET, PERIOD, PROCESS];
const SOCKET: &str = "NOTIFY_SOCKET";
const PERIOD: &str = "WATCHDOG_USEC";
const PROCESS: &str = "WATCHDOG_PID";

/// Time that a start is given anew with each sign of life: four of them may be lost.
const EXTENSION: Duration = Duration::from_secs(120);
/// Shortest time between two signs of life, whatever the service manager asks for.
const LEAST_PERIOD: Duration = Duration::from_millis(100);

/// The service manager.
#[derive(Debug, Default)]
pub struct ServiceManager {
    listening: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    ready: bool,
    said: String,
}

impl ServiceManager {
    /// The one that started this process, if one did.
    #[must_use]
    pub fn of_process() -> Self {
        let named = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let ours = |pid: OsString| pid == *std::process::id().to_string();
        let period = named(PERIOD).filter(|_| named(PROCESS).is_none_or(ours));
        let period = period.and_then(|text| text.to_str()?.parse().ok()).map(Duration::from_micros);
        let Some(socket) = named(SOCKET) else { return Self::default() };
        Self::listening_at(&socket, period).unwrap_or_else(|error| {
            tracing::warn!(socket = %socket.display(), %error, "the service manager cannot be told anything");
            Self::default()
        })
    }

    /// One that listens at `socket`, a path or, after `@`, an abstract name, and wants a sign of life within every
    /// `watchdog`.
    pub fn listening_at(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(socket)?,
        };
        let own = UnixDatagram::unbound()?;
        // Renewal waits for nobody.
        own.set_nonblocking(true)?;
        Ok(Self { listening: Some((own, address)), watchdog, ..Self::default() })
    }

    /// How often to call [`Self::alive`], at least every `most`: twice in each of its periods.
    #[must_use]
    pub fn alive_every(&self, most: Duration) -> Duration {
        self.watchdog.map_or(most, |period| (period / 2).clamp(LEAST_PERIOD, most))
    }

    /// The state in a sentence, and whether it is one in which others may start.
    pub fn state(&mut self, sentence: &str, trusted: bool) {
        let ready = trusted && !self.ready;
        if !ready && self.said == sentence {
            return;
        }
        // A line of its own for each assignment.
        let line = sentence.replace(|c: char| c.is_control(), " ");
        // What was not heard is said again with the next report.
        if self.tell(&format!("{}STATUS={line}", if ready { "READY=1\n" } else { "" })) {
            sentence.clone_into(&mut self.said);
            self.ready |= ready;
        }
    }

    /// Whoever calls makes progress. A device may wait for days until somebody admits it, and its start with it.
    pub fn alive(&self) {
        match self.ready {
            true => self.tell("WATCHDOG=1"),
            false => self.tell(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros())),
        };
    }

    /// An orderly stop begins.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Whether nothing is left to be said.
    fn tell(&self, message: &str) -> bool {
        let Some((own, address)) = &self.listening else { return true };
        let sent = own.send_to_addr(message.as_bytes(), address);
        sent.inspect_err(|error| tracing::debug!(%error, message, "the service manager did not hear it"))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> Vec<String> {
        listener.set_nonblocking(true).unwrap();
        let mut buffer = [0; 512];
        std::iter::from_fn(|| {
            let length = listener.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        })
        .collect()
    }

    #[test]
    fn ready_is_said_once_and_of_a_trusted_device_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let mut manager = ServiceManager::listening_at(path.as_os_str(), None).unwrap();
        manager.state("starting", false);
        manager.state("starting", false);
        manager.alive();
        assert_eq!(heard(&listener), ["STATUS=starting", "EXTEND_TIMEOUT_USEC=120000000"]);
        manager.state("trusted", true);
        manager.alive();
        assert_eq!(heard(&listener), ["READY=1\nSTATUS=trusted", "WATCHDOG=1"]);
        manager.state("refused:\na reason", false);
        manager.state("trusted", true);
        manager.alive();
        manager.stopping();
        let last = ["STATUS=refused: a reason", "STATUS=trusted", "WATCHDOG=1", "STOPPING=1"];
        assert_eq!(heard(&listener), last);
    }

    #[test]
    fn it_listens_at_an_abstract_name_or_not_at_all() {
        let name = format!("touchstone-test-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        ServiceManager::listening_at(format!("@{name}").as_ref(), None).unwrap().stopping();
        assert_eq!(heard(&listener), ["STOPPING=1"]);
        let mut nobody = ServiceManager::default();
        nobody.state("trusted", true);
        nobody.alive();
    }

    #[test]
    fn a_sign_of_life_comes_twice_in_each_period() {
        let most = Duration::from_secs(30);
        let every = |watchdog: Option<u64>| {
            let watchdog = watchdog.map(Duration::from_millis);
            ServiceManager { watchdog, ..ServiceManager::default() }.alive_every(most).as_millis()
        };
        assert_eq!((every(None), every(Some(90_000)), every(Some(20_000))), (30_000, 30_000, 10_000));
        assert_eq!(every(Some(0)), 100);
    }
}
