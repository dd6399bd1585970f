//! How much of the disk the plant takes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Levels of folders below the broker's: `blobs/ab/`, `db-1/blobs/`.
const DEPTH: usize = 4;
/// Bytes of a block as `stat` counts them.
const BLOCK: u64 = 512;

/// Bytes on disk of what is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Records: devices, certificates, audit.
    pub(super) records: u64,
    /// Evidence, logs, results.
    pub(super) blobs: u64,
}

/// What is stored in the broker's folder `dir`. Blocks while it looks at every file.
pub(super) fn taken(dir: &Path) -> io::Result<Taken> {
    let mut taken = Taken::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == "blobs" {
            taken.blobs = bytes(&entry.path(), DEPTH)?;
        } else if name.starts_with("db-") {
            taken.records = taken.records.saturating_add(bytes(&entry.path(), DEPTH)?);
        }
    }
    Ok(taken)
}

fn bytes(path: &Path, depth: usize) -> io::Result<u64> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        // What is replaced or swept meanwhile takes nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut sum = metadata.blocks().saturating_mul(BLOCK);
    if metadata.is_dir() && depth > 0 {
        for entry in fs::read_dir(path)? {
            sum = sum.saturating_add(bytes(&entry?.path(), depth.saturating_sub(1))?);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_blobs_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, bytes) in [("db-1", 10_000), ("db-2", 10_000), ("blobs/ab", 50_000), ("secrets", 90_000)]
        {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("file"), vec![1; bytes]).unwrap();
        }
        let taken = taken(dir.path()).unwrap();
        assert!((20_000..50_000).contains(&taken.records), "{taken:?}");
        assert!((50_000..90_000).contains(&taken.blobs), "{taken:?}");
    }
}
