//! The broker's whole state as one self-checking file, and back.
//!
//! Promises: a backup is the store as of one revision, with every blob that its records name; its audit
//! chains may run a little past that. Nothing of a restored file counts before all of it was found
//! whole, readable and sealed under this broker's key-encryption key. A restore begins a new plant
//! epoch and resurrects nobody: challenges and tokens of before are void, every device is asked to
//! attest.
//!
//! Does not promise: to know what happened after the backup was made. What follows from that is told
//! in the restore's notes.

mod barred;
mod ended;
mod format;
mod inspect;
mod key_lines;
mod kinds;
mod renew;
pub mod restore;
mod snapshot;

use std::collections::BTreeSet;

use policy::digest::Digest;
use policy::time::UnixTime;
use tokio::sync::mpsc;

use self::format::{Header, Line, PART, Writer};
pub(super) use self::snapshot::{Snapshot, snapshot};
use super::reach::Reach;
use crate::plant::Plant;
use crate::record::RecordError;
use crate::record::boot::{BOOT, EarlierBoot};
use crate::record::change::{CHANGE, Change};
use crate::record::device::{ATTESTED, Attested, StoredLogs};
use crate::record::golden::{RELEASE, ReleaseRecord};
use crate::record::sbom::{SBOM, SbomRecord};
use crate::secrets::SecretKey;
use crate::session::Refusal;
use crate::store::blobs::{FetchError, MAX_BLOB};
use crate::store::record::{DecodeError, decode};
use crate::store::{AUDIT_PREFIX, MAX_SCAN, Store, Txn};

/// Bytes of one chunk on the wire.
pub const CHUNK: usize = 64 * 1024;
/// What a backup is worth nothing without.
const NEEDS: &str = "the keys in this file are wrapped: restoring it needs secrets/kek of the broker's host, \
                     which belongs into the host's own backup, and the token or TPM that opens it; or a copy that \
                     `touchstone-broker kek export` wrote";

/// Sends the whole state, chunk by chunk. A reader that is gone ends it.
pub async fn backup(plant: &Plant, reach: &Reach, sink: &mpsc::Sender<Vec<u8>>) -> Result<(), Refusal> {
    let now = plant.now();
    let event = reach.event(now, plant.domain().as_str(), "the whole state was saved to a file");
    plant.store.transact(Txn::new().audit(event.entry())).await.map_err(Refusal::internal)?;
    let snapshot = snapshot(plant).await?;
    let mut out = Out { writer: Writer::default(), sink };
    let keys = plant.keys.load_full();
    out.line(&Line::Header(Header {
        format: format::VERSION,
        plant: keys.domain.to_string(),
        plant_id: keys.plant_id.clone(),
        plant_epoch: keys.epoch,
        revision: snapshot.revision,
        made_at: now,
        needs: NEEDS.to_owned(),
    }))
    .await?;
    for (key, value) in &snapshot.records {
        out.record(key, value).await?;
    }
    chains(plant, &mut out).await?;
    blobs(plant, &snapshot, &mut out).await?;
    out.end(&plant.kek).await
}

/// The audit chains, page by page: their records are never changed, so they need no snapshot.
async fn chains(plant: &Plant, out: &mut Out<'_>) -> Result<(), Refusal> {
    let mut after: Option<String> = None;
    loop {
        let page = plant.store.scan(AUDIT_PREFIX, after.as_deref(), MAX_SCAN).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        for (key, found) in &page {
            out.record(key, &found.value).await?;
        }
    }
}

async fn blobs(plant: &Plant, snapshot: &Snapshot, out: &mut Out<'_>) -> Result<(), Refusal> {
    let mut sent = BTreeSet::new();
    for (key, value) in &snapshot.records {
        let named = named_blobs(key, value).map_err(Refusal::internal)?;
        for blob in named {
            if !sent.insert(blob.digest) {
                continue;
            }
            match plant.blobs.fetch(blob.digest, MAX_BLOB).await {
                Ok(bytes) => out.blob(blob.digest, &bytes).await?,
                // The device attested again meanwhile, and its former evidence went.
                Err(FetchError::Missing { .. }) if !blob.needed => {}
                Err(error) => return Err(Refusal::internal(error)),
            }
        }
    }
    Ok(())
}

