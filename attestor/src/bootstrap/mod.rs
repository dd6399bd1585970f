//! How a device without a written configuration learns whom to believe: from credentials of systemd, the kernel command
//! line, or the strings that a hypervisor or a factory put into SMBIOS.
//!
//! Promises: a value that attestor.toml states is looked for nowhere else, and each other in the order of [`Sources`]; a
//! malformed value is refused with its source, never passed over; everything that is read is bounded. A plant root that is
//! known by its fingerprint alone is fetched from the broker and compared before anything is believed. Does not promise
//! more than the sources do: who may write the kernel command line may write this, unless it is measured.

mod command_line;
mod fetch;
mod prepare;
mod smbios;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use policy::digest::Digest;
use zeroize::Zeroizing;

use crate::config::BrokerAddress;
use crate::durable;

pub use fetch::FetchError;
pub use prepare::{PrepareError, prepare};

/// The broker's address.
const BROKER: &str = "touchstone.broker";
/// The plant root, PEM.
const ROOT: &str = "touchstone.plant-root";
/// SHA-256 of the plant root's public key, as `touchstone-broker init` prints it.
const FINGERPRINT: &str = "touchstone.root_sha256";
/// A join token.
const TOKEN: &str = "touchstone.token";

/// Where a plant root that came as a text or was fetched is kept, in the state folder.
pub(crate) const ROOT_FILE: &str = "plant-root.pem";
/// Where a token that came as a text is kept, beside it.
pub(crate) const TOKEN_FILE: &str = "join-token";
/// Longest value in bytes: a certificate takes about 900 in PEM.
const MAX_VALUE: u64 = 16 * 1024;

/// Where the unit has its credentials from (systemd.exec(5), `LoadCredential=`): whoever calls the program by hand, for
/// `doctor` or `reset`, is given no folder of them.
const CREDENTIALS: [&str; 5] = [
    "/run/credentials/touchstone-attestor.service",
    "/etc/credstore",
    "/run/credstore",
    "/usr/local/lib/credstore",
    "/usr/lib/credstore",
];

/// Where values are looked for, in this order.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Folders of the unit's credentials, the first that has one counts.
    pub credentials: Vec<PathBuf>,
    /// The kernel command line.
    pub command_line: PathBuf,
    /// Folder of SMBIOS structures as the kernel shows them.
    pub smbios: PathBuf,
}

impl Sources {
    /// Those of this machine.
    #[must_use]
    pub fn of_machine() -> Self {
        let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let (command_line, smbios) = ("/proc/cmdline".into(), "/sys/firmware/dmi/entries".into());
        let credentials = match given.filter(|path| path.is_absolute()) {
            Some(given) => vec![given],
            // Those of root are no fault of whoever may not look into them.
            None => {
                let readable = CREDENTIALS.iter().filter(|folder| std::fs::read_dir(folder).is_ok());
                readable.map(PathBuf::from).collect()
            }
        };
        Self { credentials, command_line, smbios }
    }

    /// None: everything is written.
    #[must_use]
    pub fn none() -> Self {
        Self { credentials: Vec::new(), command_line: PathBuf::new(), smbios: PathBuf::new() }
    }

    /// The value `name`, from the first source that has it.
    fn find(&self, name: &'static str) -> Result<Option<Found>, SourceError> {
        if let Some(found) = self.credential(name)? {
            return Ok(Some(found));
        }
        // Everybody on the machine reads it.
        if name != TOKEN
            && let Some(found) = command_line::find(&self.command_line, name)?
        {
            return Ok(Some(found));
        }
        smbios::find(&self.smbios, name)
    }

