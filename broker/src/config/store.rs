//! `[store]`: where the broker keeps its state.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::store::etcd::{EtcdOptions, EtcdTls};

/// What the plant's keys in etcd begin with, unless it is told otherwise.
pub const PREFIX: &str = "touchstone";

/// Where the broker keeps its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Backend {
    /// In its own folder.
    #[default]
    Sled,
    /// On etcd.
    Etcd(EtcdOptions),
}

impl Backend {
    /// Whether other brokers may work on it too.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        match self {
            Self::Sled => false,
            Self::Etcd(_) => true,
        }
    }
}

/// `[store]`, key for key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    backend: RawBackend,
    #[serde(default)]
    endpoints: Vec<String>,
    prefix: Option<String>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawBackend {
    #[default]
    Sled,
    Etcd,
}

/// What `[store]` of the broker's folder `dir` means.
pub(super) fn backend(dir: &Path, raw: RawStore, faults: &mut Vec<String>) -> Backend {
    let at = |file: PathBuf| dir.join(file);
    match raw.backend {
        RawBackend::Sled => {
            let files = [&raw.ca, &raw.certificate, &raw.key];
            if !raw.endpoints.is_empty() || raw.prefix.is_some() || files.iter().any(|file| file.is_some()) {
                faults.push(
                    "store.backend: the other keys are for \"etcd\"; write that, or remove them".to_owned(),
                );
            }
            Backend::Sled
        }
        RawBackend::Etcd => {
            if raw.endpoints.is_empty() {
                faults.push(
                    "store.endpoints: name etcd's nodes, for example [\"https://host:2379\"]".to_owned(),
                );
            }
            let prefix = raw.prefix.unwrap_or_else(|| PREFIX.to_owned());
            if !is_prefix(&prefix) {
                faults.push(format!("store.prefix: `{prefix}` is not 1 to 64 of a-z, 0-9, `-`, `/`"));
            }
            let tls = match (raw.ca, raw.certificate, raw.key) {
                (Some(ca), Some(certificate), Some(key)) => {
                    Some(EtcdTls { ca: at(ca), certificate: at(certificate), key: at(key) })
                }
                (None, None, None) => None,
                _ => {
                    faults.push("store.ca, store.certificate, store.key: write all three or none".to_owned());
                    None
                }
            };
            Backend::Etcd(EtcdOptions { endpoints: raw.endpoints, prefix, tls })
        }
    }
}

/// Keys in etcd are prefix, generation and the store's own key: ASCII that needs no quoting.
fn is_prefix(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-/".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

/// The section that `init` writes for `backend`.
pub(crate) fn section(backend: &Backend) -> String {
    let Backend::Etcd(options) = backend else { return String::new() };
    let nodes: Vec<String> = options.endpoints.iter().map(|endpoint| format!("{endpoint:?}")).collect();
    let mut text = format!(
        "\n# Where the plant lives instead of this folder; event logs and evidence stay here.\n\
         [store]\nbackend = \"etcd\"\nendpoints = [{}]\nprefix = {:?}\n",
        nodes.join(", "),
        options.prefix
    );
    if let Some(tls) = &options.tls {
        for (key, file) in [("ca", &tls.ca), ("certificate", &tls.certificate), ("key", &tls.key)] {
            text.push_str(&format!("{key} = {:?}\n", file.display().to_string()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Backend, Vec<String>) {
        let mut faults = Vec::new();
        let found = backend(Path::new("/b"), toml::from_str(text).unwrap(), &mut faults);
        (found, faults)
    }

    #[test]
    fn what_init_writes_is_what_was_meant() {
        let tls = EtcdTls { ca: "/b/ca".into(), certificate: "/b/c".into(), key: "/b/k".into() };
        let endpoints = vec!["https://a:2379".to_owned(), "https://b:2379".to_owned()];
        let meant = Backend::Etcd(EtcdOptions { endpoints, prefix: "plant-1".to_owned(), tls: Some(tls) });
        let text = section(&meant);
        let text = text.split_once("[store]").unwrap().1;
        assert_eq!(read(text), (meant, Vec::new()));
        assert_eq!(section(&Backend::Sled), "");
    }

    #[test]
    fn every_fault_names_its_key() {
        let (_, faults) = read("backend = \"etcd\"\nprefix = \"A b\"\nca = \"ca\"\n");
        let keys = ["store.endpoints:", "store.prefix:", "store.ca,"];
        assert!(faults.iter().zip(keys).all(|(fault, key)| fault.starts_with(key)), "{faults:?}");
        assert_eq!(faults.len(), keys.len(), "{faults:?}");
        let (found, faults) = read("backend = \"sled\"\nendpoints = [\"http://127.0.0.1:2379\"]\n");
        assert_eq!(found, Backend::Sled);
        assert!(faults[0].contains("for \"etcd\""), "{faults:?}");
    }
}
