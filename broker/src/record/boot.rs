//! The boot of a device before its last one: what differs between the two is not stable.

use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Prefix of earlier boots, by device.
pub const BOOT: &str = "boot/";

/// What a device measured when it booted the time before, with the same releases proven or none, under the same AK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierBoot {
    /// When it last proved itself in that boot.
    pub at: UnixTime,
    /// TPM reset counter.
    pub reset_count: u32,
    /// PCR values, SHA-256, in the order of the broker's selection.
    pub values: Vec<Digest>,
    /// Blob of the firmware's log.
    pub firmware: Option<Digest>,
    /// Blob of systemd's log.
    pub userspace: Option<Digest>,
}

impl Record for EarlierBoot {
    const VERSION: u32 = 1;
    const KIND: &'static str = "earlier boot";
}

/// Key of a device's earlier boot.
#[must_use]
pub fn boot_key(device: &DeviceName) -> String {
    format!("{BOOT}{device}")
}