    fn credential(&self, name: &'static str) -> Result<Option<Found>, SourceError> {
        for file in self.credentials.iter().map(|folder| folder.join(name)) {
            if let Some(found) = Found::read(name, &file, Source::Credential(file.clone()))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// attestor.toml.
    Configuration,
    /// A credential of systemd.
    Credential(PathBuf),
    /// The kernel command line.
    CommandLine(PathBuf),
    /// A string of SMBIOS.
    Smbios(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("the configuration"),
            Self::Credential(file) => write!(f, "the credential {}", file.display()),
            Self::CommandLine(file) => write!(f, "the kernel command line ({})", file.display()),
            Self::Smbios(file) => write!(f, "the SMBIOS strings ({})", file.display()),
        }
    }
}

/// A value cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{name} in {origin}: {fault}")]
pub struct SourceError {
    name: &'static str,
    origin: Source,
    fault: String,
}

/// A value that was found.
struct Found {
    name: &'static str,
    bytes: Zeroizing<Vec<u8>>,
    source: Source,
}

impl Found {
    fn new(name: &'static str, bytes: impl Into<Vec<u8>>, source: Source) -> Result<Self, SourceError> {
        let found = Self { name, bytes: Zeroizing::new(bytes.into()), source };
        match u64::try_from(found.bytes.len()).is_ok_and(|length| (1..=MAX_VALUE).contains(&length)) {
            true => Ok(found),
            false => Err(found.refuse(format!("write 1 to {MAX_VALUE} bytes"))),
        }
    }

    /// What is in `file`, if it is there.
    fn read(name: &'static str, file: &Path, source: Source) -> Result<Option<Self>, SourceError> {
        match read(file) {
            Ok(Some(bytes)) => Self::new(name, bytes, source).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(SourceError { name, origin: source, fault: error.to_string() }),
        }
    }

    fn refuse(&self, fault: impl fmt::Display) -> SourceError {
        SourceError { name: self.name, origin: self.source.clone(), fault: fault.to_string() }
    }

    /// The value as a line of text.
    fn parse<T: FromStr<Err: fmt::Display>>(&self) -> Result<T, SourceError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|_| self.refuse("it is no UTF-8 text"))?;
        text.trim().parse().map_err(|error| self.refuse(error))
    }
}

/// A file that may be missing; one that only root may read is as good as missing for others.
fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    match durable::read_bounded(file, MAX_VALUE) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A plant root that attestor.toml does not state.
pub(crate) enum Root {
    /// In this file.
    File(PathBuf),
    /// This one, PEM.
    Text(Zeroizing<Vec<u8>>),
    /// The one whose key has this digest.
    Fingerprint(Digest),
}

/// A join token that it does not state.
pub(crate) enum Token {
    /// In this file.
    File(PathBuf),
    /// This one.
    Text(Zeroizing<Vec<u8>>),
}

/// The broker's address.
pub(crate) fn broker(sources: &Sources) -> Result<Option<(BrokerAddress, Source)>, SourceError> {
    let found = sources.find(BROKER)?;
    found.map(|found| Ok((found.parse()?, found.source))).transpose()
}

/// The plant root: the certificate if there is one, or its fingerprint.
pub(crate) fn root(sources: &Sources) -> Result<Option<(Root, Source)>, SourceError> {
    if let Some(found) = sources.find(ROOT)? {
        let root = match &found.source {
            Source::Credential(file) => Root::File(file.clone()),
            Source::Configuration | Source::CommandLine(_) | Source::Smbios(_) => Root::Text(found.bytes),
        };
        return Ok(Some((root, found.source)));
    }
    let Some(found) = sources.find(FINGERPRINT)? else { return Ok(None) };
    let Hex(digest) = found.parse()?;
    Ok(Some((Root::Fingerprint(digest), found.source)))
}

/// The join token.
pub(crate) fn token(sources: &Sources) -> Result<Option<(Token, Source)>, SourceError> {
    let Some(found) = sources.find(TOKEN)? else { return Ok(None) };
    let token = match &found.source {
        Source::Credential(file) => Token::File(file.clone()),
        Source::Configuration | Source::CommandLine(_) | Source::Smbios(_) => Token::Text(found.bytes),
    };
    Ok(Some((token, found.source)))
}

/// SHA-256 in hex, with or without its name before it.
struct Hex(Digest);

impl FromStr for Hex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let bytes = hex::decode(hex).ok().filter(|bytes| bytes.len() == 32);
        let digest = bytes.and_then(|bytes| Digest::try_from(bytes.as_slice()).ok());
        digest.map(Self).ok_or_else(|| {
            "write the 64 hex digits that `touchstone-broker init` printed as plant root".to_owned()
        })
    }
}

#[cfg(test)]
mod tests;
