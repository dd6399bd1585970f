//! What a device proves itself with: a TPM, or one software key after the other.

use policy::digest::Digest;
use policy::id::DeviceName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::record::Bytes;

/// An attestation key that is bound to the device's EK.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoundAk {
    /// TPMT_PUBLIC.
    pub public: Bytes,
    /// Its Name.
    pub name: Bytes,
    /// When it was activated.
    pub since: UnixTime,
}

/// What a device proves itself with. Only an administrator's act makes it another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prover {
    /// A TPM: the device's AK is in it.
    #[default]
    Tpm,
    /// A key in software, kept where a TPM's AK is: SubjectPublicKeyInfo, and the digest of it as its name.
    Key(KeyLine),
}

/// The keys of a device without a TPM, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyLine {
    /// How many keys came before the current one since it was admitted last.
    pub generation: u64,
    /// Plant epoch in which the current one was accepted. Not known of older records.
    #[serde(default)]
    pub epoch: u64,
    /// SHA-256 of the one before it, and of the first of all: whoever uses them needs no ticket to be found out. Not known
    /// of older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Digest>,
    /// See `former`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Digest>,
    /// When all its exchanges would be paid for, if it came at the pace that is allowed for long.
    #[serde(default)]
    pub paid_until: UnixTime,
}

impl Prover {
    /// Whether it is a TPM, as of most devices.
    #[must_use]
    pub const fn is_tpm(&self) -> bool {
        matches!(self, Self::Tpm)
    }
}

/// What stands where the EK of a device without a TPM would: no TPM has it, because no SubjectPublicKeyInfo begins so.
#[must_use]
pub fn no_ek(name: &DeviceName) -> Digest {
    Digest::of_parts(&[b"touchstone/v1/no-ek ", name.as_str().as_bytes()])
}
