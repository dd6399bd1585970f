//! A service manager, as far as a daemon can tell: a datagram socket that hears what sd_notify(3) says.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::device::Device;
use crate::wait::until;

/// Longest message.
const MOST: usize = 4096;

/// Listens to a device's attestor, all the time: few messages fit into a socket.
#[derive(Debug)]
pub struct ServiceManager {
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl ServiceManager {
    /// From its next start on the attestor of `device` is told to give a sign of life within every `watchdog`.
    pub fn of(device: &mut Device, watchdog: Duration) -> Self {
        let path = device.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket in the device's folder");
        let set = [
            ("NOTIFY_SOCKET", path.display().to_string()),
            ("WATCHDOG_USEC", watchdog.as_micros().to_string()),
        ];
        device.environment.extend(set);
        let (sender, lines) = channel();
        // It ends with the test's process.
        thread::spawn(move || {
            let mut buffer = [0; MOST];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if !text.lines().all(|line| sender.send(line.to_owned()).is_ok()) {
                    return;
                }
            }
        });
        Self { lines, heard: Vec::new() }
    }

    /// Every assignment that was heard since this was asked last.
    pub fn heard(&mut self) -> Vec<String> {
        self.heard.extend(self.lines.try_iter());
        std::mem::take(&mut self.heard)
    }

    /// Waits for an assignment that begins so, and gives it with those before it.
    pub fn until(&mut self, beginning: &str) -> Vec<String> {
        until(&format!("the service manager hears {beginning}"), || {
            self.heard.extend(self.lines.try_iter());
            let found = self.heard.iter().position(|line| line.starts_with(beginning));
            let found = found.ok_or_else(|| format!("{:#?}", self.heard))?;
            Ok(self.heard.drain(..=found).collect())
        })
    }
}
