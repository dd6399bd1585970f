//! Opens the files of `tpm_roots` and `idevid_roots`. What they mean is decided in `policy`, for the broker and the tool alike.
//!
//! A path that is named must be there and usable. A folder is looked through with the folders in it; names that
//! begin with a dot are not looked at, so that a mounted Kubernetes volume counts once.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use policy::evidence::endorsement::{Import, Imported, MAX_BUNDLE, Outcome, RootError, RootStore};

/// Most files that are looked at below one folder: Microsoft's cabinet unpacks to 2,193.
const MAX_FILES: usize = 20_000;
/// Folders within folders; also where a circle of links ends. Microsoft's cabinet has 2 levels.
const MAX_DEPTH: usize = 8;

/// The configuration's key for certificates of TPM manufacturers.
pub const TPM_ROOTS: &str = "tpm_roots";
/// Its key for those of manufacturers that give boxes an IDevID.
pub const IDEVID_ROOTS: &str = "idevid_roots";

/// The certificates of manufacturers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file or folder.
    #[error("{key}: {path} cannot be read; correct the path or its permissions")]
    Unreadable {
        /// Of the configuration.
        key: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that was named holds no usable certificates.
    #[error("{0}: a file that is named cannot be used; correct it or name a folder")]
    Refused(&'static str, #[source] RootError),
    /// A folder with too much in it.
    #[error(
        "{0}: {1} holds more than {MAX_FILES} files or {MAX_DEPTH} levels of folders; name those that count"
    )]
    TooMuch(&'static str, PathBuf),
}

/// Reads the certificates at the paths that the configuration has under `key`, and says what became of each file.
pub fn import(key: &'static str, paths: &[PathBuf]) -> Result<(RootStore, Vec<Imported>), RootsError> {
    let mut import = Import::new();
    for path in paths {
        let label = path.display().to_string();
        if !fs::metadata(path).map_err(unreadable(key, path))?.is_dir() {
            import.named(&label, &read(key, path)?).map_err(|error| RootsError::Refused(key, error))?;
            continue;
        }
        // The folder's own name may say whose roots it holds.
        let above = path.parent().unwrap_or(path);
        for file in files_below(key, path)? {
            let below = file.strip_prefix(above).unwrap_or(&file).display().to_string();
            import.found(&file.display().to_string(), &below, &read(key, &file)?);
        }
    }
    Ok(import.finish())
}

/// Tells what became of each file.
pub fn log(key: &str, files: &[Imported]) {
    for file in files {
        match file.outcome {
            Outcome::Added(_) => tracing::info!("{key}: {file}"),
            Outcome::PassedOver | Outcome::Refused(_) => {}
        }
        file.left_out().for_each(|line| tracing::warn!("{key}: {line}"));
    }
}

fn files_below(key: &'static str, top: &Path) -> Result<Vec<PathBuf>, RootsError> {
    let mut files = Vec::new();
    let mut folders = vec![(top.to_owned(), 1)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(unreadable(key, &folder))? {
            let entry = entry.map_err(unreadable(key, &folder))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let is_folder = fs::metadata(&path).map_err(unreadable(key, &path))?.is_dir();
            if files.len() == MAX_FILES || (is_folder && depth == MAX_DEPTH) {
                return Err(RootsError::TooMuch(key, top.to_owned()));
            }
            if is_folder { folders.push((path, depth + 1)) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

/// The file, or one byte more than is ever read, which is then refused by name.
fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, RootsError> {
    let limit = u64::try_from(MAX_BUNDLE).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable(key, path))?;
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable(key, path))?;
    Ok(bytes)
}

fn unreadable(key: &'static str, path: &Path) -> impl Fn(io::Error) -> RootsError {
    let path = path.to_owned();
    move |source| RootsError::Unreadable { key, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_folder_is_looked_through_and_nothing_is_dropped_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("Infineon/RootCA")).unwrap();
        fs::create_dir(path(".git")).unwrap();
        fs::write(path(".git/a.der"), root("hidden")).unwrap();
        fs::write(path("Infineon/RootCA/a.der"), root("a")).unwrap();
        fs::write(path("b.der"), root("b")).unwrap();
        fs::write(path("cut.der"), &root("c")[..40]).unwrap();
        fs::write(path("README"), "read me").unwrap();
        let (store, files) = import(TPM_ROOTS, &[folder.path().to_owned()]).unwrap();
        assert_eq!(store.anchors(), 2);
        let left_out: Vec<String> = files.iter().flat_map(Imported::left_out).collect();
        assert_eq!(left_out[0], format!("passed over: {} holds no certificate", path("README").display()));
        let refused = format!("refused: {}: certificate 1 is malformed", path("cut.der").display());
        assert!(left_out[1].starts_with(&refused), "{left_out:?}");
        assert_eq!(left_out.len(), 2);
    }

    #[test]
    fn a_file_that_was_named_must_be_usable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("README");
        let error = import(TPM_ROOTS, std::slice::from_ref(&file)).unwrap_err();
        assert!(matches!(&error, RootsError::Unreadable { path, .. } if *path == file), "{error}");
        fs::write(&file, "read me").unwrap();
        let error = import(TPM_ROOTS, &[file]).unwrap_err();
        assert!(matches!(error, RootsError::Refused(_, RootError::NoCertificates(_))), "{error}");
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        let error = import(TPM_ROOTS, &[folder.path().to_owned()]).unwrap_err();
        assert!(matches!(error, RootsError::TooMuch(_, _)), "{error}");
    }
}
