//! Blobs as files: `blobs/ab/cdef...`, named by the SHA-256 of their bytes.
//!
//! What gets smaller by it is stored packed, as `cdef....lz4`. Older brokers deflated instead, as `cdef....z`, which is
//! read as before.
//! Promises: when `put` answers, the file survives a power cut; a crash leaves no half-written blob under a digest's
//! name.
//! Does not promise: a lock. One process uses a folder, the one that holds the store beside it.

#[cfg(test)]
mod tests;

use super::{
    BlobIoError, FetchError, MAX_BLOB, PutError,
    form::{Form, beyond, packed},
};
use crate::store::Digest;
use policy::digest::ParseDigestError;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Blobs that are known to be durable, at most: a fleet has few logs that many devices share.
const MAX_DURABLE: usize = 4096;

/// Blobs that wait to be removed, at most.
const MAX_DISCARDED: usize = 64;

/// Begins the name of a file that is still being written.
const TEMPORARY: &str = "tmp-";

/// Hex digits of the digest that name the subfolder.
const SHARD_DIGITS: usize = 2;

impl Form {
    /// Every form, the most frequent first: only logs get smaller.
    const ALL: [Self; 3] = [Self::Whole, Self::Packed, Self::Deflated];

    /// What it ends the name of the file with.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Packed => ".lz4",
            Self::Deflated => ".z",
        }
    }
}

/// The folder of blobs.
#[derive(Debug, Clone)]
pub(in crate::store) struct Folder {
    folder: Arc<PathBuf>,
    /// Numbers the temporary files.
    written: Arc<AtomicU64>,
    /// What the next sweep may remove. Putting a blob again takes it off, so that none goes that is about to
    /// be named.
    condemned: Arc<Mutex<BTreeSet<Digest>>>,
    /// Names that this process knows to survive a power cut: what needs not be synced again.
    durable: Arc<Mutex<Durable>>,
    /// What is there no more, and is removed with the next blob that is put: a thread that waits for the disk costs more
    /// to wake than a file to remove.
    discarded: Arc<Mutex<BTreeSet<Digest>>>,
}

/// Subfolders, and blobs that were put more than once and read back whole.
#[derive(Debug, Default)]
struct Durable {
    shards: BTreeSet<PathBuf>,
    blobs: BTreeSet<Digest>,
    /// Those that were found altered since.
    altered: BTreeSet<Digest>,
}

