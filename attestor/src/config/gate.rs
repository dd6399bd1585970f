//! `[[gate]]`: proxies for software without TLS.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use policy::id::{DeviceName, ServiceName, ZoneName};
use serde::Deserialize;

use super::{BrokerAddress, Faults, Service};
use crate::role::Role;

/// Most gates of a device: each is a listener and some tasks.
pub const MAX_GATES: usize = 16;
/// Longest name of a gate in bytes: it names a file.
const MAX_NAME: usize = 40;

/// A proxy between mutual TLS and software that knows none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateConfig {
    /// Its name in logs and status.
    pub name: String,
    /// Listener: it stands before a server of this device. Caller: it opens connections for a client on it.
    pub role: Role,
    /// The service that is served or opened.
    pub service: ServiceName,
    /// The device's zone; None: of those that have the service the one that it has been in longest.
    pub zone: Option<ZoneName>,
    /// Where it listens: for peers, or for the local client.
    pub listen: SocketAddr,
    /// Host and port that it connects to: the server, or the peer.
    pub connect: String,
    /// Who must be at the other end; a client's gate has it always, a server's never.
    pub peer: Option<Peer>,
    /// What one gate takes on.
    pub limits: Limits,
}

/// A device of a zone, written `device.zone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The device.
    pub device: DeviceName,
    /// Its zone.
    pub zone: ZoneName,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.device, self.zone)
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || "write device and zone of the peer, for example peer = \"db-1.historian\"".to_owned();
        let (device, zone) = text.split_once('.').ok_or_else(refuse)?;
        Ok(Self { device: device.parse().map_err(|_| refuse())?, zone: zone.parse().map_err(|_| refuse())? })
    }
}

/// Bounds of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once with one peer.
    pub each: usize,
    /// How long a session lives in which nothing moves.
    pub idle: Duration,
    /// Time for connecting and the TLS handshake, with a slow TPM signing in it.
    pub handshake: Duration,
}

impl Limits {
    /// Most connections that can be asked for: two files each, under systemd's usual hard limit of 524,288.
    pub const MOST_CONNECTIONS: usize = 100_000;
    /// Longest that can be asked for.
    const MOST_IDLE: Duration = Duration::from_secs(30 * 86_400);
    const MOST_HANDSHAKE: Duration = Duration::from_secs(120);
}

impl Default for Limits {
    /// 5,000 connections, 500 with one peer; an hour; 10 s.
    fn default() -> Self {
        Self {
            connections: 5_000,
            each: 500,
            idle: Duration::from_secs(3_600),
            handshake: Duration::from_secs(10),
        }
    }
}

