//! Drafts a release from the last evidence of reference devices. Nothing is written: the draft is
//! reviewed, signed and applied.

use policy::id::{DeviceName, ProductName};
use policy::reference::learn::{LearnError, MAX_DEVICES, learn};
use policy::reference::learn_words::{describe, describe_notes, name_at};
use policy::reference::release::ReleaseVersion;

use crate::admin::device::view::device;
use crate::admin::reach::Scope;
use crate::plant::Plant;
use crate::record::golden::{ProductCounter, product_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::session::recorded::recorded;

/// A draft, and what was left out of it.
#[derive(Debug)]
pub struct Draft {
    /// Canonical TOML.
    pub manifest: String,
    /// One sentence each.
    pub notes: Vec<String>,
}

/// Drafts release `version` of `product` from what `devices` agree on.
pub async fn draft(
    plant: &Plant,
    scope: &Scope,
    devices: &[DeviceName],
    product: ProductName,
    version: ReleaseVersion,
) -> Result<Draft, Refusal> {
    let mut names = devices.to_vec();
    names.sort();
    names.dedup();
    if names.len() > MAX_DEVICES {
        return Err(Refusal::malformed(LearnError::TooManyDevices(names.len()).to_string()));
    }
    let mut evidence = Vec::new();
    for name in &names {
        let view = device(plant, scope, name).await?;
        let attested = view.attested.ok_or_else(|| {
            Refusal::NotFound(format!("{name} has sent no evidence yet; learn from a device that attested"))
        })?;
        let read = recorded(plant, &attested, &view.tpm).await;
        evidence.push(read.map_err(|error| Refusal::EvidenceInvalid(format!("{name}: {error}")))?);
    }
    let measurements: Vec<_> = evidence.iter().map(|recorded| recorded.measurements()).collect();
    let counter = counter(plant, &product).await?.map_or(0, |held| held.record.counter).saturating_add(1);
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let learned = learn(&measurements, product, version, counter).map_err(|error| refusal(&error, &names))?;
    Ok(Draft { notes: describe(&learned, &names), manifest: learned.manifest.render() })
}

/// The highest counter that was applied for `product`.
pub(super) async fn counter(
    plant: &Plant,
    product: &ProductName,
) -> Result<Option<Held<ProductCounter>>, Refusal> {
    Ok(fetch(plant.store.as_ref(), product_key(product)).await?)
}

fn refusal(error: &LearnError, names: &[String]) -> Refusal {
    let of = |place: usize| name_at(names, place);
    match error {
        LearnError::NoDevice | LearnError::TooManyDevices(_) => Refusal::malformed(error.to_string()),
        LearnError::Unproven(place) => Refusal::NotEndorsed(format!(
            "nothing vouches for the TPM of {}; register its EK with `touchstone device import`, or learn from another device",
            of(*place)
        )),
        LearnError::Banks { device, .. } => Refusal::EvidenceInvalid(format!("{}: {error}", of(*device))),
        LearnError::NothingAgreed(notes) => {
            Refusal::EvidenceInvalid(format!("{error}: {}", describe_notes(notes, names).join("; ")))
        }
        LearnError::Manifest(_) => Refusal::EvidenceInvalid(error.to_string()),
    }
}
