//! Evidence that a device sent once, read back from its blob.
//!
//! It leads to forecasts and to learned releases, never to a certificate.

use policy::appraisal::AppraisalRecord;
use policy::appraisal::measurements::Origin;
use policy::cause::chain;
use policy::evidence::HardwareProof;
use policy::evidence::endorsement::BoundEk;
use policy::evidence::flaw::{AttestingTpm, flaws};
use policy::evidence::linux::LinuxLogs;
use policy::evidence::recorded::{RecordedEvidence, StoredLogs};
use policy::id::DeviceName;
use policy::tpm::public::{AttestationKey, EkPublic};
use serde::{Deserialize, Serialize};

use super::challenge::SELECTION;
use super::kept;
use super::proof::{endorsed, pcr_values, sent_ima};
use crate::plant::Plant;
use crate::record::device::{Attested, Tpm};
use crate::store::blobs::FetchError;

/// Largest appraisal result that is read back.
const MAX_RESULT: usize = 4 << 20;

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

/// What each zone's appraisal found. Empty when the blob is gone: a newer attestation replaced it, or
/// the backup that was restored lacks it.
pub async fn results(plant: &Plant, attested: &Attested) -> Vec<AppraisalRecord> {
    let read = plant.blobs.fetch(attested.result, MAX_RESULT).await;
    let parsed = read.map(|blob| serde_json::from_slice::<Results>(&blob).map(|results| results.zones));
    parsed.map(Result::unwrap_or_default).unwrap_or_else(|error| {
        tracing::warn!(%error, "an appraisal result cannot be read");
        Vec::new()
    })
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

/// The evidence of `attested`, and what vouches for its TPM today.
pub async fn recorded(
    plant: &Plant,
    attested: &Attested,
    tpm: &Tpm,
) -> Result<RecordedEvidence, RecordedError> {
    let request = kept::request(plant, attested).await?;
    let unreadable = |error: &dyn std::error::Error| RecordedError::Unreadable(chain(error));
    let ek = EkPublic::parse(&request.ek_public).map_err(|e| unreadable(&e))?;
    let endorsement = endorsed(plant, &request, &ek);
    let hardware = match &endorsement {
        Ok(_) => HardwareProof::Endorsed,
        Err(_) if tpm.registered => HardwareProof::Registered,
        Err(_) => HardwareProof::Unproven,
    };
    let pcrs = pcr_values(&request.pcr_values, &SELECTION).map_err(|e| unreadable(&e))?;
    let ak = AttestationKey::accept(&request.ak_public).map_err(|e| unreadable(&e))?;
    let attesting = AttestingTpm {
        endorsed: endorsement.as_ref().ok().map(BoundEk::endorsed),
        recorded: tpm.manufacturer(),
        ek: ek.key(),
        ak: &ak,
        firmware_version: attested.firmware_version,
    };
    let known = flaws(&attesting, &plant.config.tpm_deny);
    let linux = LinuxLogs { userspace: Some(&request.userspace_log), images: Some(&request.image_log) };
    let ima = sent_ima(&request);
    let (logs, origin) = (StoredLogs { linux, ima: ima.as_ref() }, Origin::Device(hardware));
    let evidence = RecordedEvidence::replay_all(pcrs, &request.firmware_log, &logs, origin);
    Ok(evidence.map_err(|e| unreadable(&e))?.with_flaws(known))
}
