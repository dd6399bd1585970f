//! The state in memory and on disk.
//!
//! Promises: whoever reads waits for no disk, and hears of a loss before it is saved; one save at a time.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy::id::PlantDomain;
use tokio::sync::watch;

use super::{State, stored};
use crate::durable;
use crate::plant::PlantRoot;

/// Name of the file in the state folder.
pub(crate) const FILE: &str = "state.json";
/// Longest state file in bytes: a trust set at its bound in base64, and room for keys and certificates.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// What a file is called that was set aside because it is corrupt.
pub(crate) const CORRUPT: &str = "state.json.corrupt";

/// The state file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadStateError {
    /// The system does not give it.
    #[error(
        "the state file {} cannot be read: {source}; run the attestor as the user who owns it",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Its content does not hold together.
    #[error(
        "the state file {} is corrupt: {reason}; a device with a TPM enrolls again by that, one without joins again with a \
         new token once the file is deleted",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What does not hold.
        reason: String,
    },
}

/// The state could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("the state file {} cannot be written: {source}; free space or correct its owner", file.display())]
pub struct SaveStateError {
    file: PathBuf,
    #[source]
    source: std::io::Error,
}

/// The state in memory and on disk: the same, but for what could not be saved and counts all the same.
#[derive(Debug)]
pub struct Keeper {
    file: PathBuf,
    /// What counts. Locked for a moment only.
    state: Mutex<Arc<State>>,
    /// What the file says. Locked while it is written; whoever has both locks took this one first.
    pub(super) saved: Mutex<Arc<State>>,
    changed: watch::Sender<()>,
    seen: Mutex<Option<Seen>>,
}

/// Mode of the file of a state.
const MODE: u32 = 0o600;
/// Mode of one that its daemon knows better than. A mode can be changed on a disk that has no room for a byte, and with the
/// next file that is saved it is gone.
const OUTDATED: u32 = 0o400;

/// What is said about one.
pub(crate) const UNSAVED: &str = "what the device heard last could not be saved";
/// What to do about that.
pub(crate) const MAKE_ROOM: &str =
    "make room on the disk of the device's state, and bring the network to the broker back";

/// Tells a file from the one that replaces it, and whether its daemon has said that it is outdated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    changed: (i64, i64),
    outdated: bool,
}

impl Seen {
    fn of(file: &Path) -> Option<Self> {
        let found = std::fs::metadata(file).ok()?;
        Some(Self {
            inode: found.ino(),
            changed: (found.ctime(), found.ctime_nsec()),
            outdated: found.permissions().mode() & 0o777 == OUTDATED,
        })
    }
}

impl Keeper {
    /// Loads the state of the folder `dir`, which is made if it is missing. No file is an empty state.
    pub fn load(dir: &Path, plant: &PlantDomain, root: &PlantRoot) -> Result<Self, LoadStateError> {
        let file = dir.join(FILE);
        let unreadable = |source| LoadStateError::Unreadable { file: file.clone(), source };
        durable::make_dir(dir, 0o700).map_err(unreadable)?;
        let state = match durable::read_bounded(&file, MAX_FILE) {
            Ok(bytes) => stored::parse(&bytes, plant, root)
                .map_err(|reason| LoadStateError::Corrupt { file: file.clone(), reason })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(unreadable(source)),
        };
        let (state, seen) = (Arc::new(state), Mutex::new(Seen::of(&file)));
        let (saved, state) = (Mutex::new(Arc::clone(&state)), Mutex::new(state));
        Ok(Self { file, state, saved, changed: watch::Sender::new(()), seen })
    }

    /// The same for a device with a TPM, which is who it was without any state: a file that is corrupt is set aside, and
    /// the device enrolls again; the state says so.
    pub fn load_or_set_aside(
        dir: &Path,
        plant: &PlantDomain,
        root: &PlantRoot,
    ) -> Result<Self, LoadStateError> {
        let aside = dir.join(CORRUPT);
        let (keeper, lost) = match Self::load(dir, plant, root) {
            Err(corrupt @ LoadStateError::Corrupt { .. }) => {
                if std::fs::rename(dir.join(FILE), &aside).is_err() {
                    return Err(corrupt);
                }
                let lost = format!("{corrupt}; it was set aside as {}", aside.display());
                tracing::error!("{lost}");
                (Self::load(dir, plant, root)?, lost)
            }
            // Before this start, which nothing was saved after.
            Ok(keeper) if !keeper.file.exists() && aside.exists() => {
                let aside = aside.display();
                let lost =
                    format!("the state file was corrupt and set aside as {aside}; the device enrolls again");
                (keeper, lost)
            }
            loaded => return loaded,
        };
        keeper.note(|state| state.lost = Some(lost));
        Ok(keeper)
    }

