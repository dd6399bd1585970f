//! Compares measurements with one release, PCR by PCR.
//!
//! The comparison borrows and allocates little; only the mismatches of the release that is reported
//! become sentences.

use std::collections::BTreeSet;

use super::appraise::BOOT_PCRS;
use super::claims::Claim;
use super::early;
use super::finding::{EventPlace, Finding, FindingKind, MAX_EXPECTED};
use super::images::{self, ImageMismatch, is_image};
use super::measurements::Measurements;
use super::secure_boot::{self, StateMismatch};
use crate::digest::Digest;
use crate::eventlog::image::IMAGE_PCR;
use crate::evidence::secure_boot::SecureBootState;
use crate::evidence::verify::VerifiedEvent;
use crate::reference::event_type::EventType;
use crate::reference::hash_text::HashText;
use crate::reference::manifest::secure_boot::SecureBootRule;
use crate::reference::manifest::{EventRule, Expectation, Manifest};
use crate::reference::release::ReleaseId;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// A way in which measurements differ from a release.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mismatch<'a> {
    NotQuoted {
        pcr: PcrIndex,
    },
    Unexplained {
        pcr: PcrIndex,
    },
    OtherBank {
        pcr: PcrIndex,
    },
    /// With the state of Secure Boot where the PCR tells of it.
    Value {
        pcr: PcrIndex,
        expected: &'a BTreeSet<HashValue>,
        seen: &'a HashValue,
        of: Option<&'a SecureBootState>,
    },
    Digest {
        rule: &'a EventRule,
        event: &'a VerifiedEvent,
    },
    Unexpected {
        event: &'a VerifiedEvent,
    },
    Missing {
        rule: &'a EventRule,
    },
    Forbidden {
        rule: &'a EventRule,
        event: &'a VerifiedEvent,
    },
    Early {
        rule: &'a EventRule,
        event: &'a VerifiedEvent,
    },
    SecureBoot {
        pcr: PcrIndex,
        of: StateMismatch<'a>,
    },
    Image(ImageMismatch<'a>),
}

impl Mismatch<'_> {
    /// Whether something is missing or surplus outside the PCRs of the boot, and nothing is other than the
    /// release says. What a device leaves out, or adds where it can, shows no other release.
    pub(super) fn is_silence(&self) -> bool {
        let of_boot = BOOT_PCRS.contains(&self.pcr().number());
        match self {
            Self::NotQuoted { .. }
            | Self::Unexplained { .. }
            | Self::Unexpected { .. }
            | Self::Missing { .. } => !of_boot,
            Self::Image(ImageMismatch::Missing { .. }) => true,
            Self::OtherBank { .. }
            | Self::Value { .. }
            | Self::Digest { .. }
            | Self::Forbidden { .. }
            | Self::Early { .. }
            | Self::SecureBoot { .. }
            | Self::Image(ImageMismatch::Unknown { .. }) => false,
        }
    }
}

/// Everything in which `seen` differs from what `manifest` accepts; empty means approved. Of several variants the
/// closest is told: first the one that nothing but silence speaks against.
pub(super) fn mismatches<'a>(manifest: &'a Manifest, seen: &Measurements<'a>) -> Vec<Mismatch<'a>> {
    let of_variant = |variant| {
        let accepted = Accepted { manifest, variant };
        let mut found = Vec::new();
        for pcr in manifest.mentioned() {
            compare_pcr(accepted, seen, pcr, &mut found);
        }
        images::compare(accepted, seen, &mut found);
        found
    };
    let differing = |found: &Vec<Mismatch<'_>>| {
        (found.iter().filter(|mismatch| !mismatch.is_silence()).count(), found.len())
    };
    // There is always a variant: without one nothing would be compared, so nothing must be approved.
    let closest = manifest.variants().into_iter().map(of_variant).min_by_key(differing);
    closest.unwrap_or_else(|| of_variant(None))
}

/// A release, as a boot of one of its variants is held against it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted<'a> {
    pub(super) manifest: &'a Manifest,
    variant: Option<&'a str>,
}

impl<'a> Accepted<'a> {
    /// The event rules of `pcr`, as written.
    pub(super) fn rules(self, pcr: PcrIndex) -> impl Iterator<Item = &'a EventRule> {
        self.manifest.rules_of(pcr, self.variant)
    }
}

