//! What the attestor is told: one TOML file, validated before the TPM or the network is touched.
//!
//! All faults are reported at once, each with its key and the remedy. Relative paths are relative to the folder
//! of the file.

mod gate;
mod idevid;
mod images;
mod key_owner;
mod local;
mod mqtt;
mod outline;
mod programs;
mod raw;
mod vouches;
mod workload;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use policy::budget::MAX_SOFTWARE_KEYS;
use policy::id::{DeviceName, PlantDomain, ServiceName, ZoneName};

pub use self::gate::{GateConfig, Limits, MAX_GATES, Peer, RawGate};
pub use self::idevid::{IdevIdFiles, IdevIdKey};
pub use self::images::{Container, Images};
pub use self::key_owner::KeyOwner;
pub use self::local::LocalAddress;
pub use self::mqtt::{Mqtt, MqttPeer};
pub use self::outline::{Origins, Outline};
use self::raw::{Raw, RawService};
pub use self::vouches::Vouched;
pub use self::workload::{Holders, Program, Workload, WorkloadApi, two_sided};
use crate::bootstrap::Sources;
use crate::health::HealthCheck;
use crate::hooks::{Hook, StateHook};
use crate::telemetry::LogFormat;
use crate::tpm::{COMMAND_DEADLINE, TpmAddress};

/// Where the configuration is unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/touchstone/attestor.toml";
/// Folder of what survives a restart, unless told otherwise.
const DEFAULT_STATE: &str = "/var/lib/touchstone-attestor";
/// Folder that local software reads from, unless told otherwise.
const DEFAULT_DELIVER: &str = "/run/touchstone";
/// Seconds that callers may be told to wait for the TPM: the kernel gives most commands 2 s, and the longest 20 s.
const TPM_DEADLINES: RangeInclusive<u64> = 5..=120;
/// Longest configuration file in bytes: far more than all keys at their bounds take.
const MAX_FILE: u64 = 64 * 1024;
/// Most zones one device is in: a gateway joins a few, and each costs two keys and two certificates.
pub const MAX_ZONES: usize = 16;
/// Brokers besides the first: five bear the loss of two, as etcd's nodes do.
const MAX_OTHER_BROKERS: usize = 8;
/// Most services one device offers; a statement with this many stays under 2 KiB.
const MAX_SERVICES: usize = 32;
/// Most declared properties.
const MAX_INVENTORY: usize = 32;
/// Longest name and value of a declared property in bytes.
const MAX_PROPERTY: usize = 256;

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the broker is.
    pub broker: BrokerAddress,
    /// Where other brokers of the plant are, which are asked in order when that one does not answer.
    pub other_brokers: Vec<BrokerAddress>,
    /// The plant, which decides the broker's TLS name.
    pub plant: PlantDomain,
    /// File with the pinned plant root, the only anchor for the broker.
    pub plant_root: PathBuf,
    /// The TPM; `None` where it was said that there is none.
    pub tpm: Option<TpmAddress>,
    /// How long a caller waits for a command of the TPM that makes no RSA key.
    pub tpm_deadline: Duration,
    /// Folder of what survives a restart.
    pub state: PathBuf,
    /// Folder that local software reads certificates and trust files from.
    pub deliver: PathBuf,
    /// The name it asks for.
    pub device: Option<DeviceName>,
    /// The zones it asks for.
    pub zones: Vec<ZoneName>,
    /// File with a join token.
    pub join_token_file: Option<PathBuf>,
    /// Where broker, plant root and token come from.
    pub origins: Origins,
    /// The firmware's event log.
    pub firmware_log: PathBuf,
    /// systemd's log of its own measurements.
    pub userspace_log: PathBuf,
    /// The list of Linux IMA; `None` where none is to be sent.
    pub ima_log: Option<PathBuf>,
    /// Where the identity is that its manufacturer gave it.
    pub idevid: Option<IdevIdFiles>,
    /// Services that it offers to others.
    pub services: Vec<Service>,
    /// Whom the files of software keys are given to, by service.
    pub key_owners: BTreeMap<ServiceName, KeyOwner>,
    /// Machines behind it that it vouches for.
    pub vouches: Vec<Vouched>,
    /// Declared properties for the inventory.
    pub inventory: BTreeMap<String, String>,
    /// Its health command.
    pub health: Option<HealthCheck>,
    /// The updater: the program, with its arguments, that is told when another release is wanted.
    pub on_wanted: Option<Vec<String>>,
    /// Where local software asks whether a peer may open a service.
    pub authorize: Option<LocalAddress>,
    /// Where a monitoring system of this machine asks.
    pub metrics: Option<LocalAddress>,
    /// How its log is written.
    pub log_format: LogFormat,
    /// Who may read and write which topics of an MQTT broker on this device.
    pub mqtt: Option<Mqtt>,
    /// What it measures itself.
    pub images: Option<Images>,
    /// Programs that make software read its files again.
    pub hooks: Vec<Hook>,
    /// Programs that are told when the device's state changes, in this order.
    pub state_hooks: Vec<StateHook>,
    /// Where workloads get certificates in names of their own.
    pub workload_api: Option<WorkloadApi>,
    /// The workloads, in the order in which a caller is looked for among them.
    pub workloads: Vec<Workload>,
    /// Proxies for software without TLS.
    pub gates: Vec<GateConfig>,
}

