//! What was left out of a learned release, in words for whoever reviews it.

use super::hash_text::HashText;
use super::learn::{BootEvent, DifferingEvent, ImageNote, LearnNote, Learned, MAX_ONE_OF};
use super::manifest::Manifest;
use crate::appraisal::BOOT_PCRS;

/// One sentence for each thing that was left out of `learned`. `names` are what the devices, or the
/// folders that stand for them, are called, in the order in which they were learned from.
#[must_use]
pub fn describe(learned: &Learned, names: &[String]) -> Vec<String> {
    let mut sentences = describe_notes(&learned.notes, names);
    let unstable = learned.notes.iter().filter_map(|note| match note {
        LearnNote::Unstable { pcr } => Some(pcr.to_string()),
        _ => None,
    });
    let unstable: Vec<String> = unstable.collect();
    if !unstable.is_empty() {
        sentences.push(format!(
            "PCRs {} differ from device to device or boot to boot and are never learned",
            unstable.join(", ")
        ));
    }
    sentences.extend(unconstrained(&learned.manifest));
    sentences
}

/// One sentence for each thing that speaks against learning from one of the devices.
#[must_use]
pub fn describe_warnings(learned: &Learned, names: &[String]) -> Vec<String> {
    learned.warnings.iter().map(|(place, warning)| warning.sentence(name_at(names, *place))).collect()
}

/// Says which PCRs of the boot a draft leaves open, if it does.
#[must_use]
pub fn unconstrained(draft: &Manifest) -> Option<String> {
    let constrained = draft.constrained();
    let missing = BOOT_PCRS.iter().filter(|pcr| !constrained.iter().any(|known| known.number() == **pcr));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "the draft does not constrain PCR {}, so no device becomes affirming by it; add rules for it",
            missing.join(", ")
        )
    })
}

/// One sentence for each note but those about PCRs that are never learned.
#[must_use]
pub fn describe_notes(notes: &[LearnNote], names: &[String]) -> Vec<String> {
    notes.iter().filter_map(|note| sentence(note, names)).collect()
}

/// What the device at `place`, counted from 1, is called.
#[must_use]
pub fn name_at(names: &[String], place: usize) -> &str {
    names.get(place.saturating_sub(1)).map_or("a device", String::as_str)
}

fn each_value(values: &[HashText], names: &[String]) -> String {
    let one = |(place, value)| format!("{} has {value}", name_at(names, place));
    (1..).zip(values).map(one).collect::<Vec<_>>().join(", ")
}

/// A note in words; those about unstable PCRs are told together.
fn sentence(note: &LearnNote, names: &[String]) -> Option<String> {
    let of = |place: usize| name_at(names, place);
    Some(match note {
        LearnNote::Unstable { .. } => return None,
        LearnNote::Unexplained { pcr, device } => {
            format!("PCR {pcr}: the log of {} does not explain its value", of(*device))
        }
        LearnNote::NotQuoted { pcr, device } => {
            format!("PCR {pcr}: the evidence of {} lacks it", of(*device))
        }
        LearnNote::BootsDiffer { pcr, device, events } => {
            let one = |event: &BootEvent| {
                let when = if event.last { "last" } else { "earlier" };
                format!("{} {} only in the {when} one", event.event_type, event.digest)
            };
            let told: Vec<String> = events.iter().map(one).collect();
            let told = if told.is_empty() { "no event tells why".to_owned() } else { told.join("; ") };
            format!(
                "PCR {pcr} is left out, it is not stable: two boots of {} differ in it: {told}",
                of(*device)
            )
        }
        LearnNote::ValuesDiffer { pcr, values } => {
            format!("PCR {pcr} is left out, its values differ: {}", each_value(values, names))
        }
        LearnNote::OneOfValues { pcr, values } => {
            format!("PCR {pcr} may have each of these values: {}", each_value(values, names))
        }
        LearnNote::OneOfBoots { pcrs, devices } => {
            let pcrs: Vec<String> = pcrs.iter().map(ToString::to_string).collect();
            let one = |(number, places): (usize, &Vec<usize>)| {
                let places: Vec<&str> = places.iter().map(|place| of(*place)).collect();
                format!("boot {number} is that of {}", places.join(", "))
            };
            let ways: Vec<String> = (1..).zip(devices).map(one).collect();
            format!("PCR {} may be as in each of these boots: {}", pcrs.join(", "), ways.join("; "))
        }
        LearnNote::TooMany { pcr, found } => format!(
            "PCR {pcr} is left out: the devices differ in {found} ways, and at most {MAX_ONE_OF} of one PCR are accepted"
        ),
        LearnNote::EventsDiffer { pcr, events } => {
            let one = |event: &DifferingEvent| {
                let owners: Vec<&str> = event.devices.iter().map(|place| of(*place)).collect();
                format!("{} {} only on {}", event.event_type, event.digest, owners.join(", "))
            };
            let events: Vec<String> = events.iter().map(one).collect();
            format!("PCR {pcr} is left out, its events differ: {}", events.join("; "))
        }
        LearnNote::NoEvents { pcr } => format!("PCR {pcr}: no device has an event in it"),
        LearnNote::Image { path, device, why, .. } => image(path, of(*device), *why),
    })
}

fn image(path: &str, device: &str, why: ImageNote) -> String {
    match why {
        ImageNote::Differs => format!(
            "image {path} is left out, so devices that have it are refused: not all have the same, see {device}; \
             --one-of accepts each"
        ),
        ImageNote::Changed => format!(
            "image {path} changed while {device} ran; what it is now is learned, and {device} is refused until it restarts"
        ),
        ImageNote::Removed => format!(
            "image {path} is left out: it was removed while {device} ran, which is refused until it restarts"
        ),
        ImageNote::Unmeasured => {
            format!(
                "image {path} is left out: {device} could not measure it and is refused until it restarts"
            )
        }
    }
}
