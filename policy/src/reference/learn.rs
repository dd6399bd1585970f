//! Learns a release from attested reference devices.
//!
//! What all devices agree on is kept, what differs is told, and what is not stable from boot to boot
//! is refused: PCRs 0, 2 and 7 are learned as whole values, 4, 9 and 11 as single events. A PCR that
//! the logs do not explain is never learned.
//!
//! What this module does not promise: that what the devices run is good. Somebody must review and
//! sign what was learned.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::event_type::EventType;
use super::hash_text::HashText;
use super::manifest::{EventRule, Expectation, Manifest, ManifestFaults, PcrRules};
use super::release::{ReleaseId, ReleaseVersion};
use crate::appraisal::early;
use crate::appraisal::measurements::{Measurements, Origin};
use crate::evidence::HardwareProof;
use crate::id::ProductName;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

/// Most devices that are learned from at once.
pub const MAX_DEVICES: usize = 64;
/// Most events that one note lists.
pub const MAX_NOTED: usize = 16;
/// PCRs of firmware code, option ROMs and Secure Boot: the same on each boot of the same release.
const WHOLE: [u32; 3] = [0, 2, 7];
/// PCRs of the boot loader, its files and the UKI: the same events on each boot.
const BY_EVENT: [u32; 3] = [4, 9, 11];
/// PCRs that vary from device to device or boot to boot (verifier's table of PCR use on Linux;
/// systemd-pcrlock refuses the same).
const UNSTABLE: [u32; 10] = [1, 3, 5, 6, 8, 10, 12, 13, 14, 15];

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

/// Something that was not learned, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "note")]
pub enum LearnNote {
    /// The PCR is never learned: it varies between devices or boots.
    Unstable {
        /// The PCR.
        pcr: u8,
    },
    /// The log of a device does not explain the PCR.
    Unexplained {
        /// The PCR.
        pcr: u8,
        /// Place of the device, from 1.
        device: usize,
    },
    /// A device did not quote the PCR.
    NotQuoted {
        /// The PCR.
        pcr: u8,
        /// Place of the device, from 1.
        device: usize,
    },
    /// The devices have different values.
    ValuesDiffer {
        /// The PCR.
        pcr: u8,
        /// The value of each device, in their order.
        values: Vec<HashText>,
    },
    /// The devices have different events.
    EventsDiffer {
        /// The PCR.
        pcr: u8,
        /// Events that not every device has, at most [`MAX_NOTED`].
        events: Vec<DifferingEvent>,
    },
    /// No device has an event in the PCR.
    NoEvents {
        /// The PCR.
        pcr: u8,
    },
}

/// An event that some devices have and others do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferingEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Its digest.
    pub digest: HashText,
    /// Places of the devices that have it, from 1.
    pub devices: Vec<usize>,
}

/// A learned release, to be reviewed, and what was left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// What the devices agree on.
    pub manifest: Manifest,
    /// What was not learned, lowest PCR first.
    pub notes: Vec<LearnNote>,
}