fn compare_pcr<'a>(
    accepted: Accepted<'a>,
    seen: &Measurements<'a>,
    pcr: PcrIndex,
    found: &mut Vec<Mismatch<'a>>,
) {
    let manifest = accepted.manifest;
    let Some(value) = seen.value(pcr) else {
        return found.push(Mismatch::NotQuoted { pcr });
    };
    if !seen.is_explained(pcr) {
        found.push(Mismatch::Unexplained { pcr });
    }
    match manifest.pcrs().get(&seen.bank()).and_then(|rules| rules.get(&pcr)) {
        Some(expected) if !expected.contains(value) => {
            let of = seen.secure_boot().filter(|_| SecureBootRule::pcr() == Some(pcr));
            found.push(Mismatch::Value { pcr, expected, seen: value, of });
        }
        Some(_) => {}
        None if manifest.pcrs().values().any(|rules| rules.contains_key(&pcr)) => {
            found.push(Mismatch::OtherBank { pcr });
        }
        None => {}
    }
    // Without an explanation there are no events to compare, and one reason says it.
    if seen.is_explained(pcr) {
        compare_events(accepted, seen, pcr, found);
        // A whole value says in which order everything came.
        if !manifest.pcrs().get(&seen.bank()).is_some_and(|rules| rules.contains_key(&pcr)) {
            compare_order(accepted, seen, pcr, found);
        }
        if let Some(rule) = manifest.secure_boot().filter(|_| SecureBootRule::pcr() == Some(pcr)) {
            let differing = secure_boot::mismatches(rule, seen.secure_boot());
            found.extend(differing.into_iter().map(|of| Mismatch::SecureBoot { pcr, of }));
        }
    }
}

fn compare_events<'a>(
    accepted: Accepted<'a>,
    seen: &Measurements<'a>,
    pcr: PcrIndex,
    found: &mut Vec<Mismatch<'a>>,
) {
    let (closing, absent): (Vec<&EventRule>, Vec<&EventRule>) =
        accepted.rules(pcr).partition(|rule| rule.closes());
    let mut open: Vec<&VerifiedEvent> = Vec::new();
    let has_image_rules = !accepted.manifest.images().is_empty();
    for event in seen.events(pcr).filter(|event| !(has_image_rules && is_image(event))) {
        if let Some(rule) = absent.iter().find(|rule| is_of_type(rule, event)) {
            found.push(Mismatch::Forbidden { rule, event });
        } else if !closing.is_empty() && !closing.iter().any(|rule| is_satisfied_by(rule, event)) {
            open.push(event);
        }
    }
    let is_unsatisfied = |rule: &&EventRule| !seen.events(pcr).any(|event| is_satisfied_by(rule, event));
    let (optional, needed): (Vec<&EventRule>, Vec<&EventRule>) =
        closing.into_iter().filter(is_unsatisfied).partition(|rule| is_optional(rule));
    pair(open, needed, optional, found);
}

/// Applications that the release lists, and that ran before it allows them to.
fn compare_order<'a>(
    accepted: Accepted<'a>,
    seen: &Measurements<'a>,
    pcr: PcrIndex,
    found: &mut Vec<Mismatch<'a>>,
) {
    for event in early::applications(seen, pcr) {
        let mut listing = accepted.rules(pcr).filter(|rule| is_satisfied_by(rule, event)).peekable();
        let listed = listing.peek().copied();
        if let Some(rule) = listed.filter(|_| !listing.any(may_be_early)) {
            found.push(Mismatch::Early { rule, event });
        }
    }
}

/// An unknown event and an unsatisfied rule of the same type, both in their order, are most likely
/// one thing that changed: told as one. What remains is told apart.
fn pair<'a>(
    events: Vec<&'a VerifiedEvent>,
    mut needed: Vec<&'a EventRule>,
    mut optional: Vec<&'a EventRule>,
    found: &mut Vec<Mismatch<'a>>,
) {
    for event in events {
        let rule = take_of_type(&mut needed, event).or_else(|| take_of_type(&mut optional, event));
        found.push(match rule {
            Some(rule) => Mismatch::Digest { rule, event },
            None => Mismatch::Unexpected { event },
        });
    }
    found.extend(needed.into_iter().map(|rule| Mismatch::Missing { rule }));
}

fn take_of_type<'a>(rules: &mut Vec<&'a EventRule>, event: &VerifiedEvent) -> Option<&'a EventRule> {
    let at = rules.iter().position(|rule| is_of_type(rule, event))?;
    Some(rules.remove(at))
}

