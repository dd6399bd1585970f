//! A page of a store's file that is not as it was written: a worn flash cell, a stray write.

use crate::seed::Seed;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A page of a file system.
const PAGE: u64 = 4096;

/// Copies the folder `from` to `to`, which is not there.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Overwrites a part of one page of a file below `root`, and says which.
pub(crate) fn corrupt(root: &Path, seed: Seed, round: u64) -> io::Result<String> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let sizes: Vec<u64> = files
        .iter()
        .map(|file| fs::metadata(file).map(|metadata| metadata.len()))
        .collect::<io::Result<_>>()?;
    // Every other time the file that holds nearly everything: small ones would hide behind it.
    let largest = sizes.iter().enumerate().max_by_key(|(_, size)| **size).map_or(0, |(at, _)| at);
    let any =
        usize::try_from(seed.below(u64::try_from(files.len()).unwrap_or(1), (round, "file"))).unwrap_or(0);
    let chosen = if round.is_multiple_of(2) { largest } else { any };
    let (file, size) = (&files[chosen], sizes[chosen]);
    let mut bytes = fs::read(file)?;
    // Only where something is written: most of a log is room.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| u64::try_from(at).unwrap_or(0) + 1);
    let at = seed.below(used.max(1), (round, "offset"));
    let length = 1 + seed.below(PAGE, (round, "length"));
    let end = (at + length).min(at - at % PAGE + PAGE).min(size);
    let range = usize::try_from(at).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
    bytes[range].iter_mut().for_each(|byte| *byte ^= 0xa5);
    fs::write(file, bytes)?;
    Ok(format!("bytes {at} to {end} of {}", file.strip_prefix(root).unwrap_or(file).display()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if entry.metadata()?.len() > 0 {
            files.push(entry.path());
        }
    }
    Ok(())
}
