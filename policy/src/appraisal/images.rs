//! Compares the images that a device measured with those of a release.
//!
//! A release with image rules closes their PCR. A device that sends no log, or tells an image as somebody
//! else's event, must not pass for one that measured nothing: so the PCR must be explained, and what is in
//! it besides images must be systemd's separator or satisfy an event rule.

use super::matching::{Accepted, Mismatch};
use super::measurements::Measurements;
use crate::eventlog::image::{IMAGE_PCR, ImageMeasurement};
use crate::eventlog::userspace::OS_SEPARATOR;
use crate::evidence::linux::EventOrigin;
use crate::evidence::verify::VerifiedEvent;
use crate::reference::manifest::image::ImageRule;

/// A way in which images differ from a release.
#[derive(Clone, Copy, Debug)]
pub(super) enum ImageMismatch<'a> {
    Unknown { image: &'a ImageMeasurement, rule: Option<&'a ImageRule> },
    Missing { rule: &'a ImageRule },
}

/// Adds everything in which the images of `seen` differ from what `manifest` accepts.
pub(super) fn compare<'a>(accepted: Accepted<'a>, seen: &Measurements<'a>, found: &mut Vec<Mismatch<'a>>) {
    let manifest = accepted.manifest;
    let rules = manifest.images();
    if rules.is_empty() {
        return;
    }
    let compared = manifest.mentioned().contains(&IMAGE_PCR);
    if seen.value(IMAGE_PCR).is_none() {
        if !compared {
            found.push(Mismatch::NotQuoted { pcr: IMAGE_PCR });
        }
        return;
    }
    if !seen.is_explained(IMAGE_PCR) {
        if !compared {
            found.push(Mismatch::Unexplained { pcr: IMAGE_PCR });
        }
        return;
    }
    if !accepted.rules(IMAGE_PCR).any(|rule| rule.closes()) {
        let foreign = seen.events(IMAGE_PCR).filter(|event| !is_image_or_separator(event));
        found.extend(foreign.map(|event| Mismatch::Unexpected { event }));
    }
    for image in seen.images().filter(|image| !rules.iter().any(|rule| rule.is_satisfied_by(image))) {
        let rule = rules.iter().find(|rule| rule.path.is_some() && rule.covers(image));
        found.push(Mismatch::Image(ImageMismatch::Unknown { image, rule }));
    }
    let missing =
        |rule: &&ImageRule| !rule.optional && !seen.images().any(|image| rule.is_satisfied_by(image));
    found.extend(rules.iter().filter(missing).map(|rule| Mismatch::Image(ImageMismatch::Missing { rule })));
}

/// Whether image rules, and not event rules, decide about the event.
pub(super) const fn is_image(event: &VerifiedEvent) -> bool {
    matches!(event.origin, EventOrigin::Image(_))
}

fn is_image_or_separator(event: &VerifiedEvent) -> bool {
    match &event.origin {
        EventOrigin::Image(_) => true,
        EventOrigin::Userspace { text } => text.as_deref() == Some(OS_SEPARATOR),
        EventOrigin::Firmware => false,
    }
}

impl ImageMismatch<'_> {
    pub(super) fn sentence(&self, release: &impl std::fmt::Display) -> String {
        match self {
            Self::Unknown { image, rule: None } => format!(
                "{} {} has digest {}, which {release} does not list; install an approved one, or sign a release that lists it",
                image.kind, image.path, image.digest
            ),
            Self::Unknown { image, rule: Some(rule) } => format!(
                "{} {} has digest {}, which is not the one of {rule} in {release}; install an approved one, or sign a release that lists it",
                image.kind, image.path, image.digest
            ),
            Self::Missing { rule } => format!(
                "{rule}, which {release} asks for, was not measured; install and start it, or make it optional in a new release"
            ),
        }
    }
}
