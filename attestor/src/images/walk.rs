//! Looks at everything that is to be measured, and reads nothing but folders, links and the statements of containers.
//!
//! Every folder that is passed is watched. A look costs some microseconds for each file, whatever they hold.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy::budget::MAX_IMAGE_PATH;
use policy::digest::Digest;
use policy::eventlog::image::{ImageKind, ImageMeasurement};
use rustix::fs::{AtFlags, Dir, FileType, Mode, openat, readlinkat, statat};

use super::container;
use super::open::{self, Place};
use super::stamp::Stamp;
use super::watch::Watch;
use super::way::folders_with_links;
use crate::config::Images as Config;

/// Most images: a release has rules for some more (`MAX_IMAGE_RULES`).
pub(super) const MAX_IMAGES: usize = 1000;
/// Folders within folders.
const MAX_DEPTH: usize = 16;

/// What was seen at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// A file, to be hashed where its stamp is another.
    File(Place, Stamp),
    /// Something that needs no hashing.
    Measured(ImageMeasurement),
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) sights: BTreeMap<String, Sight>,
    /// What is not as it should be, and what to do.
    pub(super) problems: Vec<String>,
}

/// Looks at all of it.
pub(super) fn walk(config: &Config, watch: Option<&Watch>) -> Seen {
    let mut walker = Walker { seen: Seen::default(), watch };
    for file in &config.files {
        walker.file(file);
    }
    for folder in &config.folders {
        walker.root(folder);
    }
    for container in &config.containers {
        walker.container(&container.name, &container.digest);
    }
    walker.seen
}

struct Walker<'a> {
    seen: Seen,
    watch: Option<&'a Watch>,
}

