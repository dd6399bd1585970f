//! Blobs in etcd, beside the records: any broker reads what another put.
//!
//! `blob/<digest>` is how the bytes lie there, and the bytes of a small blob; those of a large one follow in parts,
//! `blob/<digest>/<number>`, because etcd takes 1.5 MiB at once. They are no part of a generation: a digest names the
//! same bytes for ever.
//! Promises: what is put was kept by etcd when `put` answers; what is put again while it waits to be swept stays, also
//! when another broker sweeps.
//! Does not promise: that what is discarded is gone; the sweep takes what is left.

use super::{
    EtcdOpenError, EtcdOptions,
    cluster::{Cluster, Trouble, absent, holds, ranged, read, unchanged},
    committer::put,
    layout::{Layout, end_of, pages},
};
use crate::store::{
    Digest,
    blobs::{BlobIoError, FetchError, MAX_BLOB, PutError, form},
};
use proto::etcd::{
    DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request as Op,
};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, sync::mpsc, time::Instant};

/// Bytes of a part.
const PART: usize = 512 << 10;

/// Blobs that are listed at once.
const PAGE: i64 = 5000;

/// How long what was put need not be put again: it is far from the day for which nobody named what is swept.
const KNOWN: Duration = Duration::from_secs(600);

/// Most blobs that are remembered, 100 bytes each.
const MOST_KNOWN: usize = 65_536;

/// Blobs that wait to be discarded, and those that are at once.
const DISCARDED: usize = 1024;
const AT_ONCE: usize = 100;

/// How a blob lies in etcd, in the first byte under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    /// The packed or whole bytes follow.
    Here(form::Form),
    /// So many parts are under the names that follow, in four bytes, greatest first.
    InParts(form::Form),
    /// Its parts are being written.
    Unfinished,
}

impl Lies {
    const fn byte(self) -> u8 {
        match self {
            Self::Here(form::Form::Whole) => 0,
            Self::Here(_) => 1,
            Self::InParts(form::Form::Whole) => 2,
            Self::InParts(_) => 3,
            Self::Unfinished => 4,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Here(form::Form::Whole)),
            1 => Some(Self::Here(form::Form::Packed)),
            2 => Some(Self::InParts(form::Form::Whole)),
            3 => Some(Self::InParts(form::Form::Packed)),
            4 => Some(Self::Unfinished),
            _ => None,
        }
    }
}

/// The blobs of the plant.
#[derive(Debug)]
pub(in crate::store) struct EtcdBlobs {
    cluster: Cluster,
    layout: Layout,
    /// When this broker put what.
    known: Mutex<HashMap<Digest, Instant>>,
    sweep: Mutex<Sweep>,
    discarded: mpsc::Sender<Digest>,
    runtime: Handle,
}

/// Blobs and etcd's revisions of them: whoever puts one again changes that.
#[derive(Debug, Default)]
struct Sweep {
    listed: HashMap<Digest, i64>,
    condemned: HashMap<Digest, i64>,
}

impl EtcdBlobs {
    pub(in crate::store) fn open(options: &EtcdOptions) -> Result<Arc<Self>, EtcdOpenError> {
        let cluster = Cluster::new(options).map_err(EtcdOpenError::Options)?;
        Ok(Self::new(cluster, Layout::new(&options.prefix)))
    }

    fn new(cluster: Cluster, layout: Layout) -> Arc<Self> {
        let (discarded, waiting) = mpsc::channel(DISCARDED);
        let blobs = Arc::new(Self {
            cluster,
            layout,
            known: Mutex::default(),
            sweep: Mutex::default(),
            discarded,
            runtime: Handle::current(),
        });
        // It ends with the last of those that hold the blobs.
        tokio::spawn(discard(Arc::downgrade(&blobs), waiting));
        blobs
    }

    pub(in crate::store) async fn put(&self, bytes: Vec<u8>) -> Result<Digest, PutError> {
        if bytes.len() > MAX_BLOB {
            return Err(PutError::TooLarge { length: bytes.len() });
        }
        let digest = Digest::of(&bytes);
        if self.knows(&digest) {
            return Ok(digest);
        }
        let (form, bytes) = form::packed(bytes);
        let written = match bytes.len() <= PART {
            true => self.put_small(&digest, form, &bytes).await,
            false => self.put_parts(&digest, form, &bytes).await,
        };
        let known = written.map_err(|trouble| PutError::Io(self.failed("write", &digest, &trouble)))?;
        // What was there is shared, as logs are; evidence comes once, and goes.
        if known {
            self.learn(digest);
        }
        Ok(digest)
    }

