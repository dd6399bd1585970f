//! Files that survive a power cut whole: written beside, synced, renamed, and the folder synced.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Writes a file that is not there yet with exactly this mode, whatever the umask, and syncs it.
pub(crate) fn write_new(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    create(file, bytes, mode)?.sync_all()
}

fn create(file: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    // Born private: nobody reads a secret between its creation and its mode.
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.set_permissions(Permissions::from_mode(mode))?;
    out.write_all(bytes)?;
    Ok(out)
}

/// Replaces a file whole for whoever reads it, and does not wait for the disk: for what a start writes anew.
pub(crate) fn show(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = beside(file)?;
    create(&fresh, bytes, mode)?;
    std::fs::rename(&fresh, file)
}

/// Replaces a file whole: after a power cut it has its old content or its new one.
pub(crate) fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = beside(file)?;
    write_new(&fresh, bytes, mode)?;
    std::fs::rename(&fresh, file)?;
    file.parent().map_or(Ok(()), sync_dir)
}

/// The name of a new file beside `file`, with nothing there.
fn beside(file: &Path) -> io::Result<PathBuf> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = file.with_file_name(name);
    // What is there may be another user's, or lead elsewhere: it is not written to.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(fresh),
    }
}

/// Syncs a folder: the names in it, not the files.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a folder and what is missing above it. An existing one keeps its mode.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(dir)
}

/// Reads a file of at most `limit` bytes. A size from the file system is not believed: pseudo files have none.
pub(crate) fn read_bounded(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    bounded(File::open(file)?, limit)
}

/// The same of a file that others may have put something else in the place of: a FIFO without a writer would keep whoever opens
/// it waiting for ever, so only a regular file is read.
pub(crate) fn read_regular(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => bounded(file, limit),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

fn bounded(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= limit => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        replace(&file, b"one", 0o640).unwrap();
        replace(&file, b"two", 0o644).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_written_to_a_file_that_was_laid_out_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let [file, fresh, theirs] = ["a", "a.new", "theirs"].map(|name| dir.path().join(name));
        std::fs::write(&theirs, "").unwrap();
        std::os::unix::fs::symlink(&theirs, &fresh).unwrap();
        assert_eq!(write_new(&fresh, b"secret", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        replace(&file, b"secret", 0o600).unwrap();
        assert_eq!(std::fs::read(&theirs).unwrap(), b"", "a link leads nowhere");
        std::fs::write(&fresh, "").unwrap();
        let held_open = File::open(&fresh).unwrap();
        replace(&file, b"other", 0o600).unwrap();
        assert_eq!(io::read_to_string(held_open).unwrap(), "", "nor is it read where it was awaited");
        assert_eq!(std::fs::read(&file).unwrap(), b"other");
    }

    #[test]
    fn a_file_over_its_bound_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        replace(&file, b"1234", 0o600).unwrap();
        assert_eq!(read_bounded(&file, 4).unwrap(), b"1234");
        assert_eq!(read_bounded(&file, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
