//! Opens the certificates of TPM manufacturers that a command line names. What they mean is decided in
//! `policy`, for the tool and the broker alike.
//!
//! A path must be there. A file that holds no certificate is named and passed over, named or found: a shell's
//! `*` brings a README along. A folder is looked through with the folders in it, without names that begin with
//! a dot.

use std::fs;
use std::path::{Path, PathBuf};

use policy::evidence::endorsement::{Import, Imported, MAX_BUNDLE, RootStore};

use crate::failure::{Failure, Result};
use crate::file;

/// Most files that are looked at below one folder: Microsoft's cabinet unpacks to 2,193.
const MAX_FILES: usize = 20_000;
/// Folders within folders; also where a circle of links ends. Microsoft's cabinet has 2 levels.
const MAX_DEPTH: usize = 8;

/// The certificates that were found, and what became of each file.
#[derive(Debug)]
pub(crate) struct Roots {
    /// What a chain may end at.
    pub(crate) store: RootStore,
    /// Each file that was looked at.
    pub(crate) files: Vec<Imported>,
}

impl Roots {
    /// Reads the files and folders at `paths`; at least one certificate must be among them.
    pub(crate) fn load(paths: &[PathBuf]) -> Result<Self> {
        let mut import = Import::new();
        for path in paths {
            if is_folder(path)? {
                // The folder's own name may say whose roots it holds.
                let above = path.parent().unwrap_or(path);
                for file in files_below(path)? {
                    let below = file.strip_prefix(above).unwrap_or(&file).display().to_string();
                    import.found(&file.display().to_string(), &below, &read(&file)?);
                }
            } else {
                import.found(&path.display().to_string(), "", &read(path)?);
            }
        }
        let (store, files) = import.finish();
        let roots = Self { store, files };
        if roots.store.anchors() + roots.store.intermediates() > 0 {
            return Ok(roots);
        }
        let why = roots.left_out().next().map(|line| format!(" ({line})")).unwrap_or_default();
        Err(Failure::unusable(format!("no certificate of a manufacturer was found{why}"))
            .next("give PEM bundles, DER files, Microsoft's TrustedTpm.cab, or folders of them"))
    }

    /// What was not taken, a line for each.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = String> + '_ {
        self.files.iter().flat_map(Imported::left_out)
    }
}

fn is_folder(path: &Path) -> Result<bool> {
    // Standard input is a file.
    if path == Path::new("-") {
        return Ok(false);
    }
    fs::metadata(path).map(|found| found.is_dir()).map_err(|e| fault(path, &e))
}

fn files_below(top: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(top.to_owned(), 1)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| fault(&folder, &e))? {
            let entry = entry.map_err(|e| fault(&folder, &e))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let is_folder = is_folder(&path)?;
            if files.len() == MAX_FILES || (is_folder && depth == MAX_DEPTH) {
                return Err(Failure::unusable(format!(
                    "{}: more than {MAX_FILES} files or {MAX_DEPTH} levels of folders",
                    top.display()
                )));
            }
            if is_folder { folders.push((path, depth + 1)) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

/// The file, or one byte more than is ever read, which is then refused by name.
fn read(path: &Path) -> Result<Vec<u8>> {
    file::read_up_to(path, u64::try_from(MAX_BUNDLE).unwrap_or(u64::MAX))
}

fn fault(path: &Path, error: &std::io::Error) -> Failure {
    Failure::unusable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_folder_without_certificates_is_unusable_and_says_what_it_held() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/README"), "no certificate").unwrap();
        let failure = Roots::load(&[folder.path().to_owned()]).unwrap_err();
        assert_eq!(failure.exit(), Exit::UnusableInput);
        assert!(failure.text().contains("deep/README"), "{}", failure.text());
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        let failure = Roots::load(&[folder.path().to_owned()]).unwrap_err();
        assert!(failure.text().contains("8 levels"), "{}", failure.text());
    }
}
