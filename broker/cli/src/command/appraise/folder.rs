//! An evidence folder: which files it holds, read whole and bounded.
//!
//! A file that is there and cannot be read refuses the folder. It never counts as absent, or a quote
//! could be made to vanish.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use policy::budget::MAX_IMA_BYTES;
use policy::cause::chain;
use policy::evidence::offline::{Folder, OfflineEvidence, Parsed, QuoteFiles, RefutedError};

use crate::failure::{Failure, Result};
use crate::file;

const LOG: &str = "eventlog.bin";
const PCRS: &str = "pcrs.txt";
const QUOTE: &str = "quote.bin";
const SIGNATURE: &str = "quote.sig";
const AK: &str = "ak.pub";
const NONCE: &str = "nonce.bin";
const EK: &str = "ek.crt";
const IMA: &str = "ima.bin";
const USERSPACE: &str = "userspace.log";

/// The files of a folder.
pub(crate) struct EvidenceFolder {
    path: PathBuf,
    log: Vec<u8>,
    pcrs: Vec<u8>,
    userspace: Option<Vec<u8>>,
    ima: Option<Vec<u8>>,
    quote: Option<Quote>,
    /// The EK certificate.
    pub(super) ek: Option<Vec<u8>>,
    /// What is there and not used, one line each.
    pub(super) notes: Vec<String>,
}

struct Quote {
    attest: Vec<u8>,
    signature: Vec<u8>,
    ak: Vec<u8>,
    nonce: Vec<u8>,
}

impl EvidenceFolder {
    /// Reads the folder; a quote comes whole or not at all.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Failure::unusable(format!("{}: no folder", path.display()))
                .next("name the folder that holds eventlog.bin and pcrs.txt"));
        }
        let needed = |name: &str| read(path, name)?.ok_or_else(|| missing(path, name, "evidence needs it"));
        let quote = quote(path)?;
        let mut notes = Vec::new();
        for name in [AK, NONCE] {
            if quote.is_none() && is_there(path, name)? {
                notes.push(format!("{name} is there without a quote and not used"));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            log: needed(LOG)?,
            pcrs: needed(PCRS)?,
            userspace: read(path, USERSPACE)?,
            ima: read(path, IMA)?,
            quote,
            ek: read(path, EK)?,
            notes,
        })
    }

    /// What the files tell: evidence, or how they contradict each other.
    pub(crate) fn verify(&self) -> Result<std::result::Result<OfflineEvidence, RefutedError>> {
        let quote = self.quote.as_ref().map(|quote| QuoteFiles {
            attest: &quote.attest,
            signature: &quote.signature,
            ak: &quote.ak,
            nonce: &quote.nonce,
        });
        let folder = Folder {
            firmware_log: &self.log,
            pcrs: &self.pcrs,
            userspace: self.userspace.as_deref(),
            ima: self.ima.as_deref(),
            quote,
        };
        let parsed = Parsed::parse(&folder)
            .map_err(|e| Failure::unusable(format!("{}: {}", self.path.display(), chain(&e))))?;
        Ok(parsed.verify())
    }
}

fn quote(path: &Path) -> Result<Option<Quote>> {
    let (attest, signature) = (read(path, QUOTE)?, read(path, SIGNATURE)?);
    if attest.is_none() && signature.is_none() {
        return Ok(None);
    }
    let with = |found: Option<Vec<u8>>, name| found.ok_or_else(|| missing(path, name, "a quote needs it"));
    Ok(Some(Quote {
        attest: with(attest, QUOTE)?,
        signature: with(signature, SIGNATURE)?,
        ak: with(read(path, AK)?, AK)?,
        nonce: with(read(path, NONCE)?, NONCE)?,
    }))
}

fn missing(path: &Path, name: &str, why: &str) -> Failure {
    Failure::unusable(format!("{}: no such file; {why}", path.join(name).display()))
}

/// Whether the folder has an entry of this name, be it one that leads nowhere.
fn is_there(path: &Path, name: &str) -> Result<bool> {
    let file = path.join(name);
    match fs::symlink_metadata(&file) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::unusable(format!("{}: {error}", file.display()))),
    }
}

fn read(path: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    if !is_there(path, name)? {
        return Ok(None);
    }
    let file = path.join(name);
    let unusable = |why: String| Failure::unusable(format!("{}: {why}", file.display()));
    // A pipe would never end.
    if !fs::metadata(&file).map_err(|e| unusable(e.to_string()))?.is_file() {
        return Err(unusable("no regular file".to_owned()));
    }
    // The list is the largest file, and what is longer than its own bound its parser refuses.
    let limit = u64::try_from(MAX_IMA_BYTES).unwrap_or(u64::MAX);
    file::read_up_to(&file, limit).map(Some)
}