    /// Whether it was there is the answer, as of [`put_parts`](Self::put_parts).
    async fn put_small(&self, digest: &Digest, form: form::Form, bytes: &[u8]) -> Result<bool, Trouble> {
        let name = self.layout.blob(digest);
        let value = [&[Lies::Here(form).byte()], bytes].concat();
        // One that is there gets a revision of now, so that it is not swept.
        let txn = TxnRequest {
            compare: vec![absent(&name)],
            success: vec![put(&name, value)],
            failure: vec![touch(&name)],
        };
        Ok(!self.cluster.txn(txn).await?.succeeded)
    }

    async fn put_parts(&self, digest: &Digest, form: form::Form, bytes: &[u8]) -> Result<bool, Trouble> {
        let name = self.layout.blob(digest);
        let count = u32::try_from(bytes.len().div_ceil(PART)).unwrap_or(u32::MAX);
        let whole = [&[Lies::InParts(form).byte()][..], &count.to_be_bytes()].concat();
        let there = TxnRequest {
            compare: vec![holds(&name, &whole)],
            success: vec![touch(&name)],
            failure: Vec::new(),
        };
        if self.cluster.txn(there).await?.succeeded {
            return Ok(true);
        }
        // Before its parts: from here on it is not swept.
        self.set(&name, vec![Lies::Unfinished.byte()]).await?;
        for (number, part) in (0..count).zip(bytes.chunks(PART)) {
            self.set(&self.layout.blob_part(digest, number), part.to_vec()).await?;
        }
        self.set(&name, whole).await?;
        Ok(false)
    }

    async fn set(&self, name: &str, value: Vec<u8>) -> Result<(), Trouble> {
        let success = vec![put(name, value)];
        self.cluster.txn(TxnRequest { success, ..TxnRequest::default() }).await.map(drop)
    }

