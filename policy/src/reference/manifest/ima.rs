//! The section of a manifest about files that Linux IMA measures.
//!
//! ```toml
//! [ima]
//! exclude = ["/tmp/**"]
//! keys = ["<SubjectPublicKeyInfo or certificate, PEM or base64>"]
//! version1_keys = ["<RSA key whose version 1 signatures count too>"]
//! violations = "refuse"
//!
//! [[ima.file]]
//! path = "/usr/bin/press"
//! digest = ["sha256:<64 hex digits>"]
//! ```
//!
//! A measured file is approved if its path is excluded, if its path is listed with its digest, or if it is
//! signed by one of the keys. Everything else is unknown. Linux writes spaces in paths as `_`; a path is
//! compared as Linux writes it, so one with a space stands for the same one with `_` too.
//!
//! Version 1 signatures rest on SHA-1, for which collisions can be made: whoever gets a harmless file signed may
//! have made a harmful one with it. List a key in `version1_keys` only where files cannot be signed anew.
//!
//! The path of a record is what the process saw in its own mount namespace: whoever may mount can make any
//! file appear below an excluded folder. Exclude only what nothing may run from.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use crate::eventlog::ima::key::ImaKey;
use crate::reference::hash_text::HashText;
use crate::tpm::alg::HashValue;

/// Most files of one release; the manifest's length bounds them before that.
pub const MAX_FILES: usize = 16_384;
/// Most excluded paths.
pub const MAX_EXCLUDED: usize = 256;
/// Most keys: each signature may be tried against those that share its short id.
pub const MAX_KEYS: usize = 16;
/// Longest path in bytes (`PATH_MAX` of Linux).
pub const MAX_PATH: usize = 4096;

/// What a release says about violations: files that were written while they were measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Violations {
    /// Each counts against the device.
    #[default]
    Refuse,
    /// They are ignored.
    Allow,
}

impl Violations {
    /// How a manifest writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Allow => "allow",
        }
    }
}

/// Paths that are not appraised: one path, or everything below a folder (`/tmp/**`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Excluded(pub(super) String);

impl Excluded {
    fn covers(&self, path: &str) -> bool {
        match self.0.strip_suffix("**") {
            Some(folder) => {
                path.as_bytes().get(..folder.len()).is_some_and(|front| is_written(folder, front))
            }
            None => is_written(&self.0, path.as_bytes()),
        }
    }

    /// As the manifest writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a release approves of files.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ImaRules {
    pub(super) files: BTreeMap<String, BTreeSet<HashValue>>,
    pub(super) exclude: BTreeSet<Excluded>,
    pub(super) keys: Vec<ImaKey>,
    pub(super) violations: Violations,
}

impl ImaRules {
    /// The digests of the file at `path`, as Linux writes the path; none if it is not listed.
    #[must_use]
    pub fn digests(&self, path: &str) -> Option<&BTreeSet<HashValue>> {
        self.files.get(path)
    }

    /// Files and their digests, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &BTreeSet<HashValue>)> {
        self.files.iter().map(|(path, digests)| (path.as_str(), digests))
    }

    /// The same rules with these files in place of the listed ones.
    pub(crate) fn with_files(self, files: BTreeMap<String, BTreeSet<HashValue>>) -> Self {
        Self { files, ..self }
    }

    /// Whether `path`, as Linux writes it, is not appraised.
    #[must_use]
    pub fn excludes(&self, path: &str) -> bool {
        self.exclude.iter().any(|excluded| excluded.covers(path))
    }

    /// The keys whose signature approves a file.
    #[must_use]
    pub fn keys(&self) -> &[ImaKey] {
        &self.keys
    }

    /// What is said about violations.
    #[must_use]
    pub const fn violations(&self) -> Violations {
        self.violations
    }
}

/// Linux writes spaces in names as `_` (`ima_write_template_field_data`).
pub(super) fn as_linux_writes(path: &str) -> String {
    path.replace(' ', "_")
}

/// Whether Linux writes `path` so.
fn is_written(path: &str, so: &[u8]) -> bool {
    path.bytes().map(|byte| if byte == b' ' { b'_' } else { byte }).eq(so.iter().copied())
}

/// The keys whose version 1 signatures count, or the others, in canonical form: what they were read from, in
/// base64.
pub(super) fn key_texts(keys: &[ImaKey], version1: bool) -> Vec<String> {
    let listed = keys.iter().filter(|key| key.counts_version1() == version1);
    listed.map(|key| STANDARD.encode(key.der())).collect()
}

#[derive(Serialize)]
struct FileDocument<'a> {
    path: &'a str,
    digest: Vec<HashText>,
}

impl<'a> From<(&'a str, &BTreeSet<HashValue>)> for FileDocument<'a> {
    fn from((path, digests): (&'a str, &BTreeSet<HashValue>)) -> Self {
        Self { path, digest: digests.iter().copied().map(HashText).collect() }
    }
}

impl Serialize for ImaRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document<'a> {
            exclude: &'a BTreeSet<Excluded>,
            keys: Vec<String>,
            version1_keys: Vec<String>,
            violations: Violations,
            file: Vec<FileDocument<'a>>,
        }

        Document {
            exclude: &self.exclude,
            keys: key_texts(&self.keys, false),
            version1_keys: key_texts(&self.keys, true),
            violations: self.violations,
            file: self.files().map(FileDocument::from).collect(),
        }
        .serialize(serializer)
    }
}