fn is_of_type(rule: &EventRule, event: &VerifiedEvent) -> bool {
    rule.event_type == EventType(event.event_type)
}

fn is_satisfied_by(rule: &EventRule, event: &VerifiedEvent) -> bool {
    let listed = match &rule.expectation {
        Expectation::OneOf { digests, .. } => digests.contains(&event.digest),
        Expectation::Absent => false,
    };
    listed && is_of_type(rule, event)
}

fn is_optional(rule: &EventRule) -> bool {
    matches!(rule.expectation, Expectation::OneOf { optional: true, .. })
}

fn may_be_early(rule: &EventRule) -> bool {
    matches!(rule.expectation, Expectation::OneOf { early: true, .. })
}

/// The claim that a PCR bears on: code or configuration (RFC 9683, section 2.1; verifier's table of
/// PCR use on Linux).
pub(super) const fn claim_of(pcr: PcrIndex) -> Claim {
    match pcr.number() {
        // Firmware, option ROMs, boot loader, vendor, boot files, IMA, UKI, system extensions.
        0 | 2 | 4 | 6 | 9 | 10 | 11 | 13 => Claim::Executables,
        _ => Claim::Configuration,
    }
}

impl Mismatch<'_> {
    pub(super) fn pcr(&self) -> PcrIndex {
        match self {
            Self::NotQuoted { pcr }
            | Self::Unexplained { pcr }
            | Self::OtherBank { pcr }
            | Self::Value { pcr, .. }
            | Self::SecureBoot { pcr, .. } => *pcr,
            Self::Missing { rule } => rule.pcr,
            Self::Digest { event, .. }
            | Self::Unexpected { event }
            | Self::Forbidden { event, .. }
            | Self::Early { event, .. } => event.pcr,
            Self::Image(_) => IMAGE_PCR,
        }
    }

    /// The claim that it bears on.
    pub(super) fn claim(&self) -> Claim {
        match self {
            Self::SecureBoot { of, .. } => of.claim(),
            other => claim_of(other.pcr()),
        }
    }

    /// The mismatch as a reason; `manifest` is the one that it was found with.
    pub(super) fn to_finding(self, manifest: &Manifest, bank: HashAlg) -> Finding {
        let mut finding = Finding::new(self.kind(), self.claim(), self.sentence(manifest, bank))
            .with_release(manifest.id());
        finding.pcr = Some(self.pcr().number());
        if let Self::SecureBoot { of, .. } = self {
            finding.name = of.name();
            finding.event = of.event();
            finding.expected = of.expected().take(MAX_EXPECTED).filter_map(as_text).collect();
            finding.seen = of.seen().and_then(as_text);
            return finding;
        }
        if let Self::Image(of) = self {
            finding.name = of.rule().map(ToString::to_string);
            let expected = of.rule().into_iter().flat_map(|rule| &rule.digests);
            finding.expected = expected.take(MAX_EXPECTED).copied().filter_map(as_text).collect();
            finding.seen = of.seen().and_then(as_text);
            return finding;
        }
        finding.expected = self.expected(manifest, bank).take(MAX_EXPECTED).map(HashText).collect();
        let (rule, event) = self.rule_and_event();
        finding.name = rule.and_then(|rule| rule.name.clone());
        finding.event = event.map(|event| EventPlace {
            position: event.position,
            event_type: EventType(event.event_type),
            log_says: event.description.clone(),
        });
        finding.seen = match self {
            Self::Value { seen, .. } => Some(HashText(*seen)),
            _ => event.map(|event| HashText(event.digest)),
        };
        finding
    }

    const fn kind(&self) -> FindingKind {
        match self {
            Self::NotQuoted { .. } => FindingKind::PcrNotQuoted,
            Self::Unexplained { .. } => FindingKind::Unexplained,
            Self::OtherBank { .. } => FindingKind::OtherBank,
            Self::Value { .. } => FindingKind::PcrValue,
            Self::Digest { .. } => FindingKind::EventDigest,
            Self::Unexpected { .. } => FindingKind::UnexpectedEvent,
            Self::Missing { .. } => FindingKind::MissingEvent,
            Self::Forbidden { .. } => FindingKind::ForbiddenEvent,
            Self::Early { .. } => FindingKind::EarlyApplication,
            Self::SecureBoot { of, .. } => of.kind(),
            Self::Image(ImageMismatch::Unknown { .. }) => FindingKind::UnknownImage,
            Self::Image(ImageMismatch::Missing { .. }) => FindingKind::MissingImage,
        }
    }

    const fn rule_and_event(&self) -> (Option<&EventRule>, Option<&VerifiedEvent>) {
        match self {
            Self::Digest { rule, event } | Self::Forbidden { rule, event } | Self::Early { rule, event } => {
                (Some(rule), Some(event))
            }
            Self::Unexpected { event } => (None, Some(event)),
            Self::Missing { rule } => (Some(rule), None),
            Self::NotQuoted { .. }
            | Self::Unexplained { .. }
            | Self::OtherBank { .. }
            | Self::Value { .. }
            | Self::Image(_)
            | Self::SecureBoot { .. } => (None, None),
        }
    }

    fn expected(&self, manifest: &Manifest, bank: HashAlg) -> impl Iterator<Item = HashValue> {
        let expected: Vec<HashValue> = match self {
            Self::Value { expected, .. } => expected.iter().copied().collect(),
            Self::Digest { rule, .. } | Self::Missing { rule } => rule.digests(bank).copied().collect(),
            Self::Unexpected { event } => manifest
                .rules(event.pcr)
                .filter(|rule| is_of_type(rule, event))
                .flat_map(|rule| rule.digests(bank))
                .copied()
                .collect(),
            Self::NotQuoted { .. }
            | Self::Unexplained { .. }
            | Self::OtherBank { .. }
            | Self::Forbidden { .. }
            | Self::Early { .. }
            | Self::Image(_)
            | Self::SecureBoot { .. } => Vec::new(),
        };
        expected.into_iter()
    }

    fn sentence(&self, manifest: &Manifest, bank: HashAlg) -> String {
        let (pcr, release) = (self.pcr(), manifest.id());
        let place = |event: &VerifiedEvent| {
            format!("PCR {pcr}, event {} ({})", event.position, EventType(event.event_type))
        };
        let called = |rule: &EventRule| {
            let name = rule.name.clone().unwrap_or_else(|| rule.event_type.to_string());
            rule.variant.as_ref().map_or(name.clone(), |variant| format!("{name} ({variant})"))
        };
        match self {
            Self::SecureBoot { of, .. } => of.sentence(&release.to_string()),
            Self::NotQuoted { .. } => {
                format!(
                    "PCR {pcr} is constrained by {release} but the evidence lacks it; quote it, or update the attestor"
                )
            }
            Self::Unexplained { .. } => format!(
                "the event log does not explain PCR {pcr}, which {release} constrains; something extended it without a log, so reboot the device and see what does"
            ),
            Self::OtherBank { .. } => format!(
                "{release} states PCR {pcr} in other banks than {bank}, in which this device quotes; add the {bank} values to the release"
            ),
            Self::Value { of, .. } => {
                let state =
                    of.map(|state| format!(" ({})", secure_boot::in_words(state))).unwrap_or_default();
                format!("PCR {pcr} has a value that {release} does not list{state}; {}", remedy(release))
            }
            Self::Digest { rule, event } => {
                format!("{}: {} is not the one of {release}; {}", place(event), called(rule), remedy(release))
            }
            Self::Image(mismatch) => mismatch.sentence(release),
            Self::Unexpected { event } => {
                format!("{}: {release} lists no such event; {}", place(event), remedy(release))
            }
            Self::Missing { rule } => format!(
                "PCR {pcr} has no {} event with the digest of {}, which {release} asks for; {}",
                rule.event_type,
                called(rule),
                remedy(release)
            ),
            Self::Forbidden { event, .. } => format!(
                "{}: {release} forbids events of this type; remove what causes it, or allow it in a new release",
                place(event)
            ),
            Self::Early { rule, event } => format!(
                "{}: {} ran before the firmware called a boot option, which {release} does not allow; look for a SysPrep variable or a changed boot order, or write early = true in a new release",
                place(event),
                called(rule)
            ),
        }
    }
}

fn as_text(digest: Digest) -> Option<HashText> {
    HashValue::new(HashAlg::Sha256, &digest.0).map(HashText)
}

fn remedy(release: &ReleaseId) -> String {
    format!("boot the device with {release}, or sign a release that accepts this")
}
