//! The boot of a device before its last one: what differs between the two is not stable.

use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::short;
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
    /// Blob of the evidence, which has its PCR values. Not known of older records, which say nothing without it.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
    /// Blob of the firmware's log.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Digest>,
    /// Blob of systemd's log.
    #[serde(default, with = "short::option", skip_serializing_if = "Option::is_none")]
    pub userspace: Option<Digest>,
}

impl EarlierBoot {
    /// Every blob that it names.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        [self.evidence, self.firmware, self.userspace].into_iter().flatten()
    }
}

impl Record for EarlierBoot {
    const VERSION: u32 = 2;
    const KIND: &'static str = "earlier boot";

    /// The first version had the PCR values themselves, and names of blobs in their long form.
    fn upgrade(from: u32, data: Value) -> Option<Value> {
        (from == 1).then_some(data)
    }
}

/// Key of a device's earlier boot.
#[must_use]
pub fn boot_key(device: &DeviceName) -> String {
    format!("{BOOT}{device}")
}
