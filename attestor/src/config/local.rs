//! Addresses that only this machine reaches.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Faults;
use super::raw::{RawAuthorize, RawMetrics};

/// Longest path of a Unix socket in bytes (unix(7): `sun_path` less its NUL).
pub(super) const MAX_SOCKET: usize = 107;

/// A loopback address or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

pub(super) fn authorize(
    base: &Path,
    raw: Option<&RawAuthorize>,
    faults: &mut Faults,
) -> Option<LocalAddress> {
    let raw = raw?;
    faults.unknown("authorize.", &raw.unknown);
    let examples = ["unix:/run/touchstone/authorize.sock", "127.0.0.1:8447"];
    address(base, ("authorize.listen", raw.listen.as_ref()), examples, faults)
}

pub(super) fn metrics(base: &Path, raw: Option<&RawMetrics>, faults: &mut Faults) -> Option<LocalAddress> {
    let raw = raw?;
    faults.unknown("metrics.", &raw.unknown);
    let examples = ["unix:/run/touchstone-attestor/metrics.sock", "127.0.0.1:9465"];
    address(base, ("metrics.listen", raw.listen.as_ref()), examples, faults)
}

fn address(
    base: &Path,
    (key, text): (&str, Option<&String>),
    [example, other]: [&str; 2],
    faults: &mut Faults,
) -> Option<LocalAddress> {
    let text = faults.required(key, text, example)?;
    if let Some(path) = text.strip_prefix("unix:") {
        let path = base.join(path);
        if path.as_os_str().len() > MAX_SOCKET {
            faults.add(key, format_args!("a path of a socket has at most {MAX_SOCKET} bytes"));
        }
        return Some(LocalAddress::Unix(path));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Some(LocalAddress::Tcp(address)),
        _ => {
            faults
                .add(key, format_args!("only this machine may ask; write {example} or for example {other}"));
            None
        }
    }
}
