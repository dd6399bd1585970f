//! Opening the embedded store, and the ways in which that fails.

use super::{
    SledStore,
    committer::{Committer, QUEUE},
    damage::contained,
    database::{Database, Fault},
    place::Place,
    view::SharedView,
    watermark::Watermark,
};
use crate::store::{
    BrokerId,
    commit::{Journal, Position},
    feed::Feed,
};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::mpsc;

/// sled frees its lock only when its last thread has ended, shortly after the store is dropped.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Pause between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why the store did not open. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the store.
    #[error("another process uses the store {folder:?}; stop it, one broker has one store")]
    Taken {
        /// sled's folder.
        folder: PathBuf,
    },
    /// This process may not read and write the folder.
    #[error("no permission for the store {folder:?}; give the folder and its files to the broker's user")]
    NotPermitted {
        /// sled's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read the folder.
    #[error("the store {folder:?} is open to others (mode {mode:03o}); run chmod 700 on it")]
    Exposed {
        /// sled's folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is corrupt, or gone.
    #[error(
        "the store {folder:?} is damaged ({why}); keep the folder as it is, never delete its snap.* files, \
         and restore the last backup into a new folder with `touchstone restore`"
    )]
    Damaged {
        /// sled's folder.
        folder: PathBuf,
        /// What was found.
        why: String,
    },
    /// The system refused something else.
    #[error("cannot open the store {folder:?}; check the disk it is on")]
    Io {
        /// sled's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(folder: &Path, source: io::Error) -> Self {
        let folder = folder.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { folder, source },
            io::ErrorKind::InvalidData => Self::Damaged { folder, why: source.to_string() },
            _ => Self::Io { folder, source },
        }
    }

    fn damaged(folder: &Path) -> impl Fn(String) -> Self {
        move |why| Self::Damaged { folder: folder.to_owned(), why }
    }
}

impl SledStore {
    /// Opens the store below `root`, or creates one, as a new start of `broker`.
    ///
    /// Blocks: it reads sled's log, and waits up to two seconds for a former owner to free the lock.
    pub fn open(root: &Path, broker: BrokerId) -> Result<Self, OpenError> {
        let place = Place::find(root).map_err(|error| OpenError::io(root, error))?;
        let database = open_database(&place)?;
        Self::start(place, database, broker)
    }

    /// Begins a new start of `broker` on an open database.
    pub(super) fn start(
        mut place: Place,
        mut database: Database,
        broker: BrokerId,
    ) -> Result<Self, OpenError> {
        let folder = place.folder();
        let counts = place.confirm().map_err(|error| OpenError::io(&folder, error))?;
        counts.ok_or_else(|| OpenError::Taken { folder: folder.clone() })?;
        let position = recover(&place, &mut database).map_err(OpenError::damaged(&folder))?;
        let watermark = Watermark::open(place.root()).map_err(|error| OpenError::io(place.root(), error))?;
        let acknowledged =
            watermark.acknowledged(place.number()).map_err(|error| OpenError::io(place.root(), error))?;
        if position.revision < acknowledged {
            let why =
                format!("it ends at revision {}, but {acknowledged} was acknowledged", position.revision);
            return Err(OpenError::Damaged { folder, why });
        }
        if !place.created {
            place.point().map_err(|error| OpenError::io(&folder, error))?;
        }
        place.sweep().map_err(|error| OpenError::io(&folder, error))?;

        let journal = Journal::open(broker, position);
        let feed = Arc::new(Feed::new(journal.position().revision));
        let view = SharedView::new(database.tree.clone());
        let committer = Committer {
            place,
            database,
            watermark,
            journal,
            view: view.clone(),
            feed: Arc::clone(&feed),
            syncs: 0,
            poison: None,
        };
        let (jobs, queue) = mpsc::channel(QUEUE);
        let committer = thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || committer.run(queue))
            .map_err(|error| OpenError::io(&folder, error))?;
        Ok(Self { view, feed, jobs: Some(jobs), committer: Some(committer) })
    }
}

/// Where the store stands; a new store is given its first position.
fn recover(place: &Place, database: &mut Database) -> Result<Position, String> {
    match database.position()? {
        Some(position) => {
            // What a killed broker left unsynced must be durable before anyone sees it.
            contained(&mut database.sync)?;
            Ok(position)
        }
        None if place.created => Err("its content is gone".to_owned()),
        None => {
            let position = Position::default();
            database.seal(&position)?;
            Ok(position)
        }
    }
}

/// Opens the database of `place`, with patience for the lock.
pub(super) fn open_database(place: &Place) -> Result<Database, OpenError> {
    let folder = place.folder();
    refuse_unfit(&folder, place.created)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match Database::open(&folder) {
            Ok(database) => return Ok(database),
            Err(Fault::Taken) if Instant::now() < deadline => thread::sleep(LOCK_PAUSE),
            Err(Fault::Taken) => return Err(OpenError::Taken { folder }),
            Err(Fault::Io(error)) => return Err(OpenError::io(&folder, error)),
            Err(Fault::Damaged(why)) => return Err(OpenError::Damaged { folder, why }),
        }
    }
}

fn refuse_unfit(folder: &Path, created: bool) -> Result<(), OpenError> {
    let metadata = match fs::metadata(folder) {
        Err(error) if created && error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::damaged(folder)("the folder is gone".to_owned()));
        }
        found => found.map_err(|error| OpenError::io(folder, error))?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Exposed { folder: folder.to_owned(), mode });
    }
    Ok(())
}
