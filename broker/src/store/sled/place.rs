//! Where the store's files are: sled's folder `db-<n>`, and the file `db.current` that says which `n`.
//!
//! A restore fills the next folder and then points to it. The file is replaced by rename, so that a crash
//! leaves the old or the new content. It also tells a store that lost its folder from a new one.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

const PREFIX: &str = "db-";
const CURRENT: &str = "db.current";
const NEXT: &str = "db.current.tmp";

/// The number of a store's first folder.
const FIRST: u64 = 1;

/// The files of one store.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    number: u64,
    /// Whether `db.current` was there: if so, the folder must be, and its content.
    pub(super) created: bool,
}

impl Place {
    /// Finds the store below `root`. Its folder is there afterwards, unless it was lost.
    pub(super) fn find(root: &Path) -> io::Result<Self> {
        let found = if_there(fs::read_to_string(root.join(CURRENT)))?;
        let place = Self {
            root: root.to_owned(),
            number: found.as_deref().map_or(Ok(FIRST), number)?,
            created: found.is_some(),
        };
        if !place.created {
            if !place.others()?.is_empty() {
                return Err(damaged("is missing, so it is unknown which folder counts"));
            }
            create_private(&place.folder())?;
        }
        Ok(place)
    }

    /// The number of the folder.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Below which everything is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// sled's folder.
    pub(super) fn folder(&self) -> PathBuf {
        self.root.join(format!("{PREFIX}{}", self.number))
    }

    /// Whether this place still counts. Ask once its lock is held: a restore by the former holder points
    /// elsewhere before it lets go.
    pub(super) fn confirm(&self) -> io::Result<Option<()>> {
        Ok((Self::find(&self.root)?.number == self.number).then_some(()))
    }

    /// The place of the next content, empty.
    pub(super) fn next(&self) -> io::Result<Self> {
        let next = Self { root: self.root.clone(), number: self.number.saturating_add(1), created: false };
        // A restore that was abandoned before may have left a part.
        remove(&next.folder())?;
        create_private(&next.folder())?;
        Ok(next)
    }

    /// Points to this place, durably: whoever opens the store from now on finds this content.
    pub(super) fn point(&mut self) -> io::Result<()> {
        let next = self.root.join(NEXT);
        let mut file = File::create(&next)?;
        writeln!(file, "{}", self.number)?;
        file.sync_all()?;
        fs::rename(&next, self.root.join(CURRENT))?;
        File::open(&self.root)?.sync_all()?;
        self.created = true;
        Ok(())
    }

    /// Removes what earlier restores replaced or left half done.
    pub(super) fn sweep(&self) -> io::Result<()> {
        self.others()?.iter().try_for_each(|folder| remove(folder))
    }

    /// Folders of sled's that do not count.
    fn others(&self) -> io::Result<Vec<PathBuf>> {
        let mut others = Vec::new();
        for entry in if_there(fs::read_dir(&self.root))?.into_iter().flatten() {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(PREFIX.as_bytes()) && path != self.folder() {
                others.push(path);
            }
        }
        Ok(others)
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.trim_end().parse().map_err(|_| damaged("holds no number"))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{CURRENT} {what}"))
}

fn create_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn remove(folder: &Path) -> io::Result<()> {
    if_there(fs::remove_dir_all(folder)).map(|_| ())
}

/// The outcome, or `None` if there is no such file.
fn if_there<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
