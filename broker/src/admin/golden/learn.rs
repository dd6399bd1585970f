//! Drafts a release from the last evidence of reference devices. Nothing is written: the draft is
//! reviewed, signed and applied.

use policy::appraisal::BOOT_PCRS;
use policy::id::{DeviceName, ProductName};
use policy::reference::learn::{LearnError, LearnNote, Learned, MAX_DEVICES, learn};
use policy::reference::release::ReleaseVersion;

use crate::admin::device::view::device;
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
        let view = device(plant, name).await?;
        let attested = view.attested.ok_or_else(|| {
            Refusal::NotFound(format!("{name} has sent no evidence yet; learn from a device that attested"))
        })?;
        let read = recorded(plant, &attested, &view.tpm).await;
        evidence.push(read.map_err(|error| Refusal::EvidenceInvalid(format!("{name}: {error}")))?);
    }
    let measurements: Vec<_> = evidence.iter().map(|recorded| recorded.measurements()).collect();
    let counter = counter(plant, &product).await?.map_or(0, |held| held.record.counter).saturating_add(1);
    let learned = learn(&measurements, product, version, counter).map_err(|error| refusal(&error, &names))?;
    Ok(Draft { notes: notes(&learned, &names), manifest: learned.manifest.render() })
}

/// The highest counter that was applied for `product`.
pub(super) async fn counter(
    plant: &Plant,
    product: &ProductName,
) -> Result<Option<Held<ProductCounter>>, Refusal> {
    Ok(fetch(plant.store.as_ref(), product_key(product)).await?)
}

fn refusal(error: &LearnError, names: &[DeviceName]) -> Refusal {
    let of = |place: usize| device_at(names, place);
    match error {
        LearnError::NoDevice | LearnError::TooManyDevices(_) => Refusal::malformed(error.to_string()),
        LearnError::Unproven(place) => Refusal::NotEndorsed(format!(
            "nothing vouches for the TPM of {}; register its EK with `touchstone device import`, or learn from another device",
            of(*place)
        )),
        LearnError::Banks { device, .. } => Refusal::EvidenceInvalid(format!("{}: {error}", of(*device))),
        LearnError::NothingAgreed(notes) => {
            let why: Vec<String> = notes.iter().filter_map(|note| sentence(note, names)).collect();
            Refusal::EvidenceInvalid(format!("{error}: {}", why.join("; ")))
        }
        LearnError::Manifest(_) => Refusal::EvidenceInvalid(error.to_string()),
    }
}

fn device_at(names: &[DeviceName], place: usize) -> &str {
    names.get(place.saturating_sub(1)).map_or("a device", DeviceName::as_str)
}

fn notes(learned: &Learned, names: &[DeviceName]) -> Vec<String> {
    let mut notes: Vec<String> = learned.notes.iter().filter_map(|note| sentence(note, names)).collect();
    let unstable = learned.notes.iter().filter_map(|note| match note {
        LearnNote::Unstable { pcr } => Some(pcr.to_string()),
        _ => None,
    });
    let unstable: Vec<String> = unstable.collect();
    if !unstable.is_empty() {
        notes.push(format!(
            "PCRs {} differ from device to device or boot to boot and are never learned",
            unstable.join(", ")
        ));
    }
    let constrained = learned.manifest.constrained();
    let missing = BOOT_PCRS.iter().filter(|pcr| !constrained.iter().any(|known| known.number() == **pcr));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    if !missing.is_empty() {
        notes.push(format!(
            "the draft does not constrain PCR {}, so no device becomes affirming by it; add rules for it",
            missing.join(", ")
        ));
    }
    notes
}

/// A note in words; those about unstable PCRs are told together.
fn sentence(note: &LearnNote, names: &[DeviceName]) -> Option<String> {
    let of = |place: usize| device_at(names, place);
    Some(match note {
        LearnNote::Unstable { .. } => return None,
        LearnNote::Unexplained { pcr, device } => {
            format!("PCR {pcr}: the log of {} does not explain its value", of(*device))
        }
        LearnNote::NotQuoted { pcr, device } => format!("PCR {pcr}: {} did not quote it", of(*device)),
        LearnNote::ValuesDiffer { pcr, values } => {
            let values: Vec<String> =
                (1..).zip(values).map(|(place, value)| format!("{} has {value}", of(place))).collect();
            format!("PCR {pcr} differs: {}", values.join(", "))
        }
        LearnNote::EventsDiffer { pcr, events } => {
            let one = |event: &policy::reference::learn::DifferingEvent| {
                let owners: Vec<&str> = event.devices.iter().map(|place| of(*place)).collect();
                format!("{} {} only on {}", event.event_type, event.digest, owners.join(", "))
            };
            let events: Vec<String> = events.iter().map(one).collect();
            format!("PCR {pcr} is left out, its events differ: {}", events.join("; "))
        }
        LearnNote::NoEvents { pcr } => format!("PCR {pcr}: no device has an event in it"),
    })
}
