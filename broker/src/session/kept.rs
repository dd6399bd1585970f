//! Evidence as it is kept: logs as blobs that devices share, the rest as a blob of each attestation that says anything new.
//!
//! Devices that boot alike send the same logs, and those are nearly all of the evidence. What the zones found in it is in
//! the same blob: a blob is synced two times, which is most of what an attestation costs the broker.

use policy::appraisal::AppraisalRecord;
use policy::digest::Digest;
use policy::time::UnixTime;
use policy::tpm::attest::Attest;
use prost::Message;
use proto::v1;

use super::Refusal;
use super::recorded::RecordedError;
use crate::plant::Plant;
use crate::record::device::{Attested, StoredLogs};
use crate::store::blobs::{Blobs, MAX_BLOB, PutError};

/// Bytes of a chunk of an IMA list. A list only grows, so its full chunks stay what they are; what follows them
/// is another at each attestation, and goes with the blob of that attestation.
const CHUNK: usize = 512 << 10;
/// Chunks that are put together again: no list is larger than a blob.
const MAX_CHUNKS: usize = MAX_BLOB / CHUNK;
/// Largest appraisal result of an older broker that is read back.
const MAX_RESULT: usize = 4 << 20;

/// What the zones found, as it follows the evidence in its blob: who reads that as `CompleteRequest`, which has no such
/// field, passes over it.
#[derive(Clone, PartialEq, Message)]
struct Found {
    #[prost(bytes = "vec", tag = "1000")]
    json: Vec<u8>,
}

/// An attestation in the parts in which it is kept.
pub(crate) struct Parts {
    own: Vec<u8>,
    shared: Vec<Vec<u8>>,
    logs: StoredLogs,
}

impl Parts {
    /// `request`, and what was `found` in it.
    pub(crate) fn of(mut request: v1::CompleteRequest, found: Vec<u8>) -> Result<Self, PutError> {
        let chunks = chunks(&mut request.ima_log)?;
        let mut shared = Vec::new();
        let mut share = |bytes: Vec<u8>| {
            let digest = Digest::of(&bytes);
            shared.push(bytes);
            digest
        };
        let mut log = |log: &mut Vec<u8>| (!log.is_empty()).then(|| share(std::mem::take(log)));
        let logs = StoredLogs {
            firmware: log(&mut request.firmware_log),
            userspace: log(&mut request.userspace_log),
            images: log(&mut request.image_log),
            ima: chunks.into_iter().map(share).collect(),
        };
        let own = [request.encode_to_vec(), Found { json: found }.encode_to_vec()].concat();
        Ok(Self { own, shared, logs })
    }

    /// The blobs of its logs.
    pub(crate) const fn logs(&self) -> &StoredLogs {
        &self.logs
    }

    /// Keeps all of it, and gives the blob of what is its own, or `same`, if that is there and says the same: then the
    /// logs only. The blobs are on disk when this answers; a record has to name them.
    pub(crate) async fn keep(mut self, blobs: &Blobs, same: Option<Digest>) -> Result<Digest, PutError> {
        let own = Digest::of(&self.own);
        let Some(same) = same else {
            self.shared.push(self.own);
            return blobs.put_all(self.shared).await.map(|()| own);
        };
        match blobs.put_beside(same, self.shared).await? {
            true => Ok(same),
            false => blobs.put(self.own).await,
        }
    }
}

/// Takes the full chunks of `list`, and leaves what follows them.
fn chunks(list: &mut Vec<u8>) -> Result<Vec<Vec<u8>>, PutError> {
    if list.len() > MAX_BLOB {
        return Err(PutError::TooLarge { length: list.len() });
    }
    let full = list.chunks_exact(CHUNK);
    let rest = full.remainder().to_vec();
    let chunks = full.map(<[u8]>::to_vec).collect();
    *list = rest;
    Ok(chunks)
}

/// The request that `attested` came from. Reads files: for a thread that may wait for them.
pub(super) fn request(blobs: &Blobs, attested: &Attested) -> Result<v1::CompleteRequest, RecordedError> {
    let mut request = parsed(&blobs.fetch_now(&attested.evidence, MAX_BLOB)?)?;
    // Without them, the record is of an older broker, which kept the request whole.
    let Some(logs) = &attested.logs else { return Ok(request) };
    let read = |log: Option<Digest>| match log {
        Some(log) => blobs.fetch_now(&log, MAX_BLOB),
        None => Ok(Vec::new()),
    };
    request.firmware_log = read(logs.firmware)?;
    request.userspace_log = read(logs.userspace)?;
    request.image_log = read(logs.images)?;
    let rest = std::mem::take(&mut request.ima_log);
    request.ima_log = joined(blobs, logs, MAX_BLOB)?;
    request.ima_log.extend(rest);
    Ok(request)
}