/// One `[[gate]]` as it is written, in the configuration or on a command line.
#[derive(Debug, Default, Deserialize, clap::Args)]
pub struct RawGate {
    /// Its name in logs and status.
    #[arg(long, default_value = "gate")]
    name: Option<String>,
    /// `server`: it stands before a server of this device; `client`: it opens connections for a client on it.
    #[arg(long, value_name = "server|client")]
    role: Option<String>,
    /// The service that is served or opened.
    #[arg(long)]
    service: Option<String>,
    /// The zone of this device, where several have the service; without it, the one that it has been in longest.
    #[arg(long)]
    zone: Option<String>,
    /// Address and port to listen on: for peers, or on this machine for the local client.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Host and port to connect to: the server, or the peer.
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<String>,
    /// Device and zone that must answer, for a client.
    #[arg(long, value_name = "DEVICE.ZONE")]
    peer: Option<String>,
    /// Most connections at once [default: 5000].
    #[arg(long, value_name = "NUMBER")]
    connections: Option<i64>,
    /// Most connections at once with one peer [default: 500].
    #[arg(long, value_name = "NUMBER")]
    connections_each: Option<i64>,
    /// Seconds that a session lives in which nothing moves [default: 3600].
    #[arg(long, value_name = "SECONDS")]
    idle: Option<i64>,
    /// Seconds for connecting and the TLS handshake [default: 10].
    #[arg(long, value_name = "SECONDS")]
    handshake: Option<i64>,
    #[arg(skip)]
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

impl GateConfig {
    /// The gate that `raw` means on a device that offers `services`, or all its faults.
    pub fn read(raw: &RawGate, services: &[Service]) -> Result<Self, Vec<String>> {
        let mut faults = Faults(Vec::new());
        match (gate(raw, services, &mut faults), faults.0) {
            (Some(gate), faults) if faults.is_empty() => Ok(gate),
            (_, faults) => Err(faults),
        }
    }
}

pub(super) fn gates(raw: &[RawGate], services: &[Service], faults: &mut Faults) -> Vec<GateConfig> {
    faults.bounded("gate", raw.len(), MAX_GATES);
    let mut gates: Vec<GateConfig> = Vec::new();
    for one in raw.iter().take(MAX_GATES) {
        let Some(gate) = gate(one, services, faults) else { continue };
        match gates.iter().any(|other| other.name == gate.name) {
            true => faults.add("gate.name", format_args!("`{}` is listed twice; rename one", gate.name)),
            false => gates.push(gate),
        }
    }
    gates
}

fn gate(raw: &RawGate, services: &[Service], faults: &mut Faults) -> Option<GateConfig> {
    faults.unknown("gate.", &raw.unknown);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = faults.required("gate.name", raw.name.as_ref(), "plc").map(str::to_owned);
    if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain))
    {
        faults.add("gate.name", format_args!("write 1 to {MAX_NAME} of a-z, 0-9 and -"));
    }
    let role = role(raw, faults);
    let service = faults.required("gate.service", raw.service.as_ref(), "modbus");
    let service: Option<ServiceName> = service.and_then(|text| faults.parsed("gate.service", text));
    let offered = |name: &ServiceName| services.iter().any(|service| service.name == *name);
    if role == Some(Role::Listener) && service.as_ref().is_some_and(|service| !offered(service)) {
        faults.add("gate.service", "this device offers no such service; name it in a [[service]] too");
    }
    let zone = match raw.zone.as_deref() {
        Some(text) => Some(faults.parsed("gate.zone", text)?),
        None => None,
    };
    let listen = faults.required("gate.listen", raw.listen.as_ref(), "0.0.0.0:8502");
    let listen: Option<SocketAddr> = listen.and_then(|text| faults.parsed("gate.listen", text));
    if role == Some(Role::Caller) && listen.is_some_and(|address| !address.ip().is_loopback()) {
        faults.add(
            "gate.listen",
            "without TLS only this machine may connect; write for example 127.0.0.1:4840",
        );
    }
    let connect = faults.required("gate.connect", raw.connect.as_ref(), "127.0.0.1:502");
    let connect = connect.and_then(|text| match text.parse::<BrokerAddress>() {
        Ok(address) => Some(address.to_string()),
        Err(_) => {
            faults.add("gate.connect", "write host:port, for example 127.0.0.1:502");
            None
        }
    });
    let peer = peer(raw, role, faults);
    let limits = limits(raw, faults);
    Some(GateConfig {
        name: name?,
        role: role?,
        service: service?,
        zone,
        listen: listen?,
        connect: connect?,
        peer: peer?,
        limits,
    })
}

fn role(raw: &RawGate, faults: &mut Faults) -> Option<Role> {
    match raw.role.as_deref() {
        Some("server") => Some(Role::Listener),
        Some("client") => Some(Role::Caller),
        _ => {
            faults.add(
                "gate.role",
                "write role = \"server\" if it stands before a server, or \"client\" before a client",
            );
            None
        }
    }
}

/// The outer `None` is a fault.
fn peer(raw: &RawGate, role: Option<Role>, faults: &mut Faults) -> Option<Option<Peer>> {
    match (role?, raw.peer.as_deref()) {
        (Role::Caller, Some(text)) => faults.parsed("gate.peer", text).map(Some),
        (Role::Listener, None) => Some(None),
        (Role::Caller, None) => {
            faults.add(
                "gate.peer",
                "missing; whoever answers would be believed: write for example peer = \"db-1.historian\"",
            );
            None
        }
        (Role::Listener, Some(_)) => {
            faults.add("gate.peer", "a server is opened by whom conduits allow; remove this line");
            None
        }
    }
}

