//! Logs that a device leaves out because the broker has them from the proof before: their stated digests stand for them.
//!
//! The list of Linux IMA grows by every program that starts: of it the beginning is left out (`ima`).
//!
//! Promises: a device finds only logs that its own last proof was verified with, each under the digest of all its bytes. What
//! is found is in the request before anything is verified, so it is replayed against the quote like a log that was sent. Who
//! has not answered the challenge does not learn what the broker has.

mod ima;

use policy::appraisal::Prover;
use policy::budget::{MAX_EVENT_LOG_BYTES, MAX_SEQUENCE_BYTES};
use policy::digest::Digest;
use prost::Message;
use proto::v1;
use proto::v1::LogKind;

use super::Refusal;
use super::challenge::{Challenge, Door};
use super::proof::{self, Proven};
use super::statement::MAX_STATEMENT;
use crate::plant::Plant;
use crate::record::device::{Attested, StoredLogs, attested_key};
use crate::record::fetch;

/// Verifies everything that `request` claims, with the logs that it left out. `None`: they have to be sent.
pub(super) async fn prove(
    plant: &Plant,
    request: v1::CompleteRequest,
    door: Door,
) -> Result<Option<(v1::CompleteRequest, Proven)>, Refusal> {
    if door == Door::Enrollment && request.ima_before.is_some() {
        return Err(Refusal::malformed("an enrollment sends its whole IMA list".to_owned()));
    }
    let left_out = match door {
        Door::Attestation => left_out(&request),
        Door::Enrollment => Vec::new(),
    };
    if request.key_proof.is_some() || left_out.is_empty() && request.ima_before.is_none() {
        let proven = proof::prove(plant, &request, door).await?;
        return Ok(Some((request, proven)));
    }
    let last = last(plant, &request, door).await?;
    let Some(request) = ima::completed(plant, request, last.as_ref(), door).await? else { return Ok(None) };
    let held = last.and_then(|last| last.logs).unwrap_or_default();
    let (request, whole) = completed(plant, request, &held, left_out).await;
    let proven = match whole {
        true => proof::prove(plant, &request, door).await.map(Some),
        false => Ok(None),
    };
    match proven {
        Ok(Some(proven)) => Ok(Some((request, proven))),
        // Without the key, one refusal is like the other.
        Ok(None) => proof::answered(plant, &request, door).map(|_| None),
        Err(refusal) => proof::answered(plant, &request, door).and(Err(refusal)),
    }
}

/// The request with those logs of `left_out` that are `held`, and whether these are all.
async fn completed(
    plant: &Plant,
    mut request: v1::CompleteRequest,
    held: &StoredLogs,
    left_out: Vec<(LogKind, Digest)>,
) -> (v1::CompleteRequest, bool) {
    for (kind, digest) in left_out {
        let log = match of_kind(held, kind).filter(|held| *held == digest) {
            // What is there and cannot be read is sent again, and put anew.
            Some(held) => plant.blobs.fetch_shared(held, most(kind)).await.ok(),
            None => None,
        };
        match (log, place(&mut request, kind)) {
            (Some(log), Some(place)) => *place = log.to_vec(),
            (None, _) | (_, None) => return (request, false),
        }
    }
    (request, true)
}

/// The logs that are stated and not sent. A statement that cannot be read names none: it is refused where it is bound.
fn left_out(request: &v1::CompleteRequest) -> Vec<(LogKind, Digest)> {
    if request.statement.len() > MAX_STATEMENT {
        return Vec::new();
    }
    let stated = v1::Statement::decode(request.statement.as_slice()).unwrap_or_default().logs;
    let digest = |kind: LogKind| {
        let log = stated.iter().find(|log| log.kind() == kind && log.length > 0)?;
        Some((kind, Digest::try_from(log.digest.as_slice()).ok()?))
    };
    let sent = [
        (LogKind::Firmware, &request.firmware_log),
        (LogKind::Userspace, &request.userspace_log),
        (LogKind::Images, &request.image_log),
    ];
    sent.into_iter().filter(|(_, log)| log.is_empty()).filter_map(|(kind, _)| digest(kind)).collect()
}

/// The last proof of the device that the session is about.
async fn last(plant: &Plant, request: &v1::CompleteRequest, door: Door) -> Result<Option<Attested>, Refusal> {
    let challenge = Challenge::open(&plant.keys.load(), plant.now(), &request.sealed)?.begun_at(door)?;
    let Some(name) = challenge.proven_by(Prover::Tpm)?.device else { return Ok(None) };
    let last = fetch::<Attested>(plant.store.as_ref(), attested_key(&name)).await?;
    Ok(last.map(|held| held.record))
}

const fn of_kind(logs: &StoredLogs, kind: LogKind) -> Option<Digest> {
    match kind {
        LogKind::Firmware => logs.firmware,
        LogKind::Userspace => logs.userspace,
        LogKind::Images => logs.images,
        LogKind::Unspecified | LogKind::Ima => None,
    }
}

const fn place(request: &mut v1::CompleteRequest, kind: LogKind) -> Option<&mut Vec<u8>> {
    match kind {
        LogKind::Firmware => Some(&mut request.firmware_log),
        LogKind::Userspace => Some(&mut request.userspace_log),
        LogKind::Images => Some(&mut request.image_log),
        LogKind::Unspecified | LogKind::Ima => None,
    }
}

const fn most(kind: LogKind) -> usize {
    match kind {
        LogKind::Firmware => MAX_EVENT_LOG_BYTES,
        LogKind::Userspace | LogKind::Images | LogKind::Unspecified | LogKind::Ima => MAX_SEQUENCE_BYTES,
    }
}
