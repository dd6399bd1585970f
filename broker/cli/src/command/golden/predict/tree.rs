//! Digests of the files in a root file system tree, by the paths that Linux IMA will write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use clap::ValueEnum;
use policy::reference::manifest::MAX_MANIFEST_BYTES;
use policy::reference::manifest::ima::MAX_FILES;
use policy::tpm::alg::{HashAlg, HashValue};

use crate::failure::{Failure, Result};
use crate::output::progress::Progress;

/// Deepest folder below the root: `PATH_MAX` of Linux, in folders of one letter.
const MAX_DEPTH: usize = 2048;
/// The beginning of programs, libraries and kernel modules.
const ELF: &[u8] = b"\x7fELF";
const ANY_EXECUTE: u32 = 0o111;
const CHUNK: usize = 64 * 1024;

/// Which files of a tree are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Files {
    /// Those that anybody may execute, and ELF files: libraries and kernel modules.
    #[default]
    Code,
    /// Every regular file, for a policy that measures what root reads.
    All,
}

/// A digest of each file below `root`, by its path on a device whose root `root` is. Symbolic links are left out:
/// IMA writes the path of the file that they lead to.
pub(super) fn digests(
    root: &Path,
    which: Files,
    progress: &Progress,
) -> Result<BTreeMap<String, BTreeSet<HashValue>>> {
    let mut digests = BTreeMap::new();
    each(root, |on_disk, path, metadata| {
        progress.add(1);
        if metadata.is_file()
            && let Some(digest) = digest(on_disk, metadata, which)?
        {
            digests.insert(path, BTreeSet::from([digest]));
            if digests.len() > MAX_FILES {
                return Err(too_many(on_disk));
            }
        }
        Ok(())
    })?;
    Ok(digests)
}

/// Where each symbolic link below `root` leads, as it is written.
pub(super) fn links(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut links = BTreeMap::new();
    each(root, |on_disk, path, metadata| {
        if metadata.is_symlink() {
            links.insert(path, fs::read_link(on_disk).map_err(|e| unusable(on_disk, &e))?);
        }
        if links.len() > MAX_FILES { Err(too_many(on_disk)) } else { Ok(()) }
    })?;
    Ok(links)
}

/// Visits all that is no folder, and follows no link.
fn each(root: &Path, mut visit: impl FnMut(&Path, String, &Metadata) -> Result<()>) -> Result<()> {
    let root = fs::canonicalize(root).map_err(|e| unusable(root, &e))?;
    let mut folders = vec![(root, String::new(), 0_usize)];
    while let Some((folder, path, depth)) = folders.pop() {
        if depth > MAX_DEPTH {
            return Err(Failure::unusable(format!("{}: deeper than {MAX_DEPTH} folders", folder.display())));
        }
        for entry in fs::read_dir(&folder).map_err(|e| unusable(&folder, &e))? {
            let entry = entry.map_err(|e| unusable(&folder, &e))?;
            let on_disk = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                return Err(Failure::unusable(format!("{}: the name is no UTF-8 text", on_disk.display())));
            };
            let path = format!("{path}/{name}");
            let metadata = entry.metadata().map_err(|e| unusable(&on_disk, &e))?;
            if metadata.is_dir() {
                folders.push((on_disk, path, depth.saturating_add(1)));
            } else {
                visit(&on_disk, path, &metadata)?;
            }
        }
    }
    Ok(())
}

fn too_many(at: &Path) -> Failure {
    Failure::unusable(format!(
        "{}: a release lists at most {MAX_FILES} files, in {MAX_MANIFEST_BYTES} bytes",
        at.display()
    ))
    .next("name a smaller tree with --ima-tree, or sign the files and state the key in [ima]")
}

/// The digest of a file, if it is one of those.
fn digest(path: &Path, metadata: &Metadata, which: Files) -> Result<Option<HashValue>> {
    let mut file = File::open(path).map_err(|e| unusable(path, &e))?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; CHUNK];
    let mut wanted = which == Files::All || metadata.permissions().mode() & ANY_EXECUTE != 0;
    let mut is_first = true;
    loop {
        let read = file.read(&mut buffer).map_err(|e| unusable(path, &e))?;
        let chunk = buffer.get(..read).unwrap_or_default();
        wanted |= is_first && chunk.starts_with(ELF);
        is_first = false;
        match chunk {
            _ if !wanted => return Ok(None),
            [] => return Ok(HashValue::new(HashAlg::Sha256, context.finish().as_ref())),
            chunk => context.update(chunk),
        }
    }
}

/// The SHA-256 of a file, read piece by piece.
pub(super) fn sha256(path: &Path) -> Result<HashValue> {
    let metadata = fs::metadata(path).map_err(|e| unusable(path, &e))?;
    if !metadata.is_file() {
        return Err(Failure::unusable(format!("{}: no regular file", path.display())));
    }
    digest(path, &metadata, Files::All)?
        .ok_or_else(|| Failure::unusable(format!("{}: cannot be hashed", path.display())))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::unusable(format!("{}: {error}", path.display()))
}
