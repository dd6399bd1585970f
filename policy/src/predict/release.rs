//! The draft of a release from artefacts, and from an earlier release of the same hardware.

use std::collections::{BTreeMap, BTreeSet};

use super::pe::{Pe, PeError};
use super::rules::{Image, Phase, Rules};
use super::uki::{Uki, UkiError};
use crate::appraisal::BOOT_PCRS;
use crate::reference::draft::Draft;
use crate::reference::event_type::EventType;
use crate::reference::learn_words::unconstrained;
use crate::reference::manifest::image::ImageRule;
use crate::reference::manifest::variant::MAX_VARIANTS;
use crate::reference::manifest::{EventRule, Expectation, Manifest, ManifestFaults};
use crate::reference::release::ReleaseId;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// Most images of one release: each is a variant of it.
pub const MAX_UKIS: usize = MAX_VARIANTS;
/// Most boot loaders that start one another: shim, its fallback, a menu and a kernel are four.
pub const MAX_LOADERS: usize = 16;

/// Nothing can be predicted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// No artefact.
    #[error(
        "name at least one artefact: a unified kernel image, a boot loader, a root file system or an image"
    )]
    Nothing,
    /// More than one release has.
    #[error("{found} {what}; one release has at most {limit}")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are taken.
        limit: usize,
    },
    /// An artefact cannot be read.
    #[error("{name}: {why}")]
    Artefact {
        /// What it is called.
        name: String,
        /// Why not.
        why: UkiError,
    },
    /// A phase of no image, or a profile of none.
    #[error("a phase, a profile and side-cars are about a unified kernel image; name it with --uki")]
    NoImage,
    /// The counter would not rise.
    #[error("counter {wanted} is not above {known}, the counter of {base}; leave it out or raise it")]
    Counter {
        /// What was asked for.
        wanted: u64,
        /// The counter of the earlier release.
        known: u64,
        /// The earlier release.
        base: ReleaseId,
    },
    /// Two releases under one name.
    #[error("the draft and its base are both {0}; give the draft a new version")]
    SameName(ReleaseId),
    /// The earlier release has variants of its own where nothing was predicted.
    #[error(
        "{base} has variants in PCR {pcr}, which no image says anything about; write those rules without a variant, or take another base"
    )]
    BaseVariants {
        /// The earlier release.
        base: ReleaseId,
        /// The PCR.
        pcr: PcrIndex,
    },
    /// What was predicted makes no manifest.
    #[error("what was predicted makes no manifest: {0}")]
    Manifest(ManifestFaults),
}

/// A file that was built.
#[derive(Debug, Clone)]
pub struct Artefact<'a> {
    /// What it is called, for people.
    pub name: String,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What a release consists of, and how devices boot it.
#[derive(Debug, Clone, Default)]
pub struct Artefacts<'a> {
    /// Unified kernel images; a device boots one of them.
    pub ukis: Vec<Artefact<'a>>,
    /// Boot loaders and kernels without one; a device starts all of them.
    pub loaders: Vec<Artefact<'a>>,
    /// The profile of the images that is booted.
    pub profile: u32,
    /// The phase in which devices attest; any if it is not stated.
    pub phase: Option<Phase>,
    /// Whether devices have credentials, addons or extensions beside the image.
    pub side_cars: bool,
    /// Digests of files by their paths on the device.
    pub files: Option<BTreeMap<String, BTreeSet<HashValue>>>,
    /// Rules about what the attestor measures itself.
    pub images: Vec<ImageRule>,
}

/// A predicted release, to be reviewed, and what is to be known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicted {
    /// The draft.
    pub manifest: Manifest,
    /// One sentence for each thing.
    pub notes: Vec<String>,
}

