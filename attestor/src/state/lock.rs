//! One process at a time has a state folder: two daemons would each save over what the other heard.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::LoadStateError;
use crate::durable;

/// Holds a state folder until it is dropped, or its process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _folder: File,
}

impl Lock {
    /// Makes the folder if it is missing, and takes it for a daemon.
    pub(crate) fn of(dir: &Path) -> Result<Option<Self>, LoadStateError> {
        let taken = durable::make_dir(dir, 0o700).and_then(|()| Self::take(dir));
        taken.map_err(|source| LoadStateError::Unreadable { file: dir.to_owned(), source })
    }

    /// Takes the folder `dir`, which must be there; None while another process has it.
    pub(crate) fn take(dir: &Path) -> io::Result<Option<Self>> {
        // The folder itself is locked, so that nothing is left behind and whoever may not write to it is told so too.
        let folder = File::open(dir)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _folder: folder })),
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_had_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path()).unwrap();
        assert!(held.is_some() && Lock::take(dir.path()).unwrap().is_none());
        drop(held);
        assert!(Lock::take(dir.path()).unwrap().is_some());
        assert_eq!(Lock::take(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
