//! TPMs by their EKs: whose they are, and who stopped them. It outlives the record of their device.

use policy::digest::Digest;
use policy::evidence::endorsement::Manufacturer;
use policy::id::DeviceName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::short;
use crate::store::record::Record;

/// Prefix of TPMs, by EK digest.
pub const EK: &str = "ek/";
/// Prefix of AKs.
pub const AK: &str = "ak/";
/// EKs of one TPM besides the one that its device enrolled with: the TCG defines seven templates.
pub const MAX_OTHER_EKS: usize = 7;

/// Who stopped a device, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Quarantine {
    /// When.
    pub at: UnixTime,
    /// Administrator.
    pub by: String,
    /// For people.
    pub reason: String,
    /// The clone alarm that a person looked at before somebody stopped the device again: it is in force once more when that
    /// stop ends, since only a token ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beneath: Option<Box<Quarantine>>,
}

/// Who stops a device that was copied.
pub const BROKER: &str = "broker";

impl Quarantine {
    /// Whether two copies of the device are about: the broker found it out.
    #[must_use]
    pub fn is_clone_alarm(&self) -> bool {
        self.by == BROKER
    }
}

/// A TPM. Quarantine and retirement are held here, so they outlive the device record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tpm {
    /// The device it belongs to.
    pub device: Option<DeviceName>,
    /// Registered by digest by an administrator, not learned from the enrollment it admits.
    pub registered: bool,
    /// Set while it is quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// Barred for good: its mainboard was replaced, or the device retired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// `TPM_PT_MANUFACTURER` by the first EK certificate that held: it stays known when the device sends
    /// none. Not known of older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<[u8; 4]>,
    /// Its further EKs, as its device named them: each is certified. At most [`MAX_OTHER_EKS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_eks: Vec<Digest>,
}

impl Tpm {
    /// Whether somebody stopped it: quarantined, retired or replaced.
    #[must_use]
    pub const fn is_barred(&self) -> bool {
        self.retired || self.quarantine.is_some()
    }

    /// Whose TPM it is, if an EK certificate ever said so.
    #[must_use]
    pub fn manufacturer(&self) -> Option<Manufacturer> {
        self.manufacturer.map(Manufacturer)
    }
}

impl Record for Tpm {
    const VERSION: u32 = 1;
    const KIND: &'static str = "TPM";
}

/// Which EK an AK was activated under: all EKs of a TPM share the AK, and the IDevID that is in it. Under which one the
/// TPM is known that named another, too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AkOwner {
    /// Digest of the EK.
    #[serde(with = "short")]
    pub ek: Digest,
}

impl Record for AkOwner {
    const VERSION: u32 = 2;
    const KIND: &'static str = "attestation key";

    fn upgrade(from: u32, data: Value) -> Option<Value> {
        short::long_digests(from, data)
    }
}

/// Key of an AK, by its Name.
#[must_use]
pub fn ak_key(name: &[u8]) -> String {
    format!("{AK}{}", Digest::of(name).hex())
}

/// Key of the [owner](AkOwner) of an EK that a device named besides its own: like its AK, it tells a TPM under all its EKs.
#[must_use]
pub fn other_ek_key(ek: &Digest) -> String {
    format!("{AK}{}", Digest::of_parts(&[b"touchstone/v1/other-ek ", &ek.0]).hex())
}

/// Key of a TPM.
#[must_use]
pub fn ek_key(ek: &Digest) -> String {
    format!("{EK}{}", ek.hex())
}
