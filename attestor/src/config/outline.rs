//! Whom to believe, before the rest of the configuration means anything: what attestor.toml states, else what the machine
//! was given.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::raw::Raw;
use super::{
    BrokerAddress, Config, ConfigError, DEFAULT_STATE, Faults, Local, MAX_FILE, interpret, interpret_local,
    one_line,
};
use crate::bootstrap::{self, ROOT_FILE, Root, Source, SourceError, Sources, TOKEN_FILE, Token};
use crate::durable;
use crate::plant::PlantRoot;
use crate::telemetry::LogFormat;

/// The configuration as far as it must be known to fetch the rest.
pub struct Outline {
    file: PathBuf,
    raw: Raw,
    /// Folder of what survives a restart.
    pub(crate) state: PathBuf,
    /// What attestor.toml does not state.
    pub(crate) broker: Option<(BrokerAddress, Source)>,
    pub(crate) root: Option<(Root, Source)>,
    pub(crate) token: Option<(Token, Source)>,
}

/// Where the broker's address, the plant root and the join token come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    /// The broker's address.
    pub broker: Source,
    /// The plant root.
    pub plant_root: Source,
    /// The join token.
    pub token: Source,
}

impl Origins {
    /// All of it is written.
    pub(super) const WRITTEN: Self = Self {
        broker: Source::Configuration,
        plant_root: Source::Configuration,
        token: Source::Configuration,
    };
}

impl Outline {
    /// Reads the configuration `file`, which may be missing where `sources` say whom to believe.
    pub fn read(file: &Path, sources: &Sources) -> Result<Self, ConfigError> {
        let fail = |fault: String| ConfigError { file: file.to_owned(), faults: vec![fault] };
        let given = |error: SourceError| fail(error.to_string());
        let (text, missing) = match durable::read_bounded(file, MAX_FILE) {
            Ok(bytes) => (bytes, None),
            Err(error) if error.kind() == ErrorKind::NotFound => (Vec::new(), Some(error)),
            Err(error) => return Err(fail(format!("{error}; correct it or name another with --config"))),
        };
        let text = String::from_utf8(text).map_err(|_| fail("it is no UTF-8 text".to_owned()))?;
        let raw: Raw = toml::from_str(&text).map_err(|error| fail(one_line(&text, &error)))?;
        let broker = if raw.broker.is_none() { bootstrap::broker(sources).map_err(given)? } else { None };
        let root = if raw.plant_root.is_none() { bootstrap::root(sources).map_err(given)? } else { None };
        if let (Some(error), true) = (missing, broker.is_none() && root.is_none()) {
            return Err(fail(format!(
                "{error}; write it, name another with --config, or give the machine touchstone.broker and \
                 touchstone.root_sha256 (README.md, Bootstrap)"
            )));
        }
        let stated = raw.join_token_file.is_some();
        let token = if stated { None } else { bootstrap::token(sources).map_err(given)? };
        let base = file.parent().unwrap_or(Path::new("/"));
        let state = base.join(raw.state.as_deref().unwrap_or(DEFAULT_STATE));
        Ok(Self { file: file.to_owned(), raw, state, broker, root, token })
    }

    /// How its log is written; a fault in it is reported with all the others.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        if self.raw.log_format.as_deref() == Some("json") { LogFormat::Json } else { LogFormat::Text }
    }

    /// The broker that is asked first, if it can be read.
    pub(crate) fn broker(&self) -> Option<BrokerAddress> {
        let given = self.broker.as_ref().map(|(address, _)| address.clone());
        given.or_else(|| self.raw.broker.as_ref()?.parse().ok())
    }

    /// The files of the plant root and of the join token, where an operator put them.
    pub(crate) fn operators_files(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        let base = self.file.parent().unwrap_or(Path::new("/"));
        let root = match &self.root {
            Some((Root::File(file), _)) => Some(file.clone()),
            Some((Root::Text(_) | Root::Fingerprint(_), _)) | None => {
                self.raw.plant_root.as_ref().map(|file| base.join(file))
            }
        };
        let token = match &self.token {
            Some((Token::File(file), _)) => Some(file.clone()),
            Some((Token::Text(_), _)) | None => self.raw.join_token_file.as_ref().map(|file| base.join(file)),
        };
        (root, token)
    }

    /// What it means, once everything that it needs is here.
    pub fn finish(mut self) -> Result<Config, ConfigError> {
        let mut faults = Faults(Vec::new());
        let origins = self.fill(&mut faults);
        let base = self.file.parent().unwrap_or(Path::new("/")).to_owned();
        if let (None, Some(root)) = (&self.raw.plant, &self.raw.plant_root) {
            // What cannot be read has no name, and is refused as missing.
            let plant = PlantRoot::load(&base.join(root)).ok().and_then(|root| root.plant());
            self.raw.plant = plant.map(|plant| plant.to_string());
        }
        match (interpret(&base, &self.raw, &mut faults), faults.0) {
            (Some(config), faults) if faults.is_empty() => Ok(Config { origins, ..config }),
            (_, faults) => Err(ConfigError { file: self.file, faults }),
        }
    }

    /// What it says of this machine alone; faults of the rest are not looked for.
    pub fn local(self) -> Result<Local, ConfigError> {
        let mut faults = Faults(Vec::new());
        let base = self.file.parent().unwrap_or(Path::new("/"));
        match (interpret_local(base, &self.raw, &mut faults), faults.0) {
            (Some(local), faults) if faults.is_empty() => Ok(local),
            (_, faults) => Err(ConfigError { file: self.file, faults }),
        }
    }

    /// Puts what the machine was given where attestor.toml states nothing.
    fn fill(&mut self, faults: &mut Faults) -> Origins {
        let mut origins = Origins::WRITTEN;
        if let Some((address, source)) = self.broker.take() {
            self.raw.broker = Some(address.to_string());
            origins.broker = source;
        }
        if let Some((root, source)) = self.root.take() {
            let file = self.state.join(ROOT_FILE);
            let file = match root {
                Root::File(file) => file,
                Root::Text(text)
                    if durable::read_bounded(&file, MAX_FILE).is_ok_and(|held| held == *text) =>
                {
                    file
                }
                Root::Fingerprint(digest)
                    if PlantRoot::load(&file).is_ok_and(|root| root.spki_digest() == digest) =>
                {
                    file
                }
                Root::Text(_) | Root::Fingerprint(_) => {
                    faults.add(
                        "plant_root",
                        format_args!("the attestor takes it from {source} when it starts; it has not yet"),
                    );
                    file
                }
            };
            self.raw.plant_root = Some(file.display().to_string());
            origins.plant_root = source;
        }
        if let Some((token, source)) = self.token.take() {
            let file = match token {
                Token::File(file) => file,
                Token::Text(_) => self.state.join(TOKEN_FILE),
            };
            self.raw.join_token_file = Some(file.display().to_string());
            origins.token = source;
        }
        origins
    }
}
