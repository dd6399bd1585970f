//! Learns a release from attested reference devices.
//!
//! What all devices agree on is kept, what differs is told, or, if that is asked for, accepted in each of the few
//! ways there are; and what is not stable from boot to boot is refused: PCRs 0, 2 and 7 are learned as whole values, 4, 9 and 11 as single events. Of PCRs
//! 12 and 13 it is learned that nothing is measured into them, where that is so. What attestors measured into PCR 13
//! themselves becomes image rules. A PCR that the logs do not explain is never learned.
//!
//! What this module does not promise: that what the devices run is good. Somebody must review and
//! sign what was learned.

mod events;
mod images;
mod note;
mod stable;
mod warning;

use std::collections::{BTreeMap, BTreeSet};

use super::hash_text::HashText;
use super::manifest::image::ImageRule;
use super::manifest::{EventRule, Manifest, ManifestFaults, PcrRules};
use super::release::ReleaseId;
use crate::appraisal::Verdict;
use crate::appraisal::measurements::{Measurements, Origin};
use crate::eventlog::image::IMAGE_PCR;
use crate::evidence::HardwareProof;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

pub use self::note::{BootEvent, DifferingEvent, ImageNote, LearnNote};
pub use self::warning::{LearnWarning, MAX_WARNINGS};

/// Most devices that are learned from at once.
pub const MAX_DEVICES: usize = 64;
/// Most events that one note lists.
pub const MAX_NOTED: usize = 16;
/// Most ways in which devices may differ in one PCR where one of several is accepted: more is no release, and nobody
/// would review it.
pub const MAX_ONE_OF: usize = 4;
/// PCRs of firmware code, option ROMs and Secure Boot: the same on each boot of the same release.
const WHOLE: [u32; 3] = [0, 2, 7];
/// PCRs of the boot loader, its files and the UKI: the same events on each boot.
const BY_EVENT: [u32; 3] = [4, 9, 11];
/// PCRs of what systemd's stub takes from beside the image: another command line, credentials, extensions. Where a
/// machine has any they are its own; where none has, the release says that there are none, or each of them could be
/// added later and nobody would be refused.
const UNUSED: [u32; 2] = [12, 13];
/// PCRs that vary from device to device or boot to boot (verifier's table of PCR use on Linux;
/// systemd-pcrlock refuses the same).
const UNSTABLE: [u32; 8] = [1, 3, 5, 6, 8, 10, 14, 15];

/// Nothing can be learned from these devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// No device.
    #[error("name at least one device to learn from")]
    NoDevice,
    /// More devices than are compared.
    #[error("{0} devices; learn from at most {MAX_DEVICES}")]
    TooManyDevices(usize),
    /// The devices quote in different banks.
    #[error("device {device} quotes in {found}, the first one in {wanted}; learn from devices of one bank")]
    Banks {
        /// Place of the device among those given, from 1.
        device: usize,
        /// Its bank.
        found: HashAlg,
        /// The bank of the first.
        wanted: HashAlg,
    },
    /// Nothing vouches for a device's TPM.
    #[error("nothing vouches for the TPM of device {0}; register its EK or learn from another device")]
    Unproven(usize),
    /// Nothing is stable, explained and agreed on.
    #[error("the devices agree on nothing that is stable and explained by their logs")]
    NothingAgreed(Vec<LearnNote>),
    /// What was learned is too large for a manifest.
    #[error("what the devices agree on makes no manifest: {0}")]
    Manifest(ManifestFaults),
}

/// A device to learn from.
#[derive(Debug, Clone)]
pub struct ReferenceDevice<'a> {
    /// Its last boot.
    pub last: Measurements<'a>,
    /// Earlier boots of the same software: what differs between them is not stable.
    pub earlier: Vec<Measurements<'a>>,
    /// What the device was found to be when it last attested, if it did.
    pub verdict: Option<Verdict>,
}

impl<'a> From<Measurements<'a>> for ReferenceDevice<'a> {
    fn from(last: Measurements<'a>) -> Self {
        Self { last, earlier: Vec::new(), verdict: None }
    }
}

/// What the release will be called, and how it is learned.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// Product and version.
    pub id: ReleaseId,
    /// The counter.
    pub counter: u64,
    /// Whether what differs in few ways is accepted in each of them, in place of being left out.
    pub one_of: bool,
}

/// A learned release, to be reviewed, and what was left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// What the devices agree on.
    pub manifest: Manifest,
    /// What was not learned as it stands, lowest PCR first.
    pub notes: Vec<LearnNote>,
    /// What speaks against learning from a device, with its place from 1.
    pub warnings: Vec<(usize, LearnWarning)>,
}

