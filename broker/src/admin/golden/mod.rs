//! Golden releases as administrators draft, apply and read them.

pub mod apply;
pub mod forecast;
pub mod learn;

use policy::reference::dsse::{EnvelopeError, MAX_ENVELOPE_BYTES};
use policy::reference::release::ReleaseId;

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

/// One release and its manifest, verified once more.
pub async fn one(plant: &Plant, id: &ReleaseId) -> Result<(ReleaseRecord, String), Refusal> {
    let key = release_key(&id.product, id.version.as_str());
    let held: Held<ReleaseRecord> = fetch(plant.store.as_ref(), key).await?.ok_or_else(|| {
        Refusal::NotFound(format!("there is no release {id}; `touchstone golden list` shows what there is"))
    })?;
    let envelope = plant.blobs.fetch(held.record.envelope, MAX_ENVELOPE_BYTES).await;
    let envelope = envelope.map_err(Refusal::internal)?;
    let signed = golden::verify(plant, &envelope, &id.product).await.map_err(refusal)?;
    Ok((held.record, signed.manifest().render()))
}

/// What an administrator learns of a failure with golden values.
fn refusal(error: GoldenError) -> Refusal {
    match error {
        GoldenError::Envelope(error) => envelope_refusal(&error),
        GoldenError::NoKey => Refusal::NotPermitted(error.to_string()),
        GoldenError::Reference(error) => Refusal::Conflict(error.to_string()),
        GoldenError::Record(_)
        | GoldenError::Blob(_)
        | GoldenError::Key(_)
        | GoldenError::Keys(_)
        | GoldenError::Pem(_) => Refusal::internal(error),
    }
}

/// What an administrator learns of an envelope that is not accepted.
fn envelope_refusal(error: &EnvelopeError) -> Refusal {
    match error {
        EnvelopeError::Unsigned
        | EnvelopeError::UnknownSigner(_)
        | EnvelopeError::OtherProduct { .. }
        | EnvelopeError::TooFewSigners { .. } => Refusal::NotPermitted(error.to_string()),
        EnvelopeError::TooLarge(_)
        | EnvelopeError::NotAnEnvelope(_)
        | EnvelopeError::PayloadType(_)
        | EnvelopeError::NotBase64(_)
        | EnvelopeError::NotText
        | EnvelopeError::TooManySignatures(_)
        | EnvelopeError::Manifest(_)
        | EnvelopeError::NotCanonical { .. } => Refusal::malformed(error.to_string()),
    }
}
