//! Where the TPM is: the `tpm` key of the configuration.
//!
//! Strict on purpose. libtss2 and tss-esapi read an unknown or misspelt address as "localhost, port 2321" and
//! a bare `device` as `/dev/tpm0`, past the resource manager; here everything but the two full forms is an error.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// The address of a TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TpmAddress {
    /// A character device, normally the kernel's resource manager `/dev/tpmrm0`.
    Device(PathBuf),
    /// A software TPM on TCP; its control channel is on the next port.
    Swtpm(SocketAddr),
}

/// The text is no TPM address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no TPM address: write device:/dev/tpmrm0 (an absolute path) or swtpm:host=127.0.0.1,port=2321 \
     (an IP address and a port, in this order)"
)]
pub struct TpmAddressError {
    text: String,
}

impl FromStr for TpmAddress {
    type Err = TpmAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = match text.split_once(':') {
            Some(("device", path)) => parse_device(path),
            Some(("swtpm", socket)) => parse_swtpm(socket),
            _ => None,
        };
        address.ok_or_else(|| TpmAddressError { text: text.to_owned() })
    }
}

fn parse_device(path: &str) -> Option<TpmAddress> {
    // libtss2 takes the path as a C string.
    let plain = path.starts_with('/') && path.len() > 1 && !path.contains('\0');
    plain.then(|| TpmAddress::Device(path.into()))
}

fn parse_swtpm(text: &str) -> Option<TpmAddress> {
    let (host, port) = text.strip_prefix("host=")?.split_once(",port=")?;
    let host: IpAddr = host.parse().ok()?;
    let port: u16 = port.parse().ok().filter(|&port| port != 0)?;
    Some(TpmAddress::Swtpm(SocketAddr::new(host, port)))
}

/// The form that libtss2 and the tpm2 tools read as well (`TPM2TOOLS_TCTI`).
impl fmt::Display for TpmAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm(socket) => write!(f, "swtpm:host={},port={}", socket.ip(), socket.port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_forms_are_read_and_written_back() {
        for text in ["device:/dev/tpmrm0", "swtpm:host=127.0.0.1,port=2321", "swtpm:host=::1,port=9"] {
            assert_eq!(text.parse::<TpmAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn whatever_the_libraries_would_guess_is_refused() {
        for text in [
            "",
            "device",
            "device:",
            "device:/",
            "device:dev/tpm0",
            "swtpm",
            "swtpm:",
            "swtpm:port=1",
            "swtpm:host=127.0.0.1",
            "swtpm:host=localhost,port=1",
            "swtpm:port=1,host=127.0.0.1",
            "swtpm:host=127.0.0.1,port=0",
            "swtpm:host=127.0.0.1,port=65536",
            "swtpm:host=127.0.0.1,port=1,x=y",
            "mssim:host=127.0.0.1,port=1",
            "tabrmd",
            "/dev/tpmrm0",
            " device:/dev/tpmrm0",
        ] {
            let refusal = text.parse::<TpmAddress>().unwrap_err().to_string();
            assert!(refusal.contains("write device:/dev/tpmrm0"), "{refusal}");
        }
    }
}
