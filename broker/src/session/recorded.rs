//! Evidence that a device sent once, read back from its blob.
//!
//! It leads to forecasts and to learned releases, never to a certificate (design-details, F1).

use policy::evidence::HardwareProof;
use policy::evidence::recorded::RecordedEvidence;
use policy::tpm::public::EkPublic;
use prost::Message;
use proto::v1;

use super::challenge::SELECTION;
use super::proof::{endorsed, pcr_values};
use crate::plant::Plant;
use crate::record::device::{Attested, Tpm};
use crate::store::blobs::{FetchError, MAX_BLOB};

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
    let blob = plant.blobs.fetch(attested.evidence, MAX_BLOB).await?;
    let unreadable = |error: &dyn std::fmt::Display| RecordedError::Unreadable(error.to_string());
    let request = v1::CompleteRequest::decode(blob.as_slice()).map_err(|e| unreadable(&e))?;
    let ek = EkPublic::parse(&request.ek_public).map_err(|e| unreadable(&e))?;
    let hardware = match endorsed(plant, &request, &ek) {
        Ok(_) => HardwareProof::Endorsed,
        Err(_) if tpm.registered => HardwareProof::Registered,
        Err(_) => HardwareProof::Unproven,
    };
    let pcrs = pcr_values(&request.pcr_values, &SELECTION).map_err(|e| unreadable(&e))?;
    RecordedEvidence::replay(pcrs, &request.firmware_log, hardware).map_err(|e| unreadable(&e))
}
