//! Learns image rules from what the attestors of the devices measured themselves.
//!
//! A release with such rules accepts no other images, so what is left out here is refused later, and told.

use std::collections::{BTreeMap, BTreeSet};

use super::note::ImageNote;
use super::{LearnNote, MAX_NOTED};
use crate::appraisal::measurements::Measurements;
use crate::digest::Digest;
use crate::eventlog::image::{IMAGE_PCR, ImageKind, ImageMeasurement};
use crate::reference::manifest::image::ImageRule;

/// A rule for each image that the devices have now, and what was not learned as it stands.
pub(super) fn learn(devices: &[&Measurements<'_>], one_of: bool) -> (Vec<ImageRule>, Vec<LearnNote>) {
    let mut notes = Vec::new();
    let explained = devices.iter().all(|seen| seen.is_explained(IMAGE_PCR));
    if !explained {
        return (Vec::new(), notes);
    }
    let mut found: BTreeMap<&str, Vec<(usize, &ImageMeasurement)>> = BTreeMap::new();
    for (device, seen) in (1..).zip(devices) {
        for (path, history) in by_path(seen) {
            match held(&history) {
                Ok(image) => found.entry(path).or_default().push((device, image)),
                Err(why) => notes.push(note(path, device, why)),
            }
            if contents(&history).len() > 1 {
                notes.push(note(path, device, ImageNote::Changed));
            }
        }
    }
    let mut rules = Vec::new();
    for (path, of) in found {
        let digests: BTreeSet<Digest> = of.iter().map(|(_, image)| image.digest).collect();
        let everywhere = of.len() == devices.len();
        if digests.len() == 1 && everywhere || one_of && digests.len() <= super::MAX_ONE_OF {
            rules.push(ImageRule { path: Some(path.to_owned()), digests, optional: !everywhere, name: None });
        } else {
            let first = of.first().map(|(device, image)| (*device, image.digest));
            let other = of.iter().find(|(_, image)| first.is_some_and(|(_, digest)| digest != image.digest));
            let device = other.map(|(device, _)| *device).or(first.map(|(device, _)| device));
            notes.push(note(path, device.unwrap_or(1), ImageNote::Differs));
        }
    }
    notes.truncate(MAX_NOTED);
    (rules, notes)
}

/// What a device measured at each path, in the log's order.
fn by_path<'a>(seen: &Measurements<'a>) -> BTreeMap<&'a str, Vec<&'a ImageMeasurement>> {
    let mut paths: BTreeMap<&str, Vec<&ImageMeasurement>> = BTreeMap::new();
    for image in seen.images() {
        paths.entry(&image.path).or_default().push(image);
    }
    paths
}

/// What is there now, if it has content.
fn held<'a>(history: &[&'a ImageMeasurement]) -> Result<&'a ImageMeasurement, ImageNote> {
    let last = history.last().copied().ok_or(ImageNote::Removed)?;
    match last.kind {
        ImageKind::File | ImageKind::Link | ImageKind::Container => Ok(last),
        ImageKind::Removed => Err(ImageNote::Removed),
        ImageKind::Unreadable | ImageKind::Unstable | ImageKind::Overflow => Err(ImageNote::Unmeasured),
    }
}

fn contents(history: &[&ImageMeasurement]) -> BTreeSet<Digest> {
    history.iter().map(|image| image.digest).collect()
}

fn note(path: &str, device: usize, why: ImageNote) -> LearnNote {
    LearnNote::Image { pcr: IMAGE_PCR.number(), path: path.to_owned(), device, why }
}
