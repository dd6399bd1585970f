//! `--image NAME=FILE`: rules about what the attestor measures itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use policy::digest::Digest;
use policy::reference::manifest::image::ImageRule;
use policy::tpm::alg::{HashAlg, HashValue};

use super::tree;
use crate::failure::{Failure, Result};
use crate::output::progress::Progress;

/// An image as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedImage {
    name: String,
    file: PathBuf,
}

impl FromStr for NamedImage {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(Self { name: name.to_owned(), file: PathBuf::from(file) })
            }
            _ => Err(format!("`{text}` is no image; write for example /opt/plc/press.bin=build/press.bin")),
        }
    }
}

impl NamedImage {
    /// A rule for the file, or one for each file and link of the folder.
    pub(super) fn rules(&self, progress: &Progress) -> Result<Vec<ImageRule>> {
        let refuse = |why: String| Failure::unusable(format!("{}: {why}", self.file.display()));
        let is_path = self.name.starts_with('/');
        if !fs::metadata(&self.file).map_err(|e| refuse(e.to_string()))?.is_dir() {
            let (path, name) = match is_path {
                true => (Some(self.name.clone()), None),
                false => (None, Some(self.name.clone())),
            };
            return Ok(vec![rule(path, name, &tree::sha256(&self.file)?)?]);
        }
        if !is_path {
            return Err(refuse("this is a folder".to_owned())
                .next(format!("say where it is on the device: --image /PATH={}", self.file.display())));
        }
        let files = tree::digests(&self.file, tree::Files::All, progress)?;
        let at = self.name.trim_end_matches('/');
        let of = |(path, digests): (String, BTreeSet<HashValue>)| {
            let digests: Vec<HashValue> = digests.into_iter().collect();
            digests
                .iter()
                .map(|digest| rule(Some(format!("{at}{path}")), None, digest))
                .collect::<Result<Vec<_>>>()
        };
        let mut rules: Vec<ImageRule> = files.into_iter().map(of).collect::<Result<Vec<_>>>()?.concat();
        // The attestor measures where a link leads, as text.
        for (path, target) in tree::links(&self.file)? {
            let digest = HashAlg::Sha256.hash(&[target.as_os_str().as_bytes()]);
            rules.push(rule(Some(format!("{at}{path}")), None, &digest)?);
        }
        if rules.is_empty() { Err(refuse("the folder holds no regular file".to_owned())) } else { Ok(rules) }
    }
}

fn rule(path: Option<String>, name: Option<String>, digest: &HashValue) -> Result<ImageRule> {
    let digest = Digest::try_from(digest.as_bytes()).map_err(|e| Failure::unusable(e.to_string()))?;
    Ok(ImageRule { path, digests: BTreeSet::from([digest]), optional: false, name })
}