    pub(in crate::store) async fn fetch(&self, digest: Digest, max: usize) -> Result<Vec<u8>, FetchError> {
        let path = PathBuf::from(self.layout.blob(&digest));
        let failed = |trouble: Trouble| FetchError::Io(self.failed("read", &digest, &trouble));
        let altered = || FetchError::Altered { path: path.clone() };
        let held = self.one(&self.layout.blob(&digest)).await.map_err(failed)?;
        let missing = || FetchError::Missing { path: path.clone() };
        let held = held.ok_or_else(missing)?;
        let (lies, rest) = held.value.split_first().ok_or_else(altered)?;
        let (form, bytes) = match Lies::of(*lies).ok_or_else(altered)? {
            Lies::Here(form) => (form, rest.to_vec()),
            Lies::InParts(form) => {
                let count = rest.try_into().map(u32::from_be_bytes).map_err(|_| altered())?;
                (form, self.parts(&digest, count, max).await?)
            }
            Lies::Unfinished => return Err(missing()),
        };
        if bytes.len() > max.min(MAX_BLOB) {
            return Err(form::beyond(&path, max));
        }
        let bytes = form.unpacked(&path, bytes, max)?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(altered()) }
    }

    async fn parts(&self, digest: &Digest, count: u32, max: usize) -> Result<Vec<u8>, FetchError> {
        let path = || PathBuf::from(self.layout.blob(digest));
        let mut bytes = Vec::new();
        for number in 0..count {
            let found = self.one(&self.layout.blob_part(digest, number)).await;
            let found = found.map_err(|trouble| FetchError::Io(self.failed("read", digest, &trouble)))?;
            bytes.extend(found.ok_or_else(|| FetchError::Altered { path: path() })?.value);
            if bytes.len() > max.min(MAX_BLOB) {
                return Err(form::beyond(&path(), max));
            }
        }
        Ok(bytes)
    }

    async fn one(&self, name: &str) -> Result<Option<KeyValue>, Trouble> {
        let success = vec![read(name)];
        let answer = self.cluster.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
        Ok(pages(answer).flatten().next())
    }

    /// [`fetch`](Self::fetch) for a thread that may wait, and is none of the runtime's own.
    pub(in crate::store) fn fetch_now(&self, digest: &Digest, max: usize) -> Result<Vec<u8>, FetchError> {
        self.runtime.block_on(self.fetch(*digest, max))
    }

    pub(in crate::store) async fn list(&self) -> Result<Vec<Digest>, BlobIoError> {
        let prefix = self.layout.blobs();
        let (mut first, mut listed) = (prefix.clone().into_bytes(), HashMap::new());
        loop {
            let range = RangeRequest {
                key: first,
                range_end: end_of(&prefix),
                limit: PAGE,
                keys_only: true,
                ..RangeRequest::default()
            };
            let success = vec![ranged(range)];
            let answer = self.cluster.txn(TxnRequest { success, ..TxnRequest::default() }).await;
            let answer =
                answer.map_err(|trouble| BlobIoError::away("list", prefix.clone().into(), &trouble))?;
            let found: Vec<KeyValue> = pages(answer).flatten().collect();
            let Some(last) = found.last() else { break };
            first = [&last.key[..], b"\0"].concat();
            listed.extend(found.iter().filter_map(|found| {
                let name = std::str::from_utf8(&found.key).ok()?.strip_prefix(&prefix)?;
                Some((name.parse::<Digest>().ok()?, found.mod_revision))
            }));
        }
        let mut digests: Vec<Digest> = listed.keys().copied().collect();
        digests.sort_unstable();
        self.sweep().listed = listed;
        Ok(digests)
    }

    pub(in crate::store) async fn remove(&self, digest: Digest) -> Result<(), BlobIoError> {
        self.known().remove(&digest);
        let success = vec![self.gone(&digest)];
        let done = self.cluster.txn(TxnRequest { success, ..TxnRequest::default() }).await;
        done.map(drop).map_err(|trouble| self.failed("remove", &digest, &trouble))
    }

    /// Whether it is there.
    pub(in crate::store) async fn has(&self, digest: &Digest) -> Result<bool, BlobIoError> {
        if self.knows(digest) {
            return Ok(true);
        }
        let found = self.one(&self.layout.blob(digest)).await;
        let found = found.map_err(|trouble| self.failed("read", digest, &trouble))?;
        let lies = found.and_then(|found| Lies::of(*found.value.first()?));
        let has = lies.is_some_and(|lies| lies != Lies::Unfinished);
        if has {
            self.learn(*digest);
        }
        Ok(has)
    }

    /// Removes it soon, with others.
    pub(in crate::store) fn discard(&self, digest: Digest) {
        self.known().remove(&digest);
        // Too many at once are left to the sweep.
        let _ = self.discarded.try_send(digest);
    }

    /// Those of the last list that may be removed, if nobody puts them again.
    pub(in crate::store) fn condemn(&self, digests: &BTreeSet<Digest>) {
        let mut sweep = self.sweep();
        let listed = std::mem::take(&mut sweep.listed);
        sweep.condemned = listed.into_iter().filter(|(digest, _)| digests.contains(digest)).collect();
    }

    pub(in crate::store) async fn remove_condemned(&self, digest: Digest) -> Result<bool, BlobIoError> {
        let Some(revision) = self.sweep().condemned.remove(&digest) else { return Ok(false) };
        self.known().remove(&digest);
        let txn = TxnRequest {
            compare: vec![unchanged(&self.layout.blob(&digest), revision)],
            success: vec![self.gone(&digest)],
            failure: Vec::new(),
        };
        let done = self.cluster.txn(txn).await;
        done.map(|done| done.succeeded).map_err(|trouble| self.failed("remove", &digest, &trouble))
    }

    /// Removes a blob with its parts: `0` comes after `/`.
    fn gone(&self, digest: &Digest) -> RequestOp {
        let name = self.layout.blob(digest);
        let range_end = format!("{name}0").into_bytes();
        let range = DeleteRangeRequest { key: name.into_bytes(), range_end };
        RequestOp { request: Some(Op::RequestDeleteRange(range)) }
    }

    fn knows(&self, digest: &Digest) -> bool {
        self.known().get(digest).is_some_and(|put| put.elapsed() < KNOWN)
    }

    fn learn(&self, digest: Digest) {
        let mut known = self.known();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(digest, Instant::now());
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, Instant>> {
        // Each entry is whole whatever happened to who held it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self) -> MutexGuard<'_, Sweep> {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &'static str, digest: &Digest, trouble: &Trouble) -> BlobIoError {
        BlobIoError::away(action, self.layout.blob(digest).into(), trouble)
    }
}

/// Removes what is discarded, as much at once as there is.
async fn discard(blobs: std::sync::Weak<EtcdBlobs>, mut waiting: mpsc::Receiver<Digest>) {
    let mut some = Vec::new();
    while waiting.recv_many(&mut some, AT_ONCE).await > 0 {
        let Some(blobs) = blobs.upgrade() else { return };
        let success =
            some.drain(..).collect::<BTreeSet<_>>().iter().map(|digest| blobs.gone(digest)).collect();
        if let Err(trouble) = blobs.cluster.txn(TxnRequest { success, ..TxnRequest::default() }).await {
            tracing::warn!(%trouble, "old blobs stay until they are swept");
        }
    }
}

/// Gives `name` a revision of now and leaves it as it is.
fn touch(name: &str) -> RequestOp {
    let put = PutRequest { key: name.as_bytes().to_vec(), ignore_value: true, ..PutRequest::default() };
    RequestOp { request: Some(Op::RequestPut(put)) }
}

impl BlobIoError {
    fn away(action: &'static str, path: PathBuf, trouble: &Trouble) -> Self {
        Self::in_etcd(action, path, io::Error::other(trouble.to_string()))
    }
}

#[cfg(test)]
mod tests;
