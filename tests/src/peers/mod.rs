//! Unmodified software on a device, set up as README says: its files are those that the attestor delivers, and hooks in
//! attestor.toml tell it when they change.

mod client;
mod grpcio;
mod haproxy;
mod mosquitto;
mod nginx;
mod openssl;
mod resource_manager;
mod server;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

pub use client::{Client, Heard, Shown};
pub use grpcio::{Grpcio, GrpcioAsking, PYTHON};
pub use haproxy::Haproxy;
pub use mosquitto::Mosquitto;
pub use nginx::{Nginx, NginxInTpm};
pub use openssl::OpensslServer;
pub use resource_manager::ResourceManager;
pub use server::{Clock, Server};

/// What servers say to whom they serve, and to nobody else.
pub const SERVED: &str = "the press is running";

/// The request of everything that speaks HTTP.
const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: press\r\nConnection: close\r\n\r\n";

/// Where a server is set up.
#[derive(Debug)]
pub struct Place {
    /// A folder of its own.
    pub dir: PathBuf,
    /// The files that are delivered for its zone.
    pub files: PathBuf,
    /// Its port.
    pub port: u16,
    /// Its zone.
    zone: String,
    /// Where programs of its device ask the attestor about a peer.
    authorize: PathBuf,
}

impl Place {
    /// The number of the server's process, while it runs.
    fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    fn write(&self, name: &str, text: &str) -> String {
        let file = self.dir.join(name);
        fs::write(&file, text).expect("a file in the run folder");
        text_of(&file)
    }

    /// A file that is delivered for `service`.
    fn of_service(&self, service: &str, file: &str) -> String {
        text_of(&self.files.join("services").join(service).join(file))
    }

    fn of_zone(&self, file: &str) -> String {
        text_of(&self.files.join(file))
    }
}

fn text_of(path: &Path) -> String {
    path.to_str().expect("run folders have plain names").to_owned()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Why a server refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No authority that it believes signed the certificate.
    Unknown,
    /// The certificate is in a CRL.
    Revoked,
    /// The certificate has ended.
    Expired,
}

impl Refusal {
    /// The TLS alert, as rustls calls it (RFC 8446, section 6.2).
    const fn alert(self) -> &'static str {
        match self {
            Self::Unknown => "UnknownCA",
            Self::Revoked => "CertificateRevoked",
            Self::Expired => "CertificateExpired",
        }
    }
}

/// A kind of server.
pub trait Software: Debug + Sync {
    /// Its name, and that of the service that it serves.
    fn service(&self) -> &'static str;

    /// Programs that it needs.
    fn tools(&self) -> &'static [&'static str];

    /// Its key is in the TPM.
    fn key_in_tpm(&self) -> bool;

    /// Writes its configuration and returns the command that runs it in the foreground.
    fn command(&self, place: &Place) -> Vec<String>;

    /// What makes it read its files again; None if only a restart does.
    fn reload(&self, place: &Place) -> Option<Reload>;

    /// It reads its files by itself, so no hook tells it of them.
    fn reads_by_itself(&self) -> bool {
        false
    }

    /// It goes by another clock where it is told one.
    fn takes_clock(&self) -> bool {
        true
    }

    /// A reload never takes an authority away.
    fn restarts_on_removal(&self) -> bool {
        false
    }

    /// The protocols that it speaks in TLS (RFC 7301); none: it does not ask.
    fn alpn(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// What a client asks.
    fn request(&self) -> Vec<u8> {
        HTTP.to_vec()
    }

    /// Whether something of the application was served.
    fn serves(&self, heard: &[u8]) -> bool {
        contains(heard, SERVED.as_bytes())
    }

    /// Whether it refused for this reason; `log` is what it logged meanwhile.
    fn refuses(&self, heard: &Heard, _log: &str, why: Refusal) -> bool {
        heard.bytes.is_empty() && heard.ended.contains(why.alert())
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// How a server is told to read its files again.
#[derive(Debug)]
pub enum Reload {
    /// Its process is sent this signal.
    Signal(&'static str),
    /// A program does it.
    Program(Vec<String>),
}

impl Reload {
    /// The line of a hook.
    fn line(&self, place: &Place) -> String {
        match self {
            Self::Signal(name) => {
                let file = text_of(&place.pid_file());
                format!("reload = {{ signal = \"{name}\", pid_file = \"{file}\" }}\n")
            }
            Self::Program(words) => format!("reload = {}\n", serde_json::json!(words)),
        }
    }

    /// The same as a command, for whoever is no attestor.
    fn words(self, place: &Place) -> Vec<String> {
        match self {
            Self::Signal(name) => {
                let file = text_of(&place.pid_file());
                words(&["/bin/sh", "-c", "kill -\"$1\" \"$(cat \"$0\")\"", &file, name])
            }
            Self::Program(words) => words,
        }
    }
}