/// Predicts release `id`; `counter` is one above that of `base` if it is not stated.
pub fn predict(
    artefacts: &Artefacts<'_>,
    banks: &[HashAlg],
    id: ReleaseId,
    counter: Option<u64>,
    base: Option<&Manifest>,
) -> Result<Predicted, PredictError> {
    bounded(artefacts)?;
    let counter = next_counter(&id, counter, base)?;
    let ukis = read_ukis(artefacts)?;
    let mut draft =
        Draft { files: artefacts.files.clone(), images: artefacts.images.clone(), ..Draft::default() };
    let mut notes = Vec::new();
    let rules = Rules::new(banks);
    boot_loader(artefacts, &ukis, &rules, base, &mut draft, &mut notes)?;
    if !ukis.is_empty() {
        images(artefacts, &ukis, banks, &mut draft, &mut notes).map_err(|why| in_images(artefacts, why))?;
    }
    // Two sections with the same content are one rule: rules say nothing about the number of events.
    let mut seen = Vec::new();
    draft.events.retain(|rule| {
        let key = (rule.pcr, rule.event_type, rule.expectation.clone(), rule.variant.clone());
        let is_new = !seen.contains(&key);
        seen.push(key);
        is_new
    });
    if let Some(base) = base {
        one_kind_of_variants(&draft, base)?;
    }
    let manifest = draft.complete(id, counter, base).map_err(PredictError::Manifest)?;
    if let Some(base) = base {
        let kept: Vec<String> = BOOT_PCRS.iter().filter(|pcr| **pcr != 4).map(ToString::to_string).collect();
        let kept = kept.join(", ");
        notes.push(format!("everything that was not predicted is as in {}: PCRs {kept} are right for the same firmware and keys", base.id()));
    }
    notes.extend(unconstrained(&manifest));
    Ok(Predicted { manifest, notes })
}

fn bounded(artefacts: &Artefacts<'_>) -> Result<(), PredictError> {
    let Artefacts { ukis, loaders, profile, phase, side_cars, files, images } = artefacts;
    if ukis.is_empty() && (*profile > 0 || phase.is_some() || *side_cars) {
        return Err(PredictError::NoImage);
    }
    if ukis.is_empty() && loaders.is_empty() && files.is_none() && images.is_empty() {
        return Err(PredictError::Nothing);
    }
    let counts =
        [("unified kernel images", ukis.len(), MAX_UKIS), ("boot loaders", loaders.len(), MAX_LOADERS)];
    counts.into_iter().try_for_each(|(what, found, limit)| {
        if found > limit { Err(PredictError::TooMany { what, found, limit }) } else { Ok(()) }
    })
}

fn next_counter(id: &ReleaseId, counter: Option<u64>, base: Option<&Manifest>) -> Result<u64, PredictError> {
    let Some(base) = base else { return Ok(counter.unwrap_or(1)) };
    if base.id() == id {
        return Err(PredictError::SameName(id.clone()));
    }
    let known = base.counter();
    let wanted = counter.unwrap_or(known.saturating_add(1));
    // Another product counts by itself.
    if base.product() == &id.product && wanted <= known {
        return Err(PredictError::Counter { wanted, known, base: base.id().clone() });
    }
    Ok(wanted)
}

/// The images, each a variant of the release where there are several.
fn read_ukis<'a>(artefacts: &Artefacts<'a>) -> Result<Vec<Image<'a>>, PredictError> {
    let several = artefacts.ukis.len() > 1;
    let read = |(number, artefact): (u32, &Artefact<'a>)| {
        let uki = Uki::parse(artefact.bytes)?;
        let profile = uki.profile(artefacts.profile)?;
        Ok(Image { uki, profile, variant: several.then(|| format!("image {number}")) })
    };
    let named = |(number, artefact): (u32, &Artefact<'a>)| {
        read((number, artefact)).map_err(|why| PredictError::Artefact { name: artefact.name.clone(), why })
    };
    (1..).zip(&artefacts.ukis).map(named).collect()
}

/// A boot is of one variant, so what was predicted and what stays of the base cannot both have some.
fn one_kind_of_variants(draft: &Draft, base: &Manifest) -> Result<(), PredictError> {
    let has_variant = |rule: &&EventRule| rule.variant.is_some();
    let predicted = draft.events.iter().find(has_variant);
    let stays = base.events().iter().filter(|rule| !draft.replaced.contains(&rule.pcr)).find(has_variant);
    match (predicted, stays) {
        (Some(_), Some(rule)) => Err(PredictError::BaseVariants { base: base.id().clone(), pcr: rule.pcr }),
        _ => Ok(()),
    }
}

