//! Certificates of TPM manufacturers that `--roots` names: PEM bundles, DER files, folders of them.

use std::fs;
use std::path::{Path, PathBuf};

use policy::evidence::endorsement::{Added, RootStore};

use crate::failure::{Failure, Result, chain};
use crate::file;

/// Most files read of one folder: all known manufacturers' certificates as single files are some hundred.
const MAX_FOLDER: usize = 10_000;

/// The certificates of the command line, and what was passed over.
#[derive(Default)]
pub(crate) struct Roots {
    /// What a chain may end at.
    pub(crate) store: RootStore,
    /// One line for each file that was passed over.
    pub(crate) skipped: Vec<String>,
    certificates: usize,
}

impl Roots {
    /// Reads files and folders; at least one certificate must be in them.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut roots = Self::default();
        for path in paths {
            roots.add(path)?;
        }
        roots.refuse_none()?;
        Ok(roots)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let fault = |e: std::io::Error| Failure::unusable(format!("{}: {e}", path.display()));
        if !fs::metadata(path).map_err(fault)?.is_dir() {
            return self.add_file(path);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(fault)?.take(MAX_FOLDER) {
            let file = entry.map_err(fault)?.path();
            if file.is_file() {
                files.push(file);
            }
        }
        files.sort();
        files.iter().try_for_each(|file| self.add_file(file))
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        match self.store.add(&path.display().to_string(), &file::read(path)?) {
            Ok(Added { anchors, intermediates }) => {
                self.certificates = self.certificates.saturating_add(anchors).saturating_add(intermediates);
            }
            Err(error) => self.skipped.push(format!("skipped: {}", chain(&error))),
        }
        Ok(())
    }

    fn refuse_none(&self) -> Result<()> {
        if self.certificates > 0 {
            return Ok(());
        }
        let why = self.skipped.first().map(|skipped| format!(" ({skipped})")).unwrap_or_default();
        Err(Failure::unusable(format!("--roots holds no certificate{why}"))
            .next("give PEM bundles, DER files, or folders of them"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_folder_without_certificates_is_unusable_and_says_what_it_held() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("README"), "no certificate").unwrap();
        let mut roots = Roots::default();
        roots.add(folder.path()).unwrap();
        let failure = roots.refuse_none().unwrap_err();
        assert_eq!(failure.exit(), Exit::UnusableInput);
        assert!(failure.text().contains("README"), "{}", failure.text());
    }
}