impl Walker<'_> {
    fn file(&mut self, file: &Path) {
        self.watch_parent(file);
        self.watch_links(file.parent().unwrap_or(file));
        let path = text(file);
        let Some(place) = Place::of_file(file) else { return };
        match statat(rustix::fs::CWD, file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => self.add(path, Sight::File(place, Stamp::from(&stat))),
                kind => self.unreadable(path, open::what(kind)),
            },
            Err(error) if io::Error::from(error).kind() == ErrorKind::NotFound => {}
            Err(error) => self.unreadable(path, io::Error::from(error)),
        }
    }

    fn root(&mut self, folder: &Path) {
        self.watch_parent(folder);
        self.watch_links(folder);
        match open::root(folder) {
            Ok(opened) => self.folder(&opened, folder, Path::new(""), 0),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.unreadable(text(folder), error),
        }
    }

    fn folder(&mut self, folder: &OwnedFd, root: &Path, below: &Path, depth: usize) {
        let path = if below == Path::new("") { root.to_owned() } else { root.join(below) };
        if depth > MAX_DEPTH {
            return self.overflow(text(&path), format_args!("it is deeper than {MAX_DEPTH} folders"));
        }
        self.watch(&path);
        let entries = match Dir::read_from(folder) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(text(&path), io::Error::from(error)),
        };
        for entry in entries {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(_) if self.seen.sights.len() >= MAX_IMAGES => {
                    return self
                        .overflow(text(root), format_args!("there are more than {MAX_IMAGES} images"));
                }
                Ok(entry) => self.entry(folder, entry.file_name(), root, below, depth),
                Err(error) => return self.unreadable(text(&path), io::Error::from(error)),
            }
        }
    }

    fn entry(&mut self, folder: &OwnedFd, name: &CStr, root: &Path, below: &Path, depth: usize) {
        let below = below.join(OsStr::from_bytes(name.to_bytes()));
        let full = root.join(&below);
        let path = text(&full);
        if full.to_str().is_none_or(|plain| plain != path) || path.len() > MAX_IMAGE_PATH {
            return self.unreadable(path, "its name is no UTF-8 text, has control characters or is too long");
        }
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) if io::Error::from(error).kind() == ErrorKind::NotFound => return,
            Err(error) => return self.unreadable(path, io::Error::from(error)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                self.add(path, Sight::File(Place { root: root.to_owned(), below }, Stamp::from(&stat)));
            }
            FileType::Directory => match openat(folder, name, open::FOLDER, Mode::empty()) {
                Ok(opened) => self.folder(&opened, root, &below, depth.saturating_add(1)),
                Err(error) => self.unreadable(path, io::Error::from(error)),
            },
            FileType::Symlink => match readlinkat(folder, name, Vec::new()) {
                Ok(target) => {
                    let target = target.to_bytes();
                    let size = u64::try_from(target.len()).unwrap_or(u64::MAX);
                    self.measured(ImageKind::Link, path, Digest::of(target), size);
                }
                Err(error) => self.unreadable(path, io::Error::from(error)),
            },
            kind => self.unreadable(path, open::what(kind)),
        }
    }

    fn container(&mut self, name: &str, file: &Path) {
        self.watch_parent(file);
        self.watch_links(file.parent().unwrap_or(file));
        match container::stated(file, name) {
            Ok(content) => {
                self.measured(ImageKind::Container, name.to_owned(), content.digest, content.size);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.unreadable(name.to_owned(), format_args!("{}: {error}", file.display())),
        }
    }

    fn add(&mut self, path: String, sight: Sight) {
        self.seen.sights.insert(path, sight);
    }

    fn measured(&mut self, kind: ImageKind, path: String, digest: Digest, size: u64) {
        let image = ImageMeasurement { kind, path: path.clone(), digest, size };
        self.add(path, Sight::Measured(image));
    }

    fn unreadable(&mut self, path: String, why: impl std::fmt::Display) {
        self.seen.problems.push(unreadable_words(&path, &why));
        self.measured(ImageKind::Unreadable, path, NOTHING, 0);
    }

    fn overflow(&mut self, path: String, why: impl std::fmt::Display) {
        self.seen.problems.push(format!("{path} is not measured whole: {why}; name fewer in [images]"));
        self.measured(ImageKind::Overflow, path, NOTHING, 0);
    }

    fn watch(&mut self, folder: &Path) {
        let Some(watch) = self.watch else { return };
        if let Err(error) = watch.add(folder) {
            self.seen.problems.push(format!(
                "{} cannot be watched: {error}; it is looked at once a minute (see fs.inotify.max_user_watches)",
                folder.display()
            ));
        }
    }

    /// A link on the way that leads elsewhere from now on leads to other files.
    fn watch_links(&mut self, path: &Path) {
        if self.watch.is_some() {
            folders_with_links(path).iter().for_each(|folder| self.watch(folder));
        }
    }

    /// Also where it is not there yet: the nearest folder above tells when the way to it is made.
    fn watch_parent(&self, path: &Path) {
        let Some(watch) = self.watch else { return };
        let _ = path.ancestors().skip(1).find(|folder| watch.add(folder).is_ok());
    }
}

const NOTHING: Digest = Digest([0; 32]);

/// What a technician reads about something that cannot be measured.
pub(super) fn unreadable_words(path: &str, why: &dyn std::fmt::Display) -> String {
    format!(
        "{path} cannot be measured: {why}; let the attestor's user read it, and restart the device, which is refused \
         until then"
    )
}

/// A path as logs write it: what is no text is escaped, so that it can be shown.
fn text(path: &Path) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let text: String = path.to_string_lossy().chars().map(escape).collect();
    let cut =
        text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_IMAGE_PATH).last().unwrap_or(0);
    if text.len() > MAX_IMAGE_PATH { text.get(..cut).unwrap_or_default().to_owned() } else { text }
}

/// Whether a path is still one of those that are to be measured.
pub(super) fn is_named(config: &Config, path: &str) -> bool {
    let full = PathBuf::from(path);
    config.files.contains(&full)
        || config.folders.iter().any(|folder| full.starts_with(folder))
        || config.containers.iter().any(|container| container.name == path)
}
