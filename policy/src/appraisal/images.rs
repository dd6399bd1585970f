//! Compares the images that a device measured with those of a release.
//!
//! A release with image rules closes their PCR. A device that sends no log, or tells an image as somebody
//! else's event, must not pass for one that measured nothing: so the PCR must be explained, and what is in
//! it besides images must be systemd's separator or satisfy an event rule.
//!
//! Each entry counts until the device restarts, also one of a file that was put back since: it was there, and may have
//! been used.

use super::matching::{Accepted, Mismatch};
use super::measurements::Measurements;
use crate::digest::Digest;
use crate::eventlog::image::{IMAGE_PCR, ImageKind, ImageMeasurement};
use crate::eventlog::userspace::OS_SEPARATOR;
use crate::evidence::linux::EventOrigin;
use crate::evidence::verify::VerifiedEvent;
use crate::reference::manifest::image::ImageRule;

/// A way in which images differ from a release.
#[derive(Clone, Copy, Debug)]
pub(super) enum ImageMismatch<'a> {
    Unknown { image: &'a ImageMeasurement, rule: Option<&'a ImageRule>, is_back: bool },
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
    let is_accepted = |image: &ImageMeasurement| rules.iter().any(|rule| rule.is_satisfied_by(image));
    for image in seen.images().filter(|image| !is_accepted(image)) {
        let rule = rules.iter().find(|rule| rule.path.is_some() && rule.covers(image));
        let is_back = seen.images().filter(|other| other.path == image.path).last().is_some_and(is_accepted);
        found.push(Mismatch::Image(ImageMismatch::Unknown { image, rule, is_back }));
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

impl<'a> ImageMismatch<'a> {
    pub(super) const fn rule(&self) -> Option<&'a ImageRule> {
        match self {
            Self::Unknown { rule, .. } => *rule,
            Self::Missing { rule } => Some(rule),
        }
    }

    /// What was there, if anything was read.
    pub(super) fn seen(&self) -> Option<Digest> {
        match self {
            Self::Unknown { image, .. } if image.kind != ImageKind::Unreadable => Some(image.digest),
            Self::Unknown { .. } | Self::Missing { .. } => None,
        }
    }

    pub(super) fn sentence(&self, release: &impl std::fmt::Display) -> String {
        match self {
            Self::Unknown { image, rule, is_back } => {
                let (what, remedy) = (unknown(image, *rule, release), remedy(image, *is_back));
                format!("{what}; {remedy}")
            }
            Self::Missing { rule } => format!(
                "{rule}, which {release} asks for, was not measured; install it and name it in [images] of \
                 attestor.toml, or make it optional in a new release"
            ),
        }
    }
}

fn unknown(image: &ImageMeasurement, rule: Option<&ImageRule>, release: &impl std::fmt::Display) -> String {
    let ImageMeasurement { kind, path, digest, .. } = image;
    match (kind, rule) {
        (ImageKind::File | ImageKind::Link | ImageKind::Container, None) => {
            format!("{kind} {path} has digest {digest}, which {release} does not list")
        }
        (ImageKind::File | ImageKind::Link | ImageKind::Container, Some(rule)) => {
            let of =
                rule.name.as_ref().map(|name| format!("one of {name} in")).unwrap_or("one of".to_owned());
            format!("{kind} {path} has digest {digest}, which is not the {of} {release}")
        }
        (ImageKind::Removed, _) => {
            format!("{path} was removed while the device ran, and {release} lists it as nothing that may go")
        }
        (ImageKind::Unreadable, _) => {
            format!("{path} could not be measured: it is no regular file, or the attestor may not read it")
        }
        (ImageKind::Unstable, _) => format!("{path} went on changing while it was measured"),
        (ImageKind::Overflow, _) => format!("{path} is more than the attestor measures or its log holds"),
    }
}

/// What was measured stays in the PCR until the device restarts, so every remedy but a release ends with that.
fn remedy(image: &ImageMeasurement, is_back: bool) -> &'static str {
    match image.kind {
        _ if is_back => {
            "it is an approved one again: restart the device, whose PCR 13 keeps the other until then"
        }
        ImageKind::File | ImageKind::Link | ImageKind::Container => {
            "install an approved one and restart the device, or sign a release that lists it"
        }
        ImageKind::Removed => "bring it back and restart the device, or make it optional in a new release",
        ImageKind::Unreadable => "see `touchstone-attestor status` there, mend it and restart the device",
        ImageKind::Unstable => {
            "let what writes it put a whole new file in its place (rename), and restart the device"
        }
        ImageKind::Overflow => {
            "name fewer files in [images] of attestor.toml, none that programs write to, and restart the device"
        }
    }
}
