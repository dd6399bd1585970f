//! Files whose mode and durability matter.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Writes a new file that only its owner may read, synced to disk. An existing file is replaced whole.
pub(crate) fn write_secret(file: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(file, bytes, 0o600)
}

/// Writes a new file that everybody may read, synced to disk. An existing file is replaced whole.
pub(crate) fn write_public(file: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(file, bytes, 0o644)
}

fn write_whole(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = file.with_file_name(name);
    // What is there may be another user's, or lead elsewhere: it is not written to.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    std::fs::rename(&fresh, file)?;
    match file.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Makes a folder that only its owner may enter.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_bounded(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= limit => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes"))),
    }
}

/// Whether anybody but the owner may read `file`.
pub(crate) fn readable_by_others(file: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(file)?.mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_secret_is_written_to_no_file_that_was_laid_out_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let [file, fresh, theirs] = ["kek", "kek.new", "theirs"].map(|name| dir.path().join(name));
        std::fs::write(&theirs, "").unwrap();
        symlink(&theirs, &fresh).unwrap();
        write_secret(&file, b"secret").unwrap();
        assert_eq!(std::fs::read(&theirs).unwrap(), b"", "a link leads nowhere");
        std::fs::write(&fresh, "").unwrap();
        let held_open = File::open(&fresh).unwrap();
        assert!(readable_by_others(&fresh).unwrap());
        write_secret(&file, b"other").unwrap();
        assert_eq!(io::read_to_string(held_open).unwrap(), "", "nor is it read where it was awaited");
        assert!(!readable_by_others(&file).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), b"other");
    }
}
