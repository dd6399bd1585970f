//! Golden releases as administrators draft, apply and read them.

pub mod apply;
pub mod basis;
pub mod follow;
pub mod forecast;
pub mod keys;
pub mod learn;
pub mod plan;
pub mod running;
pub mod state;
pub mod want;

use policy::reference::dsse::{Envelope, EnvelopeError, MAX_ENVELOPE_BYTES};
use policy::reference::release::ReleaseId;

use super::change::Seen;
use crate::golden::{self, GoldenError};
use crate::plant::Plant;
use crate::record::golden::{RELEASE, ReleaseRecord, release_key};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;

/// Every release, by product and version.
pub async fn all(plant: &Plant) -> Result<Vec<ReleaseRecord>, Refusal> {
    let all: Vec<Held<ReleaseRecord>> = list(plant.store.as_ref(), RELEASE).await?;
    Ok(all.into_iter().map(|held| held.record).collect())
}

/// Every release but those whose signatures count no more, by product and version.
pub async fn counting(plant: &Plant) -> Result<Vec<ReleaseRecord>, Refusal> {
    let golden = golden::current(plant).await.map_err(refusal)?;
    let counts = |record: &ReleaseRecord| record.id().is_some_and(|id| !golden.void.contains_key(&id));
    Ok(all(plant).await?.into_iter().filter(counts).collect())
}

/// Every release with the revision of its record, by product and version.
pub async fn held(plant: &Plant) -> Result<Vec<Held<ReleaseRecord>>, Refusal> {
    Ok(list(plant.store.as_ref(), RELEASE).await?)
}

/// The record of a release that must be there.
async fn known(plant: &Plant, id: &ReleaseId) -> Result<Held<ReleaseRecord>, Refusal> {
    let key = release_key(&id.product, id.version.as_str());
    fetch(plant.store.as_ref(), key).await?.ok_or_else(|| {
        Refusal::NotFound(format!("there is no release {id}; `touchstone golden list` shows what there is"))
    })
}

/// What a command may say that it saw of `held`.
#[must_use]
pub fn seen(held: &Held<ReleaseRecord>) -> Seen {
    state::seen(Some(held))
}

/// One release and its manifest, as it was verified when it was applied.
pub async fn one(plant: &Plant, id: &ReleaseId) -> Result<(Held<ReleaseRecord>, String), Refusal> {
    let held = known(plant, id).await?;
    let envelope = plant.blobs.fetch(held.record.envelope, MAX_ENVELOPE_BYTES).await;
    let envelope = envelope.map_err(Refusal::internal)?;
    // The blob is named by its digest, so these are the bytes that were verified.
    let manifest = Envelope::parse(&envelope).and_then(|envelope| envelope.stated());
    let manifest = manifest.map_err(|error| envelope_refusal(&error))?;
    Ok((held, manifest.render()))
}

/// What an administrator learns of a failure with golden values.
fn refusal(error: GoldenError) -> Refusal {
    match error {
        GoldenError::Envelope(error) => envelope_refusal(&error),
        GoldenError::Reference(error) => Refusal::Conflict(error.to_string()),
        GoldenError::Record(_) | GoldenError::Blob(_) | GoldenError::Key(_) | GoldenError::Keys(_) => {
            Refusal::internal(error)
        }
    }
}

/// What an administrator learns of an envelope that is not accepted.
fn envelope_refusal(error: &EnvelopeError) -> Refusal {
    match error {
        EnvelopeError::Unsigned
        | EnvelopeError::UnknownSigner(_)
        | EnvelopeError::OtherProduct { .. }
        | EnvelopeError::RemovedSigner { .. }
        // Whoever asks may; the signatures do not hold.
        | EnvelopeError::TooFewSigners { .. } => Refusal::EvidenceInvalid(error.to_string()),
        EnvelopeError::TooLarge(_)
        | EnvelopeError::NotAnEnvelope(_)
        | EnvelopeError::PayloadType(_)
        | EnvelopeError::NotBase64(_)
        | EnvelopeError::NotText
        | EnvelopeError::TooManySignatures(_)
        | EnvelopeError::OtherPayload
        | EnvelopeError::Manifest(_)
        | EnvelopeError::NotCanonical { .. } => Refusal::malformed(error.to_string()),
    }
}
