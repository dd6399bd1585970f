//! Drafts a release from the last evidence of reference devices. Nothing is written: the draft is
//! reviewed, signed and applied.

use policy::appraisal::Verdict;
use policy::evidence::recorded::RecordedEvidence;
use policy::id::{DeviceName, ProductName};
use policy::reference::learn::{LearnError, Lesson, MAX_DEVICES, ReferenceDevice, learn};
use policy::reference::learn_words::{describe, describe_notes, describe_warnings, name_at};
use policy::reference::release::{ReleaseId, ReleaseVersion};

use crate::admin::device::view::device;
use crate::admin::reach::Scope;
use crate::plant::Plant;
use crate::record::golden::{ProductCounter, product_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::session::earlier::earlier;
use crate::session::recorded::recorded;

/// A draft, and what is to be known about it.
#[derive(Debug)]
pub struct Draft {
    /// Canonical TOML.
    pub manifest: String,
    /// What was not learned as it stands, one sentence each.
    pub notes: Vec<String>,
    /// What speaks against learning from these devices, one sentence each.
    pub warnings: Vec<String>,
}

/// Drafts release `version` of `product` from what `devices` agree on; what differs in few ways is accepted in each
/// of them if `one_of`.
pub async fn draft(
    plant: &Plant,
    scope: &Scope,
    devices: &[DeviceName],
    product: ProductName,
    version: ReleaseVersion,
    one_of: bool,
) -> Result<Draft, Refusal> {
    let mut names = devices.to_vec();
    names.sort();
    names.dedup();
    if names.len() > MAX_DEVICES {
        return Err(Refusal::malformed(LearnError::TooManyDevices(names.len()).to_string()));
    }
    let mut evidence = Vec::new();
    for name in &names {
        evidence.push(Evidence::of(plant, scope, name).await?);
    }
    let references: Vec<_> = evidence.iter().map(Evidence::reference).collect();
    let counter = counter(plant, &product).await?.map_or(0, |held| held.record.counter).saturating_add(1);
    let once = names.iter().zip(&evidence).filter(|(_, evidence)| evidence.earlier.is_none());
    let once: Vec<String> = once.map(|(name, _)| name.to_string()).collect();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let lesson = Lesson { id: ReleaseId { product, version }, counter, one_of };
    let learned = learn(&references, lesson).map_err(|error| refusal(&error, &names))?;
    let mut notes = describe(&learned, &names);
    if !once.is_empty() {
        notes.push(format!(
            "of {} one boot of this software is known, so nothing shows what is stable; let it boot and attest again, and learn once more",
            once.join(", ")
        ));
    }
    Ok(Draft { notes, warnings: describe_warnings(&learned, &names), manifest: learned.manifest.render() })
}

/// What a device sent last, and in the boot before.
struct Evidence {
    last: RecordedEvidence,
    earlier: Option<RecordedEvidence>,
    verdict: Option<Verdict>,
}

impl Evidence {
    async fn of(plant: &Plant, scope: &Scope, name: &DeviceName) -> Result<Self, Refusal> {
        let view = device(plant, scope, name).await?;
        let attested = view.attested.ok_or_else(|| {
            Refusal::NotFound(format!("{name} has sent no evidence yet; learn from a device that attested"))
        })?;
        let read = recorded(plant, &attested, &view.tpm).await;
        let last = read.map_err(|error| Refusal::EvidenceInvalid(format!("{name}: {error}")))?;
        Ok(Self { last, earlier: earlier(plant, name).await?, verdict: verdict(&attested.verdict) })
    }

    fn reference(&self) -> ReferenceDevice<'_> {
        let earlier = self.earlier.iter().map(RecordedEvidence::measurements).collect();
        ReferenceDevice { last: self.last.measurements(), earlier, verdict: self.verdict }
    }
}

/// The verdict of a record, which has it as text. What cannot be read affirms nothing.
fn verdict(text: &str) -> Option<Verdict> {
    let known = [Verdict::Affirming, Verdict::Warning, Verdict::Contraindicated, Verdict::Unappraised];
    let found = known.into_iter().find(|verdict| verdict.to_string() == text);
    Some(found.unwrap_or(Verdict::Unappraised))
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
