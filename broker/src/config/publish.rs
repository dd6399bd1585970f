//! `[publish]`: what the plant tells whoever asks, over HTTPS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use policy::id::ZoneName;
use serde::Deserialize;

/// Longest address that is told to clients.
const MAX_URL: usize = 200;

/// What is published, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Where it listens. Port 0 takes a free one; `publish-address` in the folder names it.
    pub listen: SocketAddr,
    /// The address that clients reach it at, `https://` and without a path or slash at its end.
    pub url: Option<String>,
    /// The zone that Margo clients are told of.
    pub margo: Option<ZoneName>,
    /// The server certificate; none: one under the plant root, as on the broker's own port.
    pub server: Option<ServerFiles>,
}

/// A server certificate of the operator's, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The section as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPublish {
    listen: String,
    url: Option<String>,
    margo_zone: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

/// What is meant; what is wrong with it goes to `faults`.
pub(super) fn publish(dir: &Path, raw: RawPublish, faults: &mut Vec<String>) -> Option<Publish> {
    let before = faults.len();
    let mut fault = |text: String| faults.push(text);
    let listen = raw.listen.parse();
    if listen.is_err() {
        fault(format!("publish.listen: `{}` is no address; write for example 0.0.0.0:8444", raw.listen));
    }
    let url = raw.url.map(|url| url.trim_end_matches('/').to_owned());
    if url.as_deref().is_some_and(|url| !is_origin(url)) {
        fault(
            "publish.url: write the address of this endpoint, for example https://trust.plant.example:8444"
                .to_owned(),
        );
    }
    let margo = raw
        .margo_zone
        .and_then(|zone| zone.parse().map_err(|error| fault(format!("publish.margo_zone: {error}"))).ok());
    if margo.is_some() && url.is_none() {
        fault("publish.margo_zone: Margo clients are told an address; write publish.url too".to_owned());
    }
    let server = match (raw.certificate, raw.key) {
        (Some(certificate), Some(key)) => {
            Some(ServerFiles { certificate: dir.join(certificate), key: dir.join(key) })
        }
        (None, None) => None,
        _ => {
            fault("publish.certificate, publish.key: write both, or neither".to_owned());
            None
        }
    };
    if faults.len() > before {
        return None;
    }
    Some(Publish { listen: listen.ok()?, url, margo, server })
}

/// Whether it is `https://` and a host with or without a port.
fn is_origin(url: &str) -> bool {
    let host = url.strip_prefix("https://").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    !host.is_empty() && url.len() <= MAX_URL && host.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Publish>, Vec<String>) {
        let mut faults = Vec::new();
        let found = publish(Path::new("/b"), toml::from_str(text).unwrap(), &mut faults);
        (found, faults)
    }

    #[test]
    fn a_section_is_read_as_it_is_meant() {
        let (found, faults) = read(
            "listen = \"127.0.0.1:0\"\nurl = \"https://trust.plant.example:8444/\"\nmargo_zone = \"cell-3\"\n\
             certificate = \"web.pem\"\nkey = \"web.key\"\n",
        );
        assert_eq!(faults, Vec::<String>::new());
        let found = found.unwrap();
        assert_eq!(found.url.as_deref(), Some("https://trust.plant.example:8444"));
        assert_eq!(found.server.unwrap().key, Path::new("/b/web.key"));
    }

    #[test]
    fn every_fault_names_its_key() {
        let (found, faults) =
            read("listen = \"here\"\nurl = \"http://x/a\"\nmargo_zone = \"Cell\"\nkey = \"web.key\"\n");
        assert_eq!(found, None);
        let keys = ["publish.listen", "publish.url", "publish.margo_zone", "publish.certificate"];
        assert!(faults.iter().zip(keys).all(|(fault, key)| fault.starts_with(key)), "{faults:?}");
        assert_eq!(faults.len(), keys.len(), "{faults:?}");
        let (_, faults) = read("listen = \"127.0.0.1:0\"\nmargo_zone = \"cell-3\"\n");
        assert!(faults[0].contains("write publish.url too"), "{faults:?}");
    }
}