/// A section of one of the images cannot be hashed; which one, its name tells.
fn in_images(artefacts: &Artefacts<'_>, why: PeError) -> PredictError {
    let names: Vec<&str> = artefacts.ukis.iter().map(|uki| uki.name.as_str()).collect();
    PredictError::Artefact { name: names.join(", "), why: why.into() }
}

/// PCR 4. Of an earlier release stay what firmware starts before it boots, and what is no application.
fn boot_loader(
    artefacts: &Artefacts<'_>,
    ukis: &[Image<'_>],
    rules: &Rules<'_>,
    base: Option<&Manifest>,
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), PredictError> {
    let Some(pcr) = PcrIndex::new(4).filter(|_| !(artefacts.loaders.is_empty() && ukis.is_empty())) else {
        return Ok(());
    };
    let of_base: Vec<&EventRule> = base.iter().flat_map(|base| base.rules(pcr)).collect();
    let (loaders, stays): (Vec<_>, Vec<_>) = of_base.into_iter().partition(|rule| is_loader(rule));
    if stays.iter().any(|rule| rule.closes()) {
        draft.events.extend(stays.into_iter().cloned());
    } else {
        draft.events.extend(rules.frame());
    }
    for (number, loader) in (1_u32..).zip(&artefacts.loaders) {
        let refuse = |why: PeError| PredictError::Artefact { name: loader.name.clone(), why: why.into() };
        let pe = Pe::parse(loader.bytes).map_err(refuse)?;
        draft.events.extend(rules.loader(&pe, format!("boot loader {number}")));
        notes.extend(unaligned(&pe, &loader.name));
    }
    for (image, of) in ukis.iter().zip(&artefacts.ukis) {
        draft.events.extend(rules.image(image).map_err(|why| in_images(artefacts, why))?);
        notes.extend(image.variant.iter().map(|variant| format!("variant \"{variant}\" is {}", of.name)));
        notes.extend(unaligned(image.uki.pe(), &of.name));
    }
    draft.replaced.insert(pcr);
    // A kernel inside an image is an application of its own, unless Secure Boot is on.
    let predicted = artefacts.loaders.len().saturating_add(ukis.len().min(1).saturating_mul(2));
    if loaders.len() > predicted {
        notes.push(format!(
            "PCR 4 of the base lists {} application(s) that devices start and {predicted} were predicted; name each boot loader with --boot-loader",
            loaders.len()
        ));
    }
    Ok(())
}

/// Whether a rule is about something that a boot option starts.
fn is_loader(rule: &EventRule) -> bool {
    rule.event_type == EventType::EFI_BOOT_SERVICES_APPLICATION
        && matches!(rule.expectation, Expectation::OneOf { early: false, .. })
}

fn unaligned(pe: &Pe<'_>, name: &str) -> Option<String> {
    pe.authenticode_once_signed(HashAlg::Sha256)?;
    Some(format!(
        "{name} is not signed and signing will fill it up to eight bytes; the draft accepts it both ways"
    ))
}

/// PCRs 9, 11 and 12.
fn images(
    artefacts: &Artefacts<'_>,
    ukis: &[Image<'_>],
    banks: &[HashAlg],
    draft: &mut Draft,
    notes: &mut Vec<String>,
) -> Result<(), PeError> {
    let rules = Rules::new(banks);
    draft.replaced.extend([9, 11, 12].into_iter().filter_map(PcrIndex::new));
    for image in ukis {
        draft.events.extend(rules.sections(image)?);
    }
    draft.events.extend(rules.phases(artefacts.phase));
    if artefacts.side_cars {
        notes.push("PCRs 9 and 12 are left open for what stands beside the image".to_owned());
        return Ok(());
    }
    let linux = ukis.iter().map(|image| rules.linux(image)).collect::<Result<Option<Vec<_>>, _>>()?;
    match linux {
        Some(linux) => draft.events.extend(linux.into_iter().flatten()),
        None => notes.push(
            "PCR 9 is left open: what this stub puts into the initrd is not known here, or differs from boot to boot"
                .to_owned(),
        ),
    }
    match artefacts.profile {
        0 => draft.untouched.extend(PcrIndex::new(12).map(|pcr| (pcr, banks.to_vec()))),
        number => draft.events.extend(rules.profile(number)),
    }
    Ok(())
}
