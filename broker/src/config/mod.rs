//! What the broker is told: one TOML file in its folder, validated before any port opens.
//!
//! All faults are reported at once, each with its key and the remedy.

mod publish;
mod raw;
pub mod store;
mod tpm_deny;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use policy::evidence::flaw::DenyRule;

pub use self::publish::{Publish, ServerFiles};
use self::raw::Raw;
pub use self::store::Backend;

/// Name of the configuration file in the broker's folder.
pub const FILE: &str = "broker.toml";

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker's folder: store, blobs, secrets.
    pub dir: PathBuf,
    /// Where it listens. Port 0 takes a free one; `address` in the folder names it.
    pub listen: SocketAddr,
    /// Where metrics are served in plain HTTP, if they are. Port 0 takes a free one; `metrics-address` in the folder
    /// names it.
    pub metrics: Option<SocketAddr>,
    /// What is published to whoever asks, if anything is.
    pub publish: Option<Publish>,
    /// Where the broker keeps its state.
    pub store: Backend,
    /// Files and folders with certificates of TPM manufacturers.
    pub tpm_roots: Vec<PathBuf>,
    /// Files and folders with certificates of manufacturers that give boxes an IDevID.
    pub idevid_roots: Vec<PathBuf>,
    /// TPMs that the operator believes less than their manufacturers do.
    pub tpm_deny: Vec<DenyRule>,
    /// Days for which audit records are kept.
    pub audit_keep_days: u64,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// Devices that may wait for an administrator at once.
    pub max_pending: usize,
    /// Seconds by which certificates are backdated, for clocks that run late.
    pub backdate: u64,
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
    /// Reads `broker.toml` of the broker's folder `dir`.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let file = dir.join(FILE);
        let text = std::fs::read_to_string(&file).map_err(|error| ConfigError {
            file: file.clone(),
            faults: vec![format!("{error}; run `touchstone-broker init --dir {}` first", dir.display())],
        })?;
        Self::parse(dir, &text).map_err(|faults| ConfigError { file, faults })
    }

    /// The configuration that `text` means for the folder `dir`, or all its faults.
    pub fn parse(dir: &Path, text: &str) -> Result<Self, Vec<String>> {
        let raw: Raw = toml::from_str(text).map_err(|error| vec![one_line(text, &error)])?;
        let mut faults = Vec::new();
        let listen = raw.listen.parse().unwrap_or_else(|_| {
            faults.push(format!("listen: `{}` is no address; write for example 0.0.0.0:8443", raw.listen));
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let metrics = raw.metrics.and_then(|text| match text.parse::<SocketAddr>() {
            Ok(address) => Some(address),
            Err(_) => {
                faults.push(format!("metrics: `{text}` is no address; write for example 127.0.0.1:9464"));
                None
            }
        });
        let mut within = |key: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                faults.push(format!("{key}: {value} is not within {low} to {high}"));
            }
        };
        within(
            "limits.connections",
            u64::try_from(raw.limits.connections).unwrap_or(u64::MAX),
            16,
            1_000_000,
        );
        within(
            "limits.pending_devices",
            u64::try_from(raw.limits.pending_devices).unwrap_or(u64::MAX),
            1,
            100_000,
        );
        within("limits.not_before_skew_seconds", raw.limits.not_before_skew_seconds, 0, 300);
        within("audit_keep_days", raw.audit_keep_days, 1, 36_500);
        let publish = raw.publish.and_then(|raw| publish::publish(dir, raw, &mut faults));
        let store = store::backend(dir, raw.store.unwrap_or_default(), &mut faults);
        let tpm_deny = tpm_deny::rules(&raw.tpm_deny, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            dir: dir.to_owned(),
            listen,
            metrics,
            publish,
            store,
            tpm_roots: raw.tpm_roots.iter().map(|path| dir.join(path)).collect(),
            idevid_roots: raw.idevid_roots.iter().map(|path| dir.join(path)).collect(),
            tpm_deny,
            audit_keep_days: raw.audit_keep_days,
            max_connections: raw.limits.connections,
            max_pending: raw.limits.pending_devices,
            backdate: raw.limits.not_before_skew_seconds,
        })
    }
}

/// The parser's words with the place they are about, and what to do.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let words: Vec<&str> = error.message().lines().map(str::trim).collect();
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (number, column) =
        (before.matches('\n').count(), before.chars().rev().take_while(|c| *c != '\n').count());
    let line: String = text.lines().nth(number).unwrap_or_default().trim().chars().take(80).collect();
    let (number, column) = (number.saturating_add(1), column.saturating_add(1));
    format!("line {number}, column {column} `{line}`: {}; correct this line", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_reported_at_once() {
        let text = "listen = \"here\"\nmetrics = \"9464\"\n[limits]\nconnections = 1\n";
        let faults = Config::parse(Path::new("/b"), text).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        let keys = ["listen:", "metrics:", "limits.connections:"];
        assert!(faults.iter().zip(keys).all(|(fault, key)| fault.starts_with(key)), "{faults:?}");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let faults = Config::parse(Path::new("/b"), "listen = \"127.0.0.1:0\"\nlisten2 = 1\n").unwrap_err();
        assert!(faults[0].contains("listen2"), "{faults:?}");
    }

    #[test]
    fn a_fault_of_syntax_names_its_place_in_one_line() {
        for (text, place) in [
            ("listen = \"127.0.0.1:0\"\n  listen2 = 1\n", "line 2, column 3 `listen2 = 1`: unknown field"),
            ("listen = 127.0.0.1:0\n", "line 1, column 15 `listen = 127.0.0.1:0`: "),
            ("", "line 1, column 1 ``: missing field `listen`"),
        ] {
            let faults = Config::parse(Path::new("/b"), text).unwrap_err();
            let said = ConfigError { file: "/b/broker.toml".into(), faults }.to_string();
            assert!(said.starts_with(&format!("/b/broker.toml cannot be used: {place}")), "{said}");
            assert!(said.ends_with("; correct this line") && said.lines().count() == 1, "{said}");
        }
    }
}