fn limits(raw: &RawGate, faults: &mut Faults) -> Limits {
    let default = Limits::default();
    let most = Limits::MOST_CONNECTIONS;
    let mut count = |key: &str, value: Option<i64>, default: usize| {
        let Some(value) = value else { return default };
        usize::try_from(value).ok().filter(|value| (1..=most).contains(value)).unwrap_or_else(|| {
            faults.add(key, format_args!("write 1 to {most}"));
            default
        })
    };
    let connections = count("gate.connections", raw.connections, default.connections);
    let each = count("gate.connections_each", raw.connections_each, default.each);
    let mut span = |key: &str, value: Option<i64>, default: Duration, most: Duration| {
        let Some(value) = value else { return default };
        let span = u64::try_from(value).map(Duration::from_secs);
        span.ok().filter(|span| !span.is_zero() && *span <= most).unwrap_or_else(|| {
            faults.add(key, format_args!("write 1 to {} seconds", most.as_secs()));
            default
        })
    };
    let idle = span("gate.idle", raw.idle, default.idle, Limits::MOST_IDLE);
    let handshake = span("gate.handshake", raw.handshake, default.handshake, Limits::MOST_HANDSHAKE);
    Limits { connections, each, idle, handshake }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const LEAST: &str = "broker = \"b:1\"\nplant = \"plant.example\"\nplant_root = \"root.pem\"\n\
        [[service]]\nname = \"modbus\"\nport = 502\n";

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(Path::new("/etc/touchstone"), &format!("{LEAST}{text}"))
    }

    const SERVER: &str = "[[gate]]\nname = \"plc\"\nrole = \"server\"\nservice = \"modbus\"\n\
        listen = \"0.0.0.0:8502\"\nconnect = \"10.9.0.7:502\"\n";
    const CLIENT: &str = "[[gate]]\nname = \"db\"\nrole = \"client\"\nservice = \"opcua\"\n\
        listen = \"127.0.0.1:4840\"\nconnect = \"scada.example:4840\"\npeer = \"db-1.historian\"\n";

    #[test]
    fn both_kinds_of_gates_are_read() {
        let config =
            parse(&format!("{SERVER}idle = 60\nconnections = 10\n{CLIENT}zone = \"cell\"\n")).unwrap();
        let [server, client] = config.gates.as_slice() else { panic!("{:?}", config.gates) };
        assert_eq!((server.role, server.limits.connections), (Role::Listener, 10));
        assert_eq!((server.limits.idle.as_secs(), server.limits.each), (60, 500));
        assert_eq!(client.peer.as_ref().unwrap().to_string(), "db-1.historian");
        assert_eq!((client.role, client.connect.as_str()), (Role::Caller, "scada.example:4840"));
    }

    #[test]
    fn every_fault_is_named() {
        for (text, fault) in [
            (SERVER.replace("\"modbus\"", "\"ssh\""), "gate.service: this device offers no such service"),
            (SERVER.replace("\"server\"", "\"both\""), "gate.role: write role"),
            (SERVER.replace("10.9.0.7:502", "502"), "gate.connect: write host:port"),
            (format!("{SERVER}peer = \"a.b\"\n"), "gate.peer: a server is opened"),
            (format!("{SERVER}idle = 0\n"), "gate.idle: write 1 to 2592000 seconds"),
            (format!("{SERVER}connections_each = 100001\n"), "gate.connections_each: write 1 to 100000"),
            (format!("{SERVER}port = 1\n"), "gate.port: there is no such key"),
            (SERVER.repeat(2), "gate.name: `plc` is listed twice"),
            (CLIENT.replace("127.0.0.1", "0.0.0.0"), "gate.listen: without TLS only this machine"),
            (CLIENT.replace("peer =", "# "), "gate.peer: missing"),
            (CLIENT.replace("db-1.historian", "db-1"), "gate.peer: write device and zone"),
        ] {
            let faults = parse(&text).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(fault), "{faults:?}, not {fault}");
        }
        let nothing = parse("[[gate]]\n").unwrap_err();
        assert_eq!(nothing.len(), 5, "{nothing:?}");
    }
}