/// What a configuration says of its machine alone: known before the device knows whom to believe.
#[derive(Debug, Clone)]
pub struct Local {
    /// The TPM; `None` where it was said that there is none.
    pub tpm: Option<TpmAddress>,
    /// The name it asks for.
    pub device: Option<DeviceName>,
    /// Where the identity is that its manufacturer gave it.
    pub idevid: Option<IdevIdFiles>,
    /// Folder that local software reads certificates and trust files from.
    pub deliver: PathBuf,
}

/// A service that the device offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name, which conduits use.
    pub name: ServiceName,
    /// Its TCP port.
    pub port: u16,
    /// Where the key of its server is.
    pub key: KeyPlace,
}

/// Where a server's key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// In the TPM: the server uses the zone's listener key.
    Tpm,
    /// In software, for a server that cannot use the TPM; zones have to allow it.
    Software,
}

/// Host and port of the broker. The host only routes: the name that is checked comes from the plant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// DNS name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The text is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address of a broker; write host:port, for example broker.plant.example:8443")]
pub struct BrokerAddressError(String);

impl FromStr for BrokerAddress {
    type Err = BrokerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || BrokerAddressError(text.chars().take(80).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(refuse)?,
            None if host.contains(':') => return Err(refuse()),
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)?;
        match !host.is_empty() && host.chars().all(plain) {
            true => Ok(Self { host: host.to_owned(), port }),
            false => Err(refuse()),
        }
    }
}

/// The configuration cannot be used: every fault that was found.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    faults: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used: {}", self.file.display(), self.faults.join("; "))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Everything that holds a software key.
    #[must_use]
    pub fn holders(&self) -> Holders<'_> {
        Holders { services: &self.services, workloads: &self.workloads }
    }

    /// Reads and validates a configuration file, with what the machine was given where it states nothing.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Outline::read(file, &Sources::of_machine())?.finish()
    }

    /// What a configuration file says of its machine alone: for commands that must not wait for a plant root.
    pub fn load_local(file: &Path) -> Result<Local, ConfigError> {
        Outline::read(file, &Sources::of_machine())?.local()
    }

    /// The configuration that `text` means in the folder `base`, or all its faults.
    pub fn parse(base: &Path, text: &str) -> Result<Self, Vec<String>> {
        let raw: Raw = toml::from_str(text).map_err(|error| vec![one_line(text, &error)])?;
        let mut faults = Faults(Vec::new());
        let config = interpret(base, &raw, &mut faults);
        match (config, faults.0) {
            (Some(config), faults) if faults.is_empty() => Ok(config),
            (_, faults) => Err(faults),
        }
    }
}

/// The parser's words with the place they are about, and what to do: they do not name the key.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let words: Vec<&str> = error.message().lines().map(str::trim).collect();
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (number, column) =
        (before.matches('\n').count(), before.chars().rev().take_while(|c| *c != '\n').count());
    let line: String = text.lines().nth(number).unwrap_or_default().trim().chars().take(80).collect();
    let (number, column) = (number.saturating_add(1), column.saturating_add(1));
    format!("line {number}, column {column} `{line}`: {}; correct this line", words.join(", "))
}