impl Folder {
    /// Opens the folder `blobs` below `root`, or creates it, and removes what a crash left half written.
    pub(super) fn open(root: &Path) -> Result<Self, BlobIoError> {
        let folder = root.join("blobs");
        create_private(&folder)?;
        sync_folder(root)?;
        for entry in entries(&folder)? {
            if entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()))
            {
                fs::remove_file(&entry).map_err(failed("remove", &entry))?;
            }
        }
        Ok(Self {
            folder: Arc::new(folder),
            written: Arc::default(),
            condemned: Arc::default(),
            durable: Arc::default(),
            discarded: Arc::default(),
        })
    }

    /// Stores `bytes` and gives their digest. Putting what is there already changes nothing.
    pub(super) async fn put(&self, bytes: Vec<u8>) -> Result<Digest, PutError> {
        self.putting(move |blobs| blobs.put_now(&bytes)).await
    }

    /// [`put`](Self::put) of several, on one thread that waits for the disk.
    pub(super) async fn put_all(&self, all: Vec<Vec<u8>>) -> Result<(), PutError> {
        self.putting(move |blobs| all.iter().try_for_each(|bytes| blobs.put_now(bytes).map(drop))).await
    }

    /// [`put_all`](Self::put_all), and whether the blob `other` is there and was not found altered.
    pub(super) async fn put_beside(&self, other: Digest, all: Vec<Vec<u8>>) -> Result<bool, PutError> {
        let put = move |blobs: &Self| {
            all.iter().try_for_each(|bytes| blobs.put_now(bytes).map(drop))?;
            Ok(blobs.is_there(&other) && !blobs.durable().altered.contains(&other))
        };
        self.putting(put).await
    }

    async fn putting<T: Send + 'static>(
        &self,
        put: impl FnOnce(&Self) -> Result<T, PutError> + Send + 'static,
    ) -> Result<T, PutError> {
        let blobs = self.clone();
        let path = self.folder.to_path_buf();
        let task = move || {
            let put = put(&blobs);
            blobs.remove_discarded();
            put
        };
        let done = tokio::task::spawn_blocking(task).await;
        done.map_err(|ended| PutError::Io(failed("write below", &path)(ended.into())))?
    }

    /// The blob named `digest`, if it has at most `max` bytes and still has that digest.
    pub(super) async fn fetch(&self, digest: Digest, max: usize) -> Result<Vec<u8>, FetchError> {
        let blobs = self.clone();
        let path = self.path(&digest);
        let done = tokio::task::spawn_blocking(move || blobs.fetch_now(&digest, max)).await;
        done.map_err(|ended| FetchError::Io(failed("read", &path)(ended.into())))?
    }

    /// Every blob there is, in no order; 32 bytes of memory each.
    pub(super) async fn list(&self) -> Result<Vec<Digest>, BlobIoError> {
        let blobs = self.clone();
        let done = tokio::task::spawn_blocking(move || blobs.list_now()).await;
        done.map_err(|ended| failed("list", &self.folder)(ended.into()))?
    }

    /// Removes a blob; removing what is not there is no error. Not durable by itself: after a power cut the
    /// blob may be there again, which a later sweep mends.
    pub(super) async fn remove(&self, digest: Digest) -> Result<(), BlobIoError> {
        let blobs = self.clone();
        let done = tokio::task::spawn_blocking(move || blobs.remove_now(&digest)).await;
        done.map_err(|ended| failed("remove", &self.folder)(ended.into()))?
    }

    /// Removes a blob soon. It is not found from now on.
    pub(super) async fn discard(&self, digest: Digest) {
        let waiting = {
            let mut discarded = self.discarded();
            discarded.insert(digest);
            discarded.len()
        };
        if waiting >= MAX_DISCARDED {
            let blobs = self.clone();
            // What a task that was ended leaves is swept.
            let _ = tokio::task::spawn_blocking(move || blobs.remove_discarded()).await;
        }
    }

    fn remove_discarded(&self) {
        let waiting = std::mem::take(&mut *self.discarded());
        for digest in waiting {
            if let Err(error) = self.remove_now(&digest) {
                tracing::warn!(%error, "an old blob stays");
            }
        }
    }

    fn discarded(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        // At worst a file stays until it is swept.
        self.discarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks what [`remove_condemned`](Self::remove_condemned) may remove, instead of what it was before.
    pub(super) fn condemn(&self, digests: &BTreeSet<Digest>) {
        self.condemned().clone_from(digests);
    }

    /// Removes a blob, unless it was put again since it was condemned. Says whether it is gone.
    pub(super) async fn remove_condemned(&self, digest: Digest) -> Result<bool, BlobIoError> {
        let blobs = self.clone();
        let remove = move || {
            // Held until the file is gone: who puts it again meanwhile waits, and then writes it anew.
            let mut condemned = blobs.condemned();
            let gone = condemned.remove(&digest);
            if gone { blobs.remove_now(&digest).map(|()| true) } else { Ok(false) }
        };
        let done = tokio::task::spawn_blocking(remove).await;
        done.map_err(|ended| failed("remove", &self.folder)(ended.into()))?
    }

    fn condemned(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        // A set of digests is whole whatever happened to who held it.
        self.condemned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn durable(&self) -> MutexGuard<'_, Durable> {
        // At worst something is synced once more.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_durable(&self, digest: Digest) {
        let mut durable = self.durable();
        if durable.blobs.len() >= MAX_DURABLE {
            durable.blobs.clear();
        }
        durable.blobs.insert(digest);
    }

    /// What is altered is written anew when it is put again.
    fn note_altered(&self, digest: &Digest, error: &FetchError) {
        let mut durable = self.durable();
        durable.blobs.remove(digest);
        if matches!(error, FetchError::Altered { .. }) && durable.altered.len() < MAX_DURABLE {
            durable.altered.insert(*digest);
        }
    }

    fn is_there(&self, digest: &Digest) -> bool {
        let path = self.path(digest);
        Form::ALL.into_iter().any(|form| formed(&path, form).exists()) && !self.discarded().contains(digest)
    }

    fn remove_now(&self, digest: &Digest) -> Result<(), BlobIoError> {
        let path = self.path(digest);
        self.durable().blobs.remove(digest);
        Form::ALL.into_iter().try_for_each(|form| remove_file(&formed(&path, form)))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.hex();
        let (shard, rest) = name.split_at(SHARD_DIGITS);
        self.folder.join(shard).join(rest)
    }

    fn put_now(&self, bytes: &[u8]) -> Result<Digest, PutError> {
        if bytes.len() > MAX_BLOB {
            return Err(PutError::TooLarge { length: bytes.len() });
        }
        let digest = Digest::of(bytes);
        self.condemned().remove(&digest);
        self.discarded().remove(&digest);
        if self.durable().blobs.contains(&digest) && self.is_there(&digest) {
            return Ok(digest);
        }
        let path = self.path(&digest);
        let shard = path.parent().unwrap_or(&self.folder);
        let held = self.fetch_now(&digest, bytes.len());
        if let Err(why) = &held {
            let (form, bytes) = packed(bytes.to_vec());
            self.write(&bytes, shard, &formed(&path, form)).map_err(PutError::Io)?;
            // What was altered must not be found before it.
            let others = Form::ALL.into_iter().filter(|other| *other != form);
            self.durable().altered.remove(&digest);
            for other in others.filter(|_| !matches!(why, FetchError::Missing { .. })) {
                remove_file(&formed(&path, other)).map_err(PutError::Io)?;
            }
        }
        // Also for a file that was there: whoever renamed it may not have come to this line yet.
        sync_folder(shard).map_err(PutError::Io)?;
        if held.is_ok() {
            self.note_durable(digest);
        }
        Ok(digest)
    }

    fn write(&self, bytes: &[u8], shard: &Path, path: &Path) -> Result<(), BlobIoError> {
        if !self.durable().shards.contains(shard) {
            create_private(shard)?;
            sync_folder(&self.folder)?;
            self.durable().shards.insert(shard.to_owned());
        }
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{TEMPORARY}{number}"));
        let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
        written.map_err(|error| {
            // What cannot be removed now is removed at the next open.
            let _ = fs::remove_file(&temporary);
            self.durable().shards.remove(shard);
            failed("write", path)(error)
        })
    }

    /// [`fetch`](Self::fetch) on this thread, which waits for the disk.
    pub(super) fn fetch_now(&self, digest: &Digest, max: usize) -> Result<Vec<u8>, FetchError> {
        let path = self.path(digest);
        if self.discarded().contains(digest) {
            return Err(FetchError::Missing { path });
        }
        for form in Form::ALL {
            let path = formed(&path, form);
            // In another form than whole it is only kept where that is shorter.
            let held = match read_bounded(&path, max) {
                Err(FetchError::Missing { .. }) => continue,
                read => read?,
            };
            let whole =
                form.unpacked(&path, held, max).and_then(|bytes| match Digest::of(&bytes) == *digest {
                    true => Ok(bytes),
                    false => Err(FetchError::Altered { path }),
                });
            return whole.inspect_err(|error| self.note_altered(digest, error));
        }
        Err(FetchError::Missing { path })
    }

    fn list_now(&self) -> Result<Vec<Digest>, BlobIoError> {
        self.remove_discarded();
        let mut digests = Vec::new();
        for shard in entries(&self.folder)?.into_iter().filter(|path| path.is_dir()) {
            // Files of other names are not ours to list.
            digests.extend(entries(&shard)?.iter().filter_map(|path| named(&shard, path).ok()));
        }
        digests.sort_unstable();
        digests.dedup();
        Ok(digests)
    }
}

