//! Opens the files of `tpm_roots`. What they mean is decided in `policy`, for the broker and the tool alike.
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

/// The certificates of TPM manufacturers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TpmRootsError {
    /// A file or folder.
    #[error("tpm_roots: {path} cannot be read; correct the path or its permissions")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that was named holds no usable certificates.
    #[error("tpm_roots: a file that is named cannot be used; correct it or name a folder")]
    Refused(#[source] RootError),
    /// A folder with too much in it.
    #[error(
        "tpm_roots: {0} holds more than {MAX_FILES} files or {MAX_DEPTH} levels of folders; name those that count"
    )]
    TooMuch(PathBuf),
}

/// Reads the certificates at these paths, and says what became of each file.
pub fn import(paths: &[PathBuf]) -> Result<(RootStore, Vec<Imported>), TpmRootsError> {
    let mut import = Import::new();
    for path in paths {
        let label = path.display().to_string();
        if !fs::metadata(path).map_err(unreadable(path))?.is_dir() {
            import.named(&label, &read(path)?).map_err(TpmRootsError::Refused)?;
            continue;
        }
        // The folder's own name may say whose roots it holds.
        let above = path.parent().unwrap_or(path);
        for file in files_below(path)? {
            let below = file.strip_prefix(above).unwrap_or(&file).display().to_string();
            import.found(&file.display().to_string(), &below, &read(&file)?);
        }
    }
    Ok(import.finish())
}

/// Tells what became of each file.
pub fn log(files: &[Imported]) {
    for file in files {
        match file.outcome {
            Outcome::Added(_) => tracing::info!("TPM roots: {file}"),
            Outcome::PassedOver | Outcome::Refused(_) => {}
        }
        file.left_out().for_each(|line| tracing::warn!("TPM roots: {line}"));
    }
}

fn files_below(top: &Path) -> Result<Vec<PathBuf>, TpmRootsError> {
    let mut files = Vec::new();
    let mut folders = vec![(top.to_owned(), 1)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
            let entry = entry.map_err(unreadable(&folder))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let is_folder = fs::metadata(&path).map_err(unreadable(&path))?.is_dir();
            if files.len() == MAX_FILES || (is_folder && depth == MAX_DEPTH) {
                return Err(TpmRootsError::TooMuch(top.to_owned()));
            }
            if is_folder { folders.push((path, depth + 1)) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

/// The file, or one byte more than is ever read, which is then refused by name.
fn read(path: &Path) -> Result<Vec<u8>, TpmRootsError> {
    let limit = u64::try_from(MAX_BUNDLE).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable(path))?;
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable(path))?;
    Ok(bytes)
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> TpmRootsError {
    let path = path.to_owned();
    move |source| TpmRootsError::Unreadable { path: path.clone(), source }
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
        let (store, files) = import(&[folder.path().to_owned()]).unwrap();
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
        let error = import(std::slice::from_ref(&file)).unwrap_err();
        assert!(matches!(&error, TpmRootsError::Unreadable { path, .. } if *path == file), "{error}");
        fs::write(&file, "read me").unwrap();
        let error = import(&[file]).unwrap_err();
        assert!(matches!(error, TpmRootsError::Refused(RootError::NoCertificates(_))), "{error}");
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        let error = import(&[folder.path().to_owned()]).unwrap_err();
        assert!(matches!(error, TpmRootsError::TooMuch(_)), "{error}");
    }
}