/// Collects every fault instead of stopping at the first.
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, key: &str, fault: impl fmt::Display) {
        self.0.push(format!("{key}: {fault}"));
    }

    fn required<'a>(&mut self, key: &str, value: Option<&'a String>, example: &str) -> Option<&'a str> {
        if value.is_none() {
            self.add(key, format_args!("missing; write for example {key} = \"{example}\""));
        }
        value.map(String::as_str)
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.add(key, error)).ok()
    }

    fn unknown(&mut self, prefix: &str, keys: &BTreeMap<String, toml::Value>) {
        for key in keys.keys() {
            let key: String = key.chars().filter(|c| !c.is_control()).take(40).collect();
            self.add(&format!("{prefix}{key}"), "there is no such key; correct its spelling or remove it");
        }
    }

    fn bounded(&mut self, key: &str, count: usize, most: usize) {
        if count > most {
            self.add(key, format_args!("{count} entries; at most {most} are read"));
        }
    }
}

fn interpret_local(base: &Path, raw: &Raw, faults: &mut Faults) -> Option<Local> {
    let tpm = interpret_tpm(raw.tpm.as_deref(), raw.device.is_some(), faults);
    let idevid = idevid::idevid(base, raw.idevid.as_ref(), raw.tpm.as_deref() != Some("none"), faults);
    let device = raw.device.as_deref().map(|name| faults.parsed("device", name));
    let deliver = base.join(raw.deliver.as_deref().unwrap_or(DEFAULT_DELIVER));
    Some(Local { tpm: tpm?, device: device.flatten(), idevid, deliver })
}

fn interpret(base: &Path, raw: &Raw, faults: &mut Faults) -> Option<Config> {
    let broker = faults.required("broker", raw.broker.as_ref(), "broker.plant.example:8443");
    let broker = broker.and_then(|text| faults.parsed("broker", text));
    faults.bounded("other_brokers", raw.other_brokers.len(), MAX_OTHER_BROKERS);
    let others = raw.other_brokers.iter().take(MAX_OTHER_BROKERS);
    let other_brokers = others.filter_map(|text| faults.parsed("other_brokers", text)).collect();
    let plant = faults.required("plant", raw.plant.as_ref(), "plant.example");
    let plant = plant.and_then(|text| faults.parsed("plant", text));
    let root = faults.required("plant_root", raw.plant_root.as_ref(), "/etc/touchstone/plant-root.pem");
    let local = interpret_local(base, raw, faults);
    let tpm_deadline = interpret_tpm_deadline(raw.tpm_deadline, faults);
    let zones = interpret_zones(&raw.zones, faults);
    let services = interpret_services(&raw.services, faults);
    let key_owners = key_owner::key_owners(&raw.services, &services, faults);
    let vouches = vouches::interpret(&raw.vouches, faults);
    interpret_inventory(&raw.inventory, faults);
    let health = programs::health(raw.health.as_ref(), faults);
    let on_wanted = programs::command("on_wanted", raw.on_wanted.as_ref(), faults);
    let authorize = local::authorize(base, raw.authorize.as_ref(), faults);
    let metrics = local::metrics(base, raw.metrics.as_ref(), faults);
    let log_format = interpret_log_format(raw.log_format.as_deref(), faults);
    let offered: Vec<ServiceName> = services.iter().map(|service| service.name.clone()).collect();
    let mqtt = mqtt::mqtt(raw.mqtt.as_ref(), &offered, faults);
    let images = images::images(base, raw, faults);
    let hooks = programs::hooks(&raw.hooks, faults);
    let state_hooks = programs::state_hooks(raw.safe_state.as_ref(), &raw.on_state, faults);
    let (workload_api, workloads) = workload::workloads(base, raw, &services, faults);
    let gates = gate::gates(&raw.gates, &services, faults);
    faults.unknown("", &raw.unknown);
    let path = |text: Option<&str>, default: &str| base.join(text.unwrap_or(default));
    let local = local?;
    Some(Config {
        broker: broker?,
        other_brokers,
        plant: plant?,
        plant_root: base.join(root?),
        tpm: local.tpm,
        tpm_deadline,
        state: path(raw.state.as_deref(), DEFAULT_STATE),
        deliver: local.deliver,
        device: local.device,
        zones,
        join_token_file: raw.join_token_file.as_deref().map(|file| base.join(file)),
        origins: Origins::WRITTEN,
        firmware_log: path(raw.firmware_log.as_deref(), default_firmware_log()),
        userspace_log: path(raw.userspace_log.as_deref(), "/run/log/systemd/tpm2-measure.log"),
        ima_log: raw.ima_log.as_deref().filter(|file| !file.is_empty()).map(|file| base.join(file)),
        idevid: local.idevid,
        services,
        key_owners,
        vouches,
        inventory: raw.inventory.clone(),
        health,
        on_wanted,
        authorize,
        metrics,
        log_format,
        mqtt,
        images,
        hooks,
        state_hooks,
        workload_api,
        workloads,
        gates,
    })
}

