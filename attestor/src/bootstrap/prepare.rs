//! What a start needs as files, made before the configuration is read.

use std::io;
use std::path::{Path, PathBuf};

use pem::{EncodeConfig, LineEnding, Pem, encode_config};

use super::fetch::{FetchError, fetch};
use super::{ROOT_FILE, Root, TOKEN_FILE, Token};
use crate::config::Outline;
use crate::durable;
use crate::plant::PlantRoot;

/// The device does not know whom to believe.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The broker does not show the plant root.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It cannot be kept.
    #[error("{} cannot be written: {source}; free space or correct its owner", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// Keeps what came as a text as a file of the state folder, and fetches the plant root if only its fingerprint is known.
/// Nothing is done where attestor.toml states it all.
pub async fn prepare(outline: &Outline) -> Result<(), PrepareError> {
    if let Some((Token::Text(text), _)) = &outline.token {
        keep(&outline.state, TOKEN_FILE, text)?;
    }
    let file = outline.state.join(ROOT_FILE);
    match &outline.root {
        Some((Root::Text(text), _)) => keep(&outline.state, ROOT_FILE, text),
        Some((Root::Fingerprint(fingerprint), _)) => {
            if PlantRoot::load(&file).is_ok_and(|held| held.spki_digest() == *fingerprint) {
                return Ok(());
            }
            // Without an address the configuration is refused, which says so.
            let Some((broker, _)) = &outline.broker else { return Ok(()) };
            let root = fetch(broker, *fingerprint).await?;
            tracing::info!(%fingerprint, %broker, "the plant root was fetched");
            let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
            keep(&outline.state, ROOT_FILE, encode_config(&Pem::new("CERTIFICATE", root), lines).as_bytes())
        }
        Some((Root::File(_), _)) | None => Ok(()),
    }
}

fn keep(state: &Path, name: &str, bytes: &[u8]) -> Result<(), PrepareError> {
    let file = state.join(name);
    if durable::read_bounded(&file, super::MAX_VALUE).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    let written = durable::make_dir(state, 0o700).and_then(|()| durable::replace(&file, bytes, 0o600));
    written.map_err(|source| PrepareError::Write { file, source })
}

impl PrepareError {
    /// Whether it may mend itself: the network comes up later than the device.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Unreachable { .. }))
    }
}