/// A blob that a record names.
pub(super) struct NamedBlob {
    digest: Digest,
    /// Whether the record is worth nothing without it.
    needed: bool,
}

/// Prefixes of the records that name blobs.
const NAMING: [&str; 5] = [ATTESTED, BOOT, RELEASE, CHANGE, SBOM];

/// Every blob that a record of the store names; evidence from before `since` is named no more.
pub(crate) async fn blobs_in_use(
    store: &dyn Store,
    since: UnixTime,
) -> Result<BTreeSet<Digest>, RecordError> {
    let mut used = BTreeSet::new();
    for prefix in NAMING {
        let mut after: Option<String> = None;
        loop {
            let page = store.scan(prefix, after.as_deref(), MAX_SCAN).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, found) in &page {
                if !outlived(key, &found.value, since)? {
                    used.extend(named_blobs(key, &found.value)?.iter().map(|blob| blob.digest));
                }
            }
        }
    }
    Ok(used)
}

/// Whether the record speaks of evidence from before `since`.
fn outlived(key: &str, value: &[u8], since: UnixTime) -> Result<bool, DecodeError> {
    Ok(key.starts_with(ATTESTED) && decode::<Attested>(key, value)?.at < since
        || key.starts_with(BOOT) && decode::<EarlierBoot>(key, value)?.at < since)
}

/// The blobs that a record names; its kinds are those of [`NAMING`].
fn named_blobs(key: &str, value: &[u8]) -> Result<Vec<NamedBlob>, DecodeError> {
    if key.starts_with(ATTESTED) {
        let attested: Attested = decode(key, value)?;
        let logs = attested.logs.iter().flat_map(StoredLogs::blobs);
        let blobs = [attested.evidence, attested.result].into_iter().chain(logs);
        return Ok(blobs.map(|digest| NamedBlob { digest, needed: false }).collect());
    }
    if key.starts_with(BOOT) {
        let boot: EarlierBoot = decode(key, value)?;
        return Ok(boot.blobs().map(|digest| NamedBlob { digest, needed: false }).collect());
    }
    if key.starts_with(CHANGE) {
        let change: Change = decode(key, value)?;
        // A restore drops what waits, so it needs neither.
        return Ok([change.request, change.basis].map(|digest| NamedBlob { digest, needed: false }).into());
    }
    if key.starts_with(RELEASE) {
        let release: ReleaseRecord = decode(key, value)?;
        return Ok(vec![NamedBlob { digest: release.envelope, needed: true }]);
    }
    if key.starts_with(SBOM) {
        let sbom: SbomRecord = decode(key, value)?;
        return Ok(vec![NamedBlob { digest: sbom.document, needed: true }]);
    }
    Ok(Vec::new())
}

/// Lines on their way out.
struct Out<'a> {
    writer: Writer,
    sink: &'a mpsc::Sender<Vec<u8>>,
}

impl Out<'_> {
    async fn line(&mut self, line: &Line) -> Result<(), Refusal> {
        self.writer.line(line).map_err(Refusal::internal)?;
        while let Some(chunk) = self.writer.chunk(CHUNK) {
            self.send(chunk).await?;
        }
        Ok(())
    }

    async fn record(&mut self, key: &str, value: &[u8]) -> Result<(), Refusal> {
        self.line(&Line::Record { key: key.to_owned(), value: value.to_vec().into() }).await
    }

    async fn blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), Refusal> {
        self.line(&Line::Blob { digest, size: bytes.len() }).await?;
        for part in bytes.chunks(PART) {
            self.line(&Line::Part(part.to_vec().into())).await?;
        }
        Ok(())
    }

    async fn end(mut self, kek: &SecretKey) -> Result<(), Refusal> {
        self.writer.end(kek).map_err(Refusal::internal)?;
        while let Some(chunk) = self.writer.chunk(1) {
            self.send(chunk).await?;
        }
        Ok(())
    }

    async fn send(&self, chunk: Vec<u8>) -> Result<(), Refusal> {
        let gone = |_| Refusal::TryLater { why: "the backup was cancelled".to_owned(), seconds: 1 };
        self.sink.send(chunk).await.map_err(gone)
    }
}