fn interpret_log_format(raw: Option<&str>, faults: &mut Faults) -> LogFormat {
    match raw {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(_) => {
            faults.add("log_format", "write log_format = \"text\" or log_format = \"json\"");
            LogFormat::Text
        }
    }
}

/// The unit's copy where there is one: only root reads the kernel's own.
fn default_firmware_log() -> &'static str {
    const COPY: &str = "/run/touchstone-attestor/firmware.log";
    if Path::new(COPY).exists() { COPY } else { "/sys/kernel/security/tpm0/binary_bios_measurements" }
}

/// The outer `None` is a fault.
fn interpret_tpm(raw: Option<&str>, named: bool, faults: &mut Faults) -> Option<Option<TpmAddress>> {
    match raw {
        Some("none") if named => Some(None),
        Some("none") => {
            faults.add("device", "missing; a device without a TPM is known by its name alone");
            None
        }
        other => faults.parsed("tpm", other.unwrap_or("device:/dev/tpmrm0")).map(Some),
    }
}

fn interpret_tpm_deadline(raw: Option<i64>, faults: &mut Faults) -> Duration {
    let Some(seconds) = raw else { return COMMAND_DEADLINE };
    let seconds = u64::try_from(seconds).ok().filter(|seconds| TPM_DEADLINES.contains(seconds));
    if seconds.is_none() {
        let (least, most) = TPM_DEADLINES.into_inner();
        faults.add("tpm_deadline", format_args!("write {least} to {most} seconds"));
    }
    seconds.map_or(COMMAND_DEADLINE, Duration::from_secs)
}

fn interpret_zones(raw: &[String], faults: &mut Faults) -> Vec<ZoneName> {
    faults.bounded("zones", raw.len(), MAX_ZONES);
    let mut zones: Vec<ZoneName> = Vec::new();
    for text in raw.iter().take(MAX_ZONES) {
        let Some(zone) = faults.parsed("zones", text) else { continue };
        match zones.contains(&zone) {
            true => faults.add("zones", format_args!("`{zone}` is listed twice; remove one")),
            false => zones.push(zone),
        }
    }
    zones
}

fn interpret_services(raw: &[RawService], faults: &mut Faults) -> Vec<Service> {
    faults.bounded("service", raw.len(), MAX_SERVICES);
    let mut services: Vec<Service> = Vec::new();
    for service in raw.iter().take(MAX_SERVICES) {
        let name = faults.required("service.name", service.name.as_ref(), "opcua");
        let name: Option<ServiceName> = name.and_then(|text| faults.parsed("service.name", text));
        let port = service.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if port.is_none() {
            faults.add("service.port", "missing or not within 1 to 65535; write for example port = 4840");
        }
        let key = match service.key.as_deref() {
            None | Some("tpm") => KeyPlace::Tpm,
            Some("software") => KeyPlace::Software,
            Some(_) => {
                faults.add("service.key", "write key = \"tpm\" or key = \"software\"");
                KeyPlace::Tpm
            }
        };
        faults.unknown("service.", &service.unknown);
        let (Some(name), Some(port)) = (name, port) else { continue };
        match services.iter().any(|other| other.name == name) {
            true => faults.add("service.name", format_args!("`{name}` is listed twice; remove one")),
            false => services.push(Service { name, port, key }),
        }
    }
    let software = services.iter().filter(|service| service.key == KeyPlace::Software).count();
    if software > MAX_SOFTWARE_KEYS {
        faults.add(
            "service.key",
            format_args!("{software} software keys; a device has at most {MAX_SOFTWARE_KEYS}"),
        );
    }
    services
}

fn interpret_inventory(raw: &BTreeMap<String, String>, faults: &mut Faults) {
    faults.bounded("inventory", raw.len(), MAX_INVENTORY);
    for (name, value) in raw.iter().take(MAX_INVENTORY) {
        let printable = |text: &str| {
            !text.is_empty() && text.len() <= MAX_PROPERTY && !text.chars().any(char::is_control)
        };
        if !printable(name) || !printable(value) {
            let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            faults.add(
                &format!("inventory.{name}"),
                format_args!("write 1 to {MAX_PROPERTY} bytes of printable text"),
            );
        }
    }
}

#[cfg(test)]
mod tests;