/// The first `length` bytes of the IMA list of `attested`, or all where it is shorter. Reads files: for a thread that may
/// wait for them.
pub(super) fn ima_beginning(
    blobs: &Blobs,
    attested: &Attested,
    length: usize,
) -> Result<Vec<u8>, RecordedError> {
    let mut list = match &attested.logs {
        Some(logs) => joined(blobs, logs, length)?,
        None => Vec::new(),
    };
    if list.len() < length {
        list.extend(parsed(&blobs.fetch_now(&attested.evidence, MAX_BLOB)?)?.ima_log);
    }
    list.truncate(length);
    Ok(list)
}

/// The chunks of an IMA list, one after another, until there are `length` bytes.
fn joined(blobs: &Blobs, logs: &StoredLogs, length: usize) -> Result<Vec<u8>, RecordedError> {
    let mut list = Vec::new();
    for chunk in logs.ima.iter().take(MAX_CHUNKS.min(length.div_ceil(CHUNK))) {
        list.extend(blobs.fetch_now(chunk, CHUNK)?);
    }
    Ok(list)
}

/// What was kept of an attestation as the blob `evidence`, maybe without its logs.
pub(crate) async fn own(plant: &Plant, evidence: Digest) -> Result<v1::CompleteRequest, RecordedError> {
    parsed(&plant.blobs.fetch(evidence, MAX_BLOB).await?)
}

/// What was found in the evidence of `attested`, as JSON.
pub(super) async fn found(plant: &Plant, attested: &Attested) -> Result<Vec<u8>, RecordedError> {
    if attested.result != attested.evidence {
        // Older brokers kept it as a blob of its own.
        return Ok(plant.blobs.fetch(attested.result, MAX_RESULT).await?);
    }
    let own = plant.blobs.fetch(attested.evidence, MAX_BLOB).await?;
    let found =
        Found::decode(own.as_slice()).map_err(|error| RecordedError::Unreadable(error.to_string()))?;
    Ok(found.json)
}

fn parsed(blob: &[u8]) -> Result<v1::CompleteRequest, RecordedError> {
    v1::CompleteRequest::decode(blob).map_err(|error| RecordedError::Unreadable(error.to_string()))
}

/// Digest of what the `zones` found, whenever it was.
pub(super) fn found_digest(zones: &[AppraisalRecord]) -> Result<Digest, Refusal> {
    let timeless = |zone: &AppraisalRecord| AppraisalRecord { at: UnixTime(0), ..zone.clone() };
    let timeless: Vec<AppraisalRecord> = zones.iter().map(timeless).collect();
    Ok(Digest::of(&serde_json::to_vec(&timeless).map_err(Refusal::internal)?))
}

/// The qualifying data of the quote in `request`.
pub(crate) fn nonce(request: &v1::CompleteRequest) -> Option<Vec<u8>> {
    Some(Attest::parse(&request.quote).ok()?.extra_data.to_vec())
}

/// Digest of everything that an appraisal depends on besides golden values, zone and time.
pub(super) fn basis(
    request: &v1::CompleteRequest,
    logs: &StoredLogs,
    evidence: &policy::evidence::verify::VerifiedEvidence,
) -> Result<Digest, Refusal> {
    let hardware = format!("{:?}", evidence.hardware());
    let measured = (&request.pcr_values, logs, request.ima_first, Digest::of(&request.ima_log));
    let parts = (measured, hardware, evidence.flaws(), evidence.firmware_version());
    // As JSON, no two different ones are written alike.
    Ok(Digest::of(&serde_json::to_vec(&parts).map_err(Refusal::internal)?))
}