    /// Reads the file again if another process replaced it since; whether it did.
    pub fn reread(&self, plant: &PlantDomain, root: &PlantRoot) -> Result<bool, LoadStateError> {
        let now = Seen::of(&self.file);
        if *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == now {
            return Ok(false);
        }
        let unreadable = |source| LoadStateError::Unreadable { file: self.file.clone(), source };
        let bytes = durable::read_bounded(&self.file, MAX_FILE).map_err(unreadable)?;
        let state = stored::parse(&bytes, plant, root)
            .map_err(|reason| LoadStateError::Corrupt { file: self.file.clone(), reason })?;
        let state = Arc::new(state);
        *self.saved() = Arc::clone(&state);
        *self.state() = state;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.changed.send_replace(());
        Ok(true)
    }

    /// Whether the process that writes the file, or wrote it before this one, said that it could not save what counts since.
    pub fn is_outdated(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|seen| seen.outdated)
    }

    /// What counts is known again: the broker has said it anew.
    pub(crate) fn is_current(&self) {
        if let Some(seen) = &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            seen.outdated = false;
        }
    }

    /// Whether a place is all that the device was given, and the file claims no more: it is saved with the keys that are made for
    /// it, before the broker hears of them; one that is lost until then is given again.
    pub(crate) fn has_place_alone(&self) -> bool {
        let saved = Arc::clone(&self.saved());
        self.read(|state| state.has_place_alone() && !state.lost_since(&saved))
    }

    /// Lets those who hear of changes look again.
    pub fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Looks at the state as it is now.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let state = Arc::clone(&self.state());
        look(&state)
    }

    /// Changes the state; on an error it is as before, in memory and on disk. What is changed meanwhile in memory alone
    /// stays: then `change` is called again.
    pub fn update<T>(&self, change: impl Fn(&mut State) -> T) -> Result<T, SaveStateError> {
        let mut saved = self.saved();
        loop {
            let before = Arc::clone(&self.state());
            let mut next = State::clone(&before);
            let value = change(&mut next);
            self.save(&next)?;
            let next = Arc::new(next);
            *saved = Arc::clone(&next);
            let mut state = self.state();
            if Arc::ptr_eq(&state, &before) {
                *state = next;
                drop(state);
                self.changed.send_replace(());
                return Ok(value);
            }
        }
    }

    /// Changes the state in memory even if it cannot be saved: a full disk must not keep a device from hearing what it,
    /// or a peer, lost. [`Keeper::catch_up`] saves it later.
    pub fn insist(&self, change: impl FnOnce(&mut State)) -> Result<(), SaveStateError> {
        self.note(change);
        self.catch_up()
    }

    /// Changes the state in memory; [`Keeper::catch_up`], or the next change, saves it. For what is not to wait for a
    /// disk, and for what a start finds out anew.
    pub fn note(&self, change: impl FnOnce(&mut State)) {
        change(Arc::make_mut(&mut self.state()));
        self.changed.send_replace(());
    }

    /// Saves what was not saved before. While that fails, a file that claims too much says that it is outdated, to
    /// whoever goes by it.
    pub fn catch_up(&self) -> Result<(), SaveStateError> {
        let mut saved = self.saved();
        let state = Arc::clone(&self.state());
        if Arc::ptr_eq(&saved, &state) {
            return Ok(());
        }
        let ended = self.save(&state);
        match &ended {
            Ok(()) => *saved = state,
            Err(_) if state.lost_since(&saved) => {
                // Without a file there is nothing to be outdated, and a disk that takes no mode either is named by the error.
                drop(std::fs::set_permissions(&self.file, std::fs::Permissions::from_mode(OUTDATED)));
            }
            Err(_) => {}
        }
        ended
    }

    fn state(&self) -> MutexGuard<'_, Arc<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saved(&self) -> MutexGuard<'_, Arc<State>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, state: &State) -> Result<(), SaveStateError> {
        // One that was outdated when it was found is so until the broker has said anew what counts.
        let mode = if self.is_outdated() { OUTDATED } else { MODE };
        durable::replace(&self.file, &stored::write(state), mode)
            .map_err(|source| SaveStateError { file: self.file.clone(), source })
    }

    /// Hears of every change from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
