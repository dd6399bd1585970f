//! Opening the embedded store, and the ways in which that fails.

use super::{
    SledStore,
    committer::{Committer, QUEUE, Sync, encoded},
    damage::contained,
    view::SharedView,
};
use crate::store::{
    BrokerId,
    commit::{Journal, Position},
    feed::Feed,
    record,
};
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::mpsc;

/// Memory for sled's pages.
const CACHE_BYTES: u64 = 64 << 20;

/// sled frees its lock only when its last thread has ended, shortly after the store is dropped.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Pause between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// In sled's default tree: number of the tree that holds the content.
pub(super) const CURRENT: &str = "current";

/// In each content tree: the position, out of every reader's sight.
pub(super) const POSITION: &str = "\0position";

const TREE_PREFIX: &str = "data-";

/// Says that a store was created here, so that a store which lost its content is not taken for a new one.
const CREATED: &str = "db.created";

const CREATED_TEXT: &str = "A Touchstone store was created in the folder db beside this file.\n\
    If that folder is gone or empty, the store is lost: restore the last backup into a new folder.\n";

/// Name of the content tree `number`.
pub(super) fn tree_name(number: u64) -> String {
    format!("{TREE_PREFIX}{number}")
}

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
        let folder = root.join("db");
        create_private(&folder).map_err(|error| OpenError::io(&folder, error))?;
        refuse_exposed(&folder)?;
        let db = open_sled(&folder)?;
        let sync = full_sync(&db, &folder).map_err(|error| OpenError::io(&folder, error))?;
        Self::start(root, broker, db, sync)
    }

    /// Recovers the content of `db` and starts the committer; `sync` is given so that tests can fail it.
    pub(super) fn start(
        root: &Path,
        broker: BrokerId,
        db: ::sled::Db,
        mut sync: Sync,
    ) -> Result<Self, OpenError> {
        let folder = root.join("db");
        let found = Content::find(&db, root.join(CREATED).exists()).map_err(OpenError::damaged(&folder))?;
        contained(&mut sync).map_err(OpenError::damaged(&folder))?;
        mark_created(root, &folder).map_err(|error| OpenError::io(&folder, error))?;

        let journal = Journal::open(broker, found.position);
        let feed = Arc::new(Feed::new(journal.position().revision));
        let view = SharedView::new(found.tree.clone());
        let committer = Committer {
            db,
            sync,
            number: found.number,
            tree: found.tree,
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

/// The content tree that counts.
struct Content {
    number: u64,
    tree: ::sled::Tree,
    position: Position,
}

impl Content {
    /// Finds the current content, or begins an empty one if there never was any; drops what an earlier
    /// restore replaced or left half done.
    fn find(db: &::sled::Db, created: bool) -> Result<Self, String> {
        let pointer = contained(|| db.get(CURRENT))?;
        let number = match &pointer {
            Some(bytes) => u64::from_be_bytes(
                bytes.as_ref().try_into().map_err(|_| "the pointer to its content is damaged".to_owned())?,
            ),
            None if created => return Err("its content is gone".to_owned()),
            None => 1,
        };
        let name = tree_name(number);
        if pointer.is_some() && !db.tree_names().iter().any(|tree| tree == name.as_bytes()) {
            return Err(format!("its content {name} is gone"));
        }
        let tree = contained(|| db.open_tree(&name))?;
        let position = match contained(|| tree.get(POSITION))? {
            Some(bytes) => record::decode(POSITION, &bytes).map_err(|error| error.to_string())?,
            None if pointer.is_some() => return Err("its revision is gone".to_owned()),
            None => begin(db, &tree)?,
        };
        drop_others(db, &name)?;
        Ok(Self { number, tree, position })
    }
}

fn begin(db: &::sled::Db, tree: &::sled::Tree) -> Result<Position, String> {
    let position = Position::default();
    let bytes = encoded(&position)?;
    contained(|| {
        tree.insert(POSITION, bytes)?;
        db.insert(CURRENT, &1_u64.to_be_bytes())
    })?;
    Ok(position)
}

fn drop_others(db: &::sled::Db, current: &str) -> Result<(), String> {
    for name in db.tree_names() {
        if name.starts_with(TREE_PREFIX.as_bytes()) && name != current.as_bytes() {
            contained(|| db.drop_tree(&name))?;
        }
    }
    Ok(())
}

/// Creates the folder for this user only.
pub(super) fn create_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn refuse_exposed(folder: &Path) -> Result<(), OpenError> {
    let metadata = fs::metadata(folder).map_err(|error| OpenError::io(folder, error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Exposed { folder: folder.to_owned(), mode });
    }
    Ok(())
}

/// Opens sled's files, with patience for the lock.
pub(super) fn open_sled(folder: &Path) -> Result<::sled::Db, OpenError> {
    let config = ::sled::Config::new().path(folder).cache_capacity(CACHE_BYTES);
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let mut refused = None;
        let opened = contained(|| {
            config.open().inspect_err(|error| {
                if let ::sled::Error::Io(error) = error {
                    refused = Some(io::Error::new(error.kind(), error.to_string()));
                }
            })
        });
        match (opened, refused) {
            (Ok(db), _) => return Ok(db),
            (Err(_), Some(error)) if !is_lock(&error) => return Err(OpenError::io(folder, error)),
            (Err(_), Some(_)) if Instant::now() < deadline => thread::sleep(LOCK_PAUSE),
            (Err(_), Some(_)) => return Err(OpenError::Taken { folder: folder.to_owned() }),
            (Err(why), None) => return Err(OpenError::damaged(folder)(why)),
        }
    }
}

/// sled 0.34.7 reports the WouldBlock of its lock as an error of kind Other with this text.
fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Makes the files of a new store durable, and gives the sync that makes its content so.
///
/// sled's `flush` writes its log but never syncs it (`sync_file_range` has no barrier). The descriptor is
/// our own, so a write error is reported to us even if sled's own thread was told of it before.
pub(super) fn full_sync(db: &::sled::Db, folder: &Path) -> io::Result<Sync> {
    let file = File::open(folder.join("db"))?;
    file.sync_all()?;
    File::open(folder.join("conf"))?.sync_all()?;
    File::open(folder)?.sync_all()?;
    let db = db.clone();
    Ok(Box::new(move || {
        db.flush()?;
        file.sync_data()
    }))
}

fn mark_created(root: &Path, folder: &Path) -> io::Result<()> {
    let path = root.join(CREATED);
    if !path.exists() {
        let mut file = File::create(path)?;
        file.write_all(CREATED_TEXT.as_bytes())?;
        file.sync_all()?;
    }
    File::open(folder)?.sync_all()?;
    File::open(root)?.sync_all()
}