/// The digest that a file's place stands for.
fn named(shard: &Path, path: &Path) -> Result<Digest, ParseDigestError> {
    let text = |path: &Path| path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
    let name = text(path);
    let packed = [Form::Packed, Form::Deflated].iter().find_map(|form| name.strip_suffix(form.suffix()));
    format!("{}{}", text(shard), packed.unwrap_or(&name)).parse()
}

/// The file at `path` in another form.
fn formed(path: &Path, form: Form) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(form.suffix());
    name.into()
}

/// Removes a file; one that is not there is no error.
fn remove_file(path: &Path) -> Result<(), BlobIoError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The content of a file of at most `max` bytes.
fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, FetchError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FetchError::Missing { path: path.to_owned() });
        }
        Err(error) => return Err(FetchError::Io(failed("read", path)(error))),
        Ok(file) => file,
    };
    // One byte more than allowed tells a file that is too large from one that fits.
    let limit = u64::try_from(max.min(MAX_BLOB)).unwrap_or(u64::MAX).saturating_add(1);
    // Read in one go: a plan reads the evidence of a whole fleet.
    let length = file.metadata().map_or(0, |meta| meta.len()).min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(1));
    file.take(limit).read_to_end(&mut bytes).map_err(|error| FetchError::Io(failed("read", path)(error)))?;
    if bytes.len() > max.min(MAX_BLOB) {
        return Err(beyond(path, max));
    }
    Ok(bytes)
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> BlobIoError + use<'a> {
    move |source| BlobIoError::on_disk(action, path.to_owned(), source)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, BlobIoError> {
    let listed = fs::read_dir(folder).and_then(|found| found.map(|entry| Ok(entry?.path())).collect());
    listed.map_err(failed("list", folder))
}

fn create_private(folder: &Path) -> Result<(), BlobIoError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("create", folder))
}

fn sync_folder(folder: &Path) -> Result<(), BlobIoError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed("sync", folder))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
