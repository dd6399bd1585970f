//! What was not learned as it stands, and why.

use serde::{Deserialize, Serialize};

use crate::reference::event_type::EventType;
use crate::reference::hash_text::HashText;

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
    /// Two boots of one device differ, so the next one may differ again.
    BootsDiffer {
        /// The PCR.
        pcr: u8,
        /// Place of the device, from 1.
        device: usize,
        /// Events that not both boots have, at most [`MAX_NOTED`](super::MAX_NOTED).
        events: Vec<BootEvent>,
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
        /// Events that not every device has, at most [`MAX_NOTED`](super::MAX_NOTED).
        events: Vec<DifferingEvent>,
    },
    /// The devices have different values, and each is accepted.
    OneOfValues {
        /// The PCR.
        pcr: u8,
        /// The value of each device, in their order.
        values: Vec<HashText>,
    },
    /// The devices boot in different ways, and each is accepted.
    OneOfBoots {
        /// The PCRs in which they differ.
        pcrs: Vec<u8>,
        /// For each way the places of the devices, from 1; they are the variants, if the draft has any.
        devices: Vec<Vec<usize>>,
    },
    /// One of several was asked for, and there are more.
    TooMany {
        /// The PCR.
        pcr: u8,
        /// How many ways there are.
        found: usize,
    },
    /// No device has an event in the PCR.
    NoEvents {
        /// The PCR.
        pcr: u8,
    },
    /// An image was not learned as it stands.
    Image {
        /// The PCR of images.
        pcr: u8,
        /// Where it is.
        path: String,
        /// Place of the device, from 1.
        device: usize,
        /// Why.
        why: ImageNote,
    },
}

/// Why an image was not learned as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageNote {
    /// Not every device has it, or not the same. It is left out.
    Differs,
    /// It changed while the device ran. What it is now was learned.
    Changed,
    /// It was removed while the device ran. It is left out.
    Removed,
    /// It could not be measured. It is left out.
    Unmeasured,
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

/// An event that one boot of a device has and another does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Its digest.
    pub digest: HashText,
    /// Whether the last boot has it, or the earlier one.
    pub last: bool,
}
