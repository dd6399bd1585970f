//! Delivery: certificates, keys and trust files for local software, as one whole.
//!
//! Promises: a [`Delivery`] holds only certificates together with the very keys they certify, and every trust file
//! together with its CRLs; a [`FileSink`] shows software either the old delivery or the new one, never a mixture,
//! also across a power cut; what was delivered stays when attestor or broker are away.
//! Does not promise that software reads its files again: that is for [`crate::hooks`].

mod acl;
mod compose;
mod files;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use policy::digest::Digest;
use zeroize::Zeroizing;

pub use compose::ComposeError;
pub(crate) use files::{CURRENT, CURRENT_NEW, GENERATIONS};
pub use files::{FileSink, InstallError};

/// Everybody may read certificates, CRLs and ACLs.
const PUBLIC: u32 = 0o644;

/// What is delivered: paths below the generation's folder, contents, modes and owners.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    files: BTreeMap<PathBuf, Content>,
}

/// One file. Key files of the TPM are no secrets outside it, yet only the group that serves TLS needs them; software
/// keys are secrets.
#[derive(Clone, PartialEq, Eq)]
struct Content {
    bytes: Zeroizing<Vec<u8>>,
    mode: u32,
    /// None: the attestor's own.
    user: Option<u32>,
    group: Option<u32>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, mode {:o}", self.bytes.len(), self.mode)
    }
}

impl Delivery {
    /// A digest of all paths, contents, modes and owners.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut flat = Vec::new();
        for (path, content) in &self.files {
            let path = Digest::of(path.as_os_str().as_encoded_bytes());
            flat.extend(path.0);
            flat.extend(Digest::of(&content.bytes).0);
            flat.extend(content.mode.to_be_bytes());
            for id in [content.user, content.group].into_iter().flatten() {
                flat.extend(id.to_be_bytes());
            }
        }
        Digest::of(&flat)
    }

    /// Its files, below the folder that software sees.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter().map(|(path, content)| (path.as_path(), content.bytes.as_slice()))
    }
}