/// Learns what `devices` agree on as release `version` of `product`.
pub fn learn(
    devices: &[Measurements<'_>],
    product: ProductName,
    version: ReleaseVersion,
    counter: u64,
) -> Result<Learned, LearnError> {
    let bank = agreed_bank(devices)?;
    let mut notes: Vec<(PcrIndex, LearnNote)> =
        pcrs(&UNSTABLE).map(|pcr| (pcr, LearnNote::Unstable { pcr: pcr.number() })).collect();
    let mut values = PcrRules::new();
    let mut events = Vec::new();
    for pcr in pcrs(&WHOLE) {
        match learn_value(devices, pcr) {
            Ok(value) => {
                values.insert(pcr, BTreeSet::from([value]));
            }
            Err(note) => notes.push((pcr, note)),
        }
    }
    for pcr in pcrs(&BY_EVENT) {
        match learn_events(devices, pcr) {
            Ok(rules) => events.extend(rules),
            Err(note) => notes.push((pcr, note)),
        }
    }
    notes.sort_by_key(|(pcr, _)| *pcr);
    let notes: Vec<LearnNote> = notes.into_iter().map(|(_, note)| note).collect();
    if values.is_empty() && events.is_empty() {
        return Err(LearnError::NothingAgreed(notes));
    }
    let pcrs = if values.is_empty() { BTreeMap::new() } else { BTreeMap::from([(bank, values)]) };
    let draft = Manifest {
        id: ReleaseId { product, version },
        counter,
        description: None,
        pcrs,
        events,
        ima: None,
        secure_boot: None,
        images: Vec::new(),
        sboms: Vec::new(),
    };
    // Read back through the one door, so that a learned manifest is held to the same limits.
    let manifest = Manifest::parse(&draft.render()).map_err(LearnError::Manifest)?;
    Ok(Learned { manifest, notes })
}

fn pcrs(numbers: &[u32]) -> impl Iterator<Item = PcrIndex> {
    numbers.iter().copied().filter_map(PcrIndex::new)
}

fn agreed_bank(devices: &[Measurements<'_>]) -> Result<HashAlg, LearnError> {
    let wanted = devices.first().ok_or(LearnError::NoDevice)?.bank();
    if devices.len() > MAX_DEVICES {
        return Err(LearnError::TooManyDevices(devices.len()));
    }
    for (device, seen) in (1..).zip(devices) {
        if seen.bank() != wanted {
            return Err(LearnError::Banks { device, found: seen.bank(), wanted });
        }
        if seen.origin() == Origin::Device(HardwareProof::Unproven) {
            return Err(LearnError::Unproven(device));
        }
    }
    Ok(wanted)
}

/// The values of `pcr`, one of each device, if all are quoted and explained.
fn explained_values(devices: &[Measurements<'_>], pcr: PcrIndex) -> Result<Vec<HashValue>, LearnNote> {
    let value = |(device, seen): (usize, &Measurements<'_>)| {
        let value = *seen.value(pcr).ok_or(LearnNote::NotQuoted { pcr: pcr.number(), device })?;
        if !seen.is_explained(pcr) {
            return Err(LearnNote::Unexplained { pcr: pcr.number(), device });
        }
        Ok(value)
    };
    (1..).zip(devices).map(value).collect()
}

fn learn_value(devices: &[Measurements<'_>], pcr: PcrIndex) -> Result<HashValue, LearnNote> {
    let values = explained_values(devices, pcr)?;
    match values.as_slice() {
        [first, rest @ ..] if rest.iter().all(|value| value == first) => Ok(*first),
        _ => {
            let values = values.into_iter().map(HashText).collect();
            Err(LearnNote::ValuesDiffer { pcr: pcr.number(), values })
        }
    }
}

/// Rules for every event of `pcr`, in the order of the first device's log. A PCR with an event that
/// not every device has is left out whole: a closed list without that event would refuse the very
/// devices it was learned from, and one with it would accept what was not agreed on.
fn learn_events(devices: &[Measurements<'_>], pcr: PcrIndex) -> Result<Vec<EventRule>, LearnNote> {
    explained_values(devices, pcr)?;
    let mut order: Vec<(EventType, HashValue)> = Vec::new();
    let mut owners: BTreeMap<(EventType, HashValue), Vec<usize>> = BTreeMap::new();
    for (device, seen) in (1..).zip(devices) {
        for event in seen.events(pcr) {
            let key = (EventType(event.event_type), event.digest);
            let owners = owners.entry(key).or_default();
            if owners.is_empty() {
                order.push(key);
            }
            if owners.last() != Some(&device) {
                owners.push(device);
            }
        }
    }
    let differing: Vec<DifferingEvent> = owners
        .iter()
        .filter(|(_, owners)| owners.len() != devices.len())
        .map(|((event_type, digest), owners)| DifferingEvent {
            event_type: *event_type,
            digest: HashText(*digest),
            devices: owners.clone(),
        })
        .take(MAX_NOTED)
        .collect();
    match (order.is_empty(), differing.is_empty()) {
        (true, _) => Err(LearnNote::NoEvents { pcr: pcr.number() }),
        (_, false) => Err(LearnNote::EventsDiffer { pcr: pcr.number(), events: differing }),
        _ => Ok(named_rules(pcr, &order, &early_digests(devices, pcr))),
    }
}

/// Digests of the applications that ran before the firmware of any device called a boot option.
fn early_digests(devices: &[Measurements<'_>], pcr: PcrIndex) -> BTreeSet<HashValue> {
    devices.iter().flat_map(|seen| early::applications(seen, pcr)).map(|event| event.digest).collect()
}

/// Rules with names by type and number. The log's own descriptions are not bound by the digests, so
/// they do not become names that a reviewer would believe.
fn named_rules(
    pcr: PcrIndex,
    events: &[(EventType, HashValue)],
    early: &BTreeSet<HashValue>,
) -> Vec<EventRule> {
    let mut seen: BTreeMap<EventType, usize> = BTreeMap::new();
    let mut rule = |(event_type, digest): &(EventType, HashValue)| {
        let nth = seen.entry(*event_type).or_default();
        *nth += 1;
        let name = match *event_type {
            EventType::EFI_BOOT_SERVICES_APPLICATION => format!("boot application {nth}"),
            EventType::SEPARATOR => "separator".to_owned(),
            _ => format!("measurement {nth}"),
        };
        EventRule {
            pcr,
            event_type: *event_type,
            expectation: Expectation::OneOf {
                digests: BTreeSet::from([*digest]),
                optional: false,
                early: early::is_meant(pcr, *event_type) && early.contains(digest),
            },
            name: Some(name),
        }
    };
    events.iter().map(&mut rule).collect()
}
