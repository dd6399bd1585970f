//! Local files of `golden`: manifests to read, envelopes to look into before the broker does.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use policy::cause::chain;
use policy::reference::manifest::Manifest;
use serde::Deserialize;

use crate::failure::{Failure, Result};
use crate::file;

/// A file that holds a release, signed or not.
pub(crate) struct LocalRelease {
    /// What may boot.
    pub(crate) manifest: Manifest,
    /// Key ids as the envelope claims them; nothing here verifies a signature.
    pub(crate) claimed_signers: Vec<String>,
    /// The bytes of the envelope, if it is one.
    pub(crate) envelope: Option<Vec<u8>>,
}

/// The parts of a DSSE envelope that are shown before anything is verified.
#[derive(Deserialize)]
struct Outside {
    payload: String,
    signatures: Vec<Claim>,
}

#[derive(Deserialize)]
struct Claim {
    #[serde(default)]
    keyid: String,
}

impl LocalRelease {
    /// Reads a manifest in TOML or an envelope in JSON.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = file::read_text(path)?;
        if text.trim_start().starts_with('{') { Self::unpack(path, &text) } else { Self::plain(path, &text) }
    }

    fn plain(path: &Path, text: &str) -> Result<Self> {
        Ok(Self { manifest: parse(path, text)?, claimed_signers: Vec::new(), envelope: None })
    }

    fn unpack(path: &Path, text: &str) -> Result<Self> {
        let fault = |why: String| {
            Failure::unusable(format!("{}: no signed release: {why}", path.display()))
                .next("make it with `touchstone golden sign FILE`")
        };
        let outside: Outside = serde_json::from_str(text).map_err(|e| fault(e.to_string()))?;
        let payload = BASE64_STANDARD.decode(&outside.payload).map_err(|e| fault(e.to_string()))?;
        let manifest = String::from_utf8(payload).map_err(|e| fault(e.to_string()))?;
        Ok(Self {
            manifest: parse(path, &manifest)?,
            claimed_signers: outside.signatures.into_iter().map(|claim| claim.keyid).collect(),
            envelope: Some(text.as_bytes().to_vec()),
        })
    }
}

fn parse(path: &Path, text: &str) -> Result<Manifest> {
    Manifest::parse(text).map_err(|e| Failure::unusable(format!("{}: {}", path.display(), chain(&e))))
}