/// Keeps a request for a test.
#[cfg(test)]
pub(crate) async fn keep(
    plant: &Plant,
    request: v1::CompleteRequest,
    found: Vec<u8>,
) -> (Digest, StoredLogs) {
    let parts = Parts::of(request, found).unwrap();
    let logs = parts.logs().clone();
    (parts.keep(&plant.blobs, None).await.unwrap(), logs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::Bench;
    use crate::record::device::{Decision, attested_key};
    use crate::store::blobs::FetchError;

    fn sent() -> v1::CompleteRequest {
        v1::CompleteRequest {
            sealed: b"of one session".to_vec(),
            pcr_values: vec![vec![1; 32]],
            firmware_log: vec![2; 9_000],
            image_log: vec![4; 20],
            ima_log: (0..CHUNK + 100).map(|n| (n % 251).try_into().unwrap()).collect(),
            ..v1::CompleteRequest::default()
        }
    }

    async fn attested(bench: &Bench) -> Attested {
        bench.zone(&crate::admin::tests::observing("cell-3")).await;
        let press = bench.device("press-7", &["cell-3"]).await;
        bench.attest(&press, "boot-a", Decision::Trusted).await;
        bench.read(attested_key(&press)).await
    }

    #[tokio::test]
    async fn devices_that_boot_alike_share_their_logs() {
        let bench = Bench::new().await;
        let before = bench.plant.blobs.list().await.unwrap().len();
        let (first, logs) = keep(&bench.plant, sent(), Vec::new()).await;
        let other = v1::CompleteRequest { sealed: b"of another".to_vec(), ..sent() };
        let (second, same) = keep(&bench.plant, other, Vec::new()).await;
        assert_eq!(logs, same);
        assert_ne!(first, second);
        assert_eq!((logs.userspace, logs.ima.len()), (None, 1));
        // Two rests, a firmware log, an image log, a chunk.
        assert_eq!(bench.plant.blobs.list().await.unwrap().len(), before + 5);

        let mut longer = sent();
        longer.ima_log.extend([9; 50]);
        let (_, longer) = keep(&bench.plant, longer, Vec::new()).await;
        assert_eq!(longer, logs, "what grows at each attestation leaves nothing behind");
    }

    #[tokio::test]
    async fn what_says_nothing_new_is_kept_only_where_the_old_is_gone() {
        let bench = Bench::new().await;
        let (first, logs) = keep(&bench.plant, sent(), Vec::new()).await;
        let other =
            || Parts::of(v1::CompleteRequest { sealed: b"other".to_vec(), ..sent() }, Vec::new()).unwrap();
        let blobs = &bench.plant.blobs;
        let there = blobs.list().await.unwrap().len();
        assert_eq!(other().keep(blobs, Some(first)).await.unwrap(), first);
        assert_eq!(blobs.list().await.unwrap().len(), there);

        blobs.remove(first).await.unwrap();
        blobs.remove(logs.ima[0]).await.unwrap();
        let second = other().keep(blobs, Some(first)).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(blobs.list().await.unwrap().len(), there, "its logs are there again, too");
    }

    #[tokio::test]
    async fn what_is_kept_is_read_back_whole_also_from_an_older_record() {
        let bench = Bench::new().await;
        let record = attested(&bench).await;
        let (evidence, logs) = keep(&bench.plant, sent(), Vec::new()).await;
        let split = Attested { evidence, logs: Some(logs.clone()), ..record.clone() };
        assert_eq!(request(&bench.plant.blobs, &split).unwrap(), sent());
        let whole = bench.plant.blobs.put(sent().encode_to_vec()).await.unwrap();
        let old = Attested { evidence: whole, logs: None, ..record };
        assert_eq!(request(&bench.plant.blobs, &old).unwrap(), sent());

        let (both, _) = keep(&bench.plant, sent(), b"[]".to_vec()).await;
        assert_ne!(both, evidence);
        let one = Attested { evidence: both, result: both, ..split.clone() };
        assert_eq!(request(&bench.plant.blobs, &one).unwrap(), sent());
        assert_eq!(found(&bench.plant, &one).await.unwrap(), b"[]");
        let apart = bench.plant.blobs.put(b"[1]".to_vec()).await.unwrap();
        assert_eq!(found(&bench.plant, &Attested { result: apart, ..one }).await.unwrap(), b"[1]");

        bench.plant.blobs.remove(logs.ima[0]).await.unwrap();
        let error = request(&bench.plant.blobs, &split).unwrap_err();
        assert!(matches!(error, RecordedError::Blob(FetchError::Missing { .. })), "{error}");
    }
}
