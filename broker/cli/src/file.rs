//! Files that a person names on the command line: read whole, bounded, and written all or nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Largest file that is read whole: far above any event log, manifest or certificate bundle, far
/// below what would trouble the machine.
pub(crate) const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Reads the file at `path`; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_up_to(path, MAX_FILE)?;
    match u64::try_from(bytes.len()) {
        Ok(len) if len <= MAX_FILE => Ok(bytes),
        _ => Err(Failure::unusable(format!("{}: larger than {MAX_FILE} bytes", path.display()))),
    }
}

/// Reads the beginning of the file at `path`: up to `limit` bytes, and one more if there are more.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let fault = |e: std::io::Error| Failure::unusable(format!("{}: {e}", path.display()));
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(path).map_err(fault)?),
    };
    let mut bytes = Vec::new();
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

/// Reads the file at `path` as text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|e| Failure::unusable(format!("{}: no UTF-8 text: {e}", path.display())))
}

/// A file that appears under its name only when it is complete and on disk. A device, a pipe and the links of `/dev` and
/// `/proc`, such as `/dev/stdout`, are no files to be replaced: they are written to as they are.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    /// Where the file grows; none if it is written to as it is.
    draft: Option<PathBuf>,
    path: PathBuf,
}

impl Draft {
    /// Begins the file that will stand at `path`, with these permission bits.
    pub(crate) fn create(path: &Path, mode: u32) -> Result<Self> {
        if is_irreplaceable(path)? {
            let file = OpenOptions::new().append(true).open(path).map_err(|e| fault(path, &e))?;
            return Ok(Self { file, draft: None, path: path.to_owned() });
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let draft = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)
            .map_err(|e| fault(&draft, &e))?;
        Ok(Self { file, draft: Some(draft), path: path.to_owned() })
    }

    /// Appends `bytes`.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.draft.as_ref().unwrap_or(&self.path);
        self.file.write_all(bytes).map_err(|e| fault(path, &e))
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn publish(self) -> Result<()> {
        let Some(draft) = &self.draft else { return Ok(()) };
        let done = self.file.sync_all().and_then(|()| fs::rename(draft, &self.path));
        done.map_err(|e| fault(&self.path, &e))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After `publish` the draft has another name and there is nothing to remove.
        let _ = self.draft.as_ref().map(fs::remove_file);
    }
}

/// Whether something is at `path` that a new file must not take the place of.
fn is_irreplaceable(path: &Path) -> Result<bool> {
    // What is not there yet is made, and what cannot be looked at fails where it is written.
    let Ok(found) = fs::metadata(path) else { return Ok(false) };
    if found.is_dir() {
        return Err(
            Failure::unusable(format!("{}: this is a folder", path.display())).next("name a file in it")
        );
    }
    let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok()).unwrap_or_default();
    Ok(!found.is_file() || folder == Path::new("/dev") || folder.starts_with("/proc"))
}

fn fault(path: &Path, error: &std::io::Error) -> Failure {
    Failure::unusable(format!("{}: {error}", path.display()))
}

/// Writes a file that others may read.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut draft = Draft::create(path, 0o644)?;
    draft.append(bytes)?;
    draft.publish()
}

/// A fault of a TOML file in one line: file, line, what.
pub(crate) fn toml_fault(path: &Path, text: &str, fault: &toml::de::Error) -> String {
    let line = fault.span().map(|span| line_of(text, span.start));
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{}: {place}{}", path.display(), fault.message().replace('\n', "; "))
}

/// The line, from 1, of byte `offset` in `text`.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileTypeExt;

    use super::*;

    #[test]
    fn what_is_no_file_is_written_to_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write(&pipe, b"whole").unwrap();
        assert_eq!(reader.join().unwrap(), b"whole");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        // The tests may run as root: a link to it stands for the machine's own.
        let link = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        write(&link, b"nothing").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_the_system_keeps_open_is_not_replaced() {
        let open = tempfile::NamedTempFile::new().unwrap();
        let name = PathBuf::from(format!("/dev/fd/{}", open.as_file().as_raw_fd()));
        write(&name, b"whole").unwrap();
        assert_eq!(fs::read(open.path()).unwrap(), b"whole");
        assert!(fs::symlink_metadata(&name).unwrap().is_symlink());
    }

    #[test]
    fn a_folder_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let failure = write(folder.path(), b"x").unwrap_err();
        assert!(failure.text().ends_with(": this is a folder\nname a file in it\n"), "{}", failure.text());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let mut draft = Draft::create(&path, 0o600).unwrap();
        draft.append(b"half").unwrap();
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write(&path, b"whole").unwrap();
        assert_eq!(read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
