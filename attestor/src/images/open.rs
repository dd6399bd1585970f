//! Opens what was found again, by the same way: folder by folder, over no symbolic link, and only a regular file.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use super::stamp::Stamp;

/// Longest file that is measured: at the default limit it takes eleven minutes.
const MAX_FILE: u64 = 64 << 30;
/// Reads a folder; its last component is no link.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Reads a file. A FIFO without a writer would keep whoever opens it waiting for ever.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A path in two parts: the folder that was named, which is opened as it is, and the way below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    pub(super) below: PathBuf,
}

impl Place {
    /// A file that was named itself.
    pub(super) fn of_file(path: &Path) -> Option<Self> {
        Some(Self { root: path.parent()?.to_owned(), below: path.file_name()?.into() })
    }
}

/// The folder that was named. It may be reached over links: whoever uses it goes the same way.
pub(super) fn root(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty())?)
}

/// Opens the file, with what the file system says of it now.
pub(super) fn file(place: &Place) -> io::Result<(File, Stamp)> {
    let mut folder = root(&place.root)?;
    for name in place.below.parent().into_iter().flat_map(Path::components) {
        folder = openat(&folder, name.as_os_str(), FOLDER, Mode::empty())?;
    }
    let name = place.below.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let file = File::from(openat(&folder, name, FILE, Mode::empty())?);
    let stamp = stamp(&file)?;
    Ok((file, stamp))
}

/// What the file system says of an open file, if it is one that is measured.
pub(super) fn stamp(file: &File) -> io::Result<Stamp> {
    let stat = fstat(file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::other(what(kind)));
    }
    let stamp = Stamp::from(&stat);
    if stamp.size > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 64 GiB"));
    }
    Ok(stamp)
}

/// What a thing without content is.
pub(super) const fn what(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "it is a FIFO, and only regular files are measured",
        FileType::Socket => "it is a socket, and only regular files are measured",
        FileType::CharacterDevice | FileType::BlockDevice => {
            "it is a device, and only regular files are measured"
        }
        FileType::Directory => "it is a folder: name it in `folders`",
        FileType::Symlink => {
            "it is a symbolic link: name the file that it leads to, or its folder in `folders`"
        }
        FileType::RegularFile | FileType::Unknown => "it is of a kind that is not measured",
    }
}