/// Learns from `devices`.
pub fn learn(devices: &[ReferenceDevice<'_>], lesson: Lesson) -> Result<Learned, LearnError> {
    let last: Vec<&Measurements<'_>> = devices.iter().map(|device| &device.last).collect();
    let bank = agreed_bank(&last)?;
    let (unused, mut used): (Vec<_>, Vec<_>) = pcrs(&UNUSED).partition(|pcr| is_unused(devices, *pcr));
    let (images, of_images) = images::learn(&last, lesson.one_of);
    if !images.is_empty() {
        used.retain(|pcr| *pcr != IMAGE_PCR);
    }
    let mut notes: Vec<(PcrIndex, LearnNote)> =
        pcrs(&UNSTABLE).chain(used).map(|pcr| (pcr, LearnNote::Unstable { pcr: pcr.number() })).collect();
    let mut stable = |numbers: &[u32]| -> Vec<PcrIndex> {
        let is_stable = |pcr: &PcrIndex| {
            let differing = stable::differing(devices, *pcr);
            let is_stable = differing.is_none();
            notes.extend(differing.map(|note| (*pcr, note)));
            is_stable
        };
        pcrs(numbers).filter(is_stable).collect()
    };
    let (whole, by_event) = (stable(&WHOLE), stable(&BY_EVENT));
    let mut values = PcrRules::new();
    for pcr in whole {
        match learn_values(&last, pcr, lesson.one_of) {
            Ok((found, note)) => {
                values.insert(pcr, found);
                notes.extend(note.map(|note| (pcr, note)));
            }
            Err(note) => notes.push((pcr, note)),
        }
    }
    let (events, of_events) = events::learn(&last, &by_event, lesson.one_of);
    notes.extend(of_events);
    notes.extend(of_images.into_iter().map(|note| (IMAGE_PCR, note)));
    notes.sort_by_key(|(pcr, _)| *pcr);
    let notes: Vec<LearnNote> = notes.into_iter().map(|(_, note)| note).collect();
    if values.is_empty() && events.is_empty() {
        return Err(LearnError::NothingAgreed(notes));
    }
    values.extend(unused.into_iter().map(|pcr| (pcr, BTreeSet::from([HashValue::repeated(bank, 0)]))));
    let warned = (1_usize..).zip(devices);
    let warnings =
        warned.flat_map(|(place, device)| warning::of(device).into_iter().map(move |one| (place, one)));
    Ok(Learned {
        manifest: manifest(lesson, (bank, values), events, images)?,
        notes,
        warnings: warnings.collect(),
    })
}

/// Read back through the one door, so that a learned manifest is held to the same limits.
fn manifest(
    lesson: Lesson,
    (bank, values): (HashAlg, PcrRules),
    events: Vec<EventRule>,
    images: Vec<ImageRule>,
) -> Result<Manifest, LearnError> {
    let pcrs = if values.is_empty() { BTreeMap::new() } else { BTreeMap::from([(bank, values)]) };
    let draft = Manifest {
        id: lesson.id,
        counter: lesson.counter,
        description: None,
        pcrs,
        events,
        ima: None,
        secure_boot: None,
        images,
        sboms: Vec::new(),
    };
    Manifest::parse(&draft.render()).map_err(LearnError::Manifest)
}

/// Whether no boot of any device measured anything into `pcr`.
fn is_unused(devices: &[ReferenceDevice<'_>], pcr: PcrIndex) -> bool {
    let mut boots = devices.iter().flat_map(|device| std::iter::once(&device.last).chain(&device.earlier));
    boots.all(|boot| boot.is_explained(pcr) && boot.value(pcr) == Some(&HashValue::repeated(boot.bank(), 0)))
}

fn pcrs(numbers: &[u32]) -> impl Iterator<Item = PcrIndex> {
    numbers.iter().copied().filter_map(PcrIndex::new)
}

fn agreed_bank(devices: &[&Measurements<'_>]) -> Result<HashAlg, LearnError> {
    let wanted = devices.first().ok_or(LearnError::NoDevice)?.bank();
    if devices.len() > MAX_DEVICES {
        return Err(LearnError::TooManyDevices(devices.len()));
    }
    for (device, seen) in (1..).zip(devices) {
        if seen.bank() != wanted {
            return Err(LearnError::Banks { device, found: seen.bank(), wanted });
        }
        if matches!(seen.origin(), Origin::Device(HardwareProof::Unproven) | Origin::WithoutTpm) {
            return Err(LearnError::Unproven(device));
        }
    }
    Ok(wanted)
}

/// The values of `pcr`, one of each device, if all are quoted and explained.
fn explained_values(devices: &[&Measurements<'_>], pcr: PcrIndex) -> Result<Vec<HashValue>, LearnNote> {
    let value = |(device, seen): (usize, &&Measurements<'_>)| {
        let value = *seen.value(pcr).ok_or(LearnNote::NotQuoted { pcr: pcr.number(), device })?;
        if !seen.is_explained(pcr) {
            return Err(LearnNote::Unexplained { pcr: pcr.number(), device });
        }
        Ok(value)
    };
    (1..).zip(devices).map(value).collect()
}

/// The value of `pcr`, or the few that there are.
fn learn_values(
    devices: &[&Measurements<'_>],
    pcr: PcrIndex,
    one_of: bool,
) -> Result<(BTreeSet<HashValue>, Option<LearnNote>), LearnNote> {
    let values = explained_values(devices, pcr)?;
    let found: BTreeSet<HashValue> = values.iter().copied().collect();
    let number = pcr.number();
    let values = || values.iter().copied().map(HashText).collect();
    match found.len() {
        1 => Ok((found, None)),
        _ if !one_of => Err(LearnNote::ValuesDiffer { pcr: number, values: values() }),
        ways if ways > MAX_ONE_OF => Err(LearnNote::TooMany { pcr: number, found: ways }),
        _ => Ok((found, Some(LearnNote::OneOfValues { pcr: number, values: values() }))),
    }
}
