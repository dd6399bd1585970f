//! Evidence that a device sent once, read back from its blob.
//!
//! It leads to forecasts and to learned releases, never to a certificate.

use policy::appraisal::AppraisalRecord;
use policy::appraisal::measurements::Origin;
use policy::cause::chain;
use policy::evidence::HardwareProof;
use policy::evidence::endorsement::{BoundEk, RootStore};
use policy::evidence::flaw::{AttestingTpm, DenyRule, flaws};
use policy::evidence::linux::LinuxLogs;
use policy::evidence::recorded::{RecordedEvidence, StoredLogs};
use policy::id::DeviceName;
use policy::time::UnixTime;
use policy::tpm::public::{AttestationKey, EkPublic};
use proto::v1;
use serde::{Deserialize, Serialize};

use super::challenge::SELECTION;
use super::proof::{endorsed, pcr_values, sent_ima};
use super::{idevid, kept};
use crate::plant::Plant;
use crate::record::device::{Attested, Tpm};
use crate::store::blobs::{Blobs, FetchError};

/// What the zones' appraisals of one attestation found, as it is stored. Device and counter make each
/// blob its own: the next attestation of one device never removes another's.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// The device.
    pub device: DeviceName,
    /// Its attestation counter.
    pub counter: u64,
    /// One record a zone.
    pub zones: Vec<AppraisalRecord>,
}

/// What each zone's appraisal found, as of the last proof, whose own may have said only what this one says. Empty when the blob is gone: a newer attestation replaced it, or
/// the backup that was restored lacks it.
pub async fn results(plant: &Plant, attested: &Attested) -> Vec<AppraisalRecord> {
    let read = kept::found(plant, attested).await;
    let parsed = read.map(|json| serde_json::from_slice::<Results>(&json).map(|results| results.zones));
    let zones: Vec<AppraisalRecord> = parsed.map(Result::unwrap_or_default).unwrap_or_else(|error| {
        tracing::warn!(%error, "an appraisal result cannot be read");
        Vec::new()
    });
    zones.into_iter().map(|zone| AppraisalRecord { at: attested.at, ..zone }).collect()
}

/// The last evidence of a device cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// The blob is gone or changed.
    #[error(transparent)]
    Blob(#[from] FetchError),
    /// The blob is no evidence that this broker understands.
    #[error("the stored evidence cannot be replayed ({0}); let the device attest again")]
    Unreadable(String),
}

/// What vouches for TPMs at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vouching<'a> {
    pub(crate) roots: &'a RootStore,
    pub(crate) idevid_roots: &'a RootStore,
    pub(crate) deny: &'a [DenyRule],
    pub(crate) now: UnixTime,
}

/// The evidence of `attested`, and what vouches for its TPM today.
pub async fn recorded(
    plant: &Plant,
    attested: &Attested,
    tpm: &Tpm,
) -> Result<RecordedEvidence, RecordedError> {
    let (blobs, record) = (plant.blobs.clone(), attested.clone());
    let read = tokio::task::spawn_blocking(move || kept::request(&blobs, &record)).await;
    let request = read.map_err(|ended| RecordedError::Unreadable(ended.to_string()))??;
    let vouching = Vouching {
        roots: &plant.roots,
        idevid_roots: &plant.idevid_roots,
        deny: &plant.config.tpm_deny,
        now: plant.now(),
    };
    replayed(&request, attested.firmware_version, tpm, &vouching)
}

/// The same, read and replayed on this thread.
pub(crate) fn recorded_here(
    blobs: &Blobs,
    attested: &Attested,
    tpm: &Tpm,
    vouching: &Vouching<'_>,
) -> Result<RecordedEvidence, RecordedError> {
    replayed(&kept::request(blobs, attested)?, attested.firmware_version, tpm, vouching)
}

fn replayed(
    request: &v1::CompleteRequest,
    firmware_version: u64,
    tpm: &Tpm,
    vouching: &Vouching<'_>,
) -> Result<RecordedEvidence, RecordedError> {
    if request.key_proof.is_some() {
        return Ok(RecordedEvidence::without_tpm());
    }
    let unreadable = |error: &dyn std::error::Error| RecordedError::Unreadable(chain(error));
    let ek = EkPublic::parse(&request.ek_public).map_err(|e| unreadable(&e))?;
    let endorsement = endorsed(vouching.roots, vouching.now, request, &ek);
    let ak = AttestationKey::accept(&request.ak_public).map_err(|e| unreadable(&e))?;
    let shown = idevid::shown(vouching.idevid_roots, vouching.now, request, Some(&ak));
    let hardware = match &endorsement {
        Ok(_) => HardwareProof::Endorsed,
        Err(_) if shown.is_some_and(|shown| shown.bound().is_some()) => HardwareProof::Endorsed,
        Err(_) if tpm.registered => HardwareProof::Registered,
        Err(_) => HardwareProof::Unproven,
    };
    let pcrs = pcr_values(&request.pcr_values, &SELECTION).map_err(|e| unreadable(&e))?;
    let attesting = AttestingTpm {
        endorsed: endorsement.as_ref().ok().map(BoundEk::endorsed),
        recorded: tpm.manufacturer(),
        ek: ek.key(),
        ak: &ak,
        firmware_version,
    };
    let known = flaws(&attesting, vouching.deny);
    let linux = LinuxLogs { userspace: Some(&request.userspace_log), images: Some(&request.image_log) };
    let ima = sent_ima(request);
    let (logs, origin) = (StoredLogs { linux, ima: ima.as_ref() }, Origin::Device(hardware));
    let evidence = RecordedEvidence::replay_all(pcrs, &request.firmware_log, &logs, origin);
    Ok(evidence.map_err(|e| unreadable(&e))?.with_flaws(known))
}
