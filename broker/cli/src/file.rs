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

/// A file that appears under its name only when it is complete and on disk.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    draft: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Begins the file that will stand at `path`, with these permission bits.
    pub(crate) fn create(path: &Path, mode: u32) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let draft = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)
            .map_err(|e| Failure::unusable(format!("{}: {e}", draft.display())))?;
        Ok(Self { file, draft, path: path.to_owned() })
    }

    /// Appends `bytes`.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Failure::unusable(format!("{}: {e}", self.draft.display())))
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn publish(self) -> Result<()> {
        let done = self.file.sync_all().and_then(|()| fs::rename(&self.draft, &self.path));
        done.map_err(|e| Failure::unusable(format!("{}: {e}", self.path.display())))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After `publish` the draft has another name and there is nothing to remove.
        let _ = fs::remove_file(&self.draft);
    }
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
    use super::*;

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
