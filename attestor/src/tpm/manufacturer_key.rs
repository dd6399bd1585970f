//! A key that the manufacturer of the device left in its TPM: of whatever kind they chose, not of ours.

use std::fmt;

use super::Attestation;

/// Persistent handles (TPM_HT_PERSISTENT, TPM 2.0 part 2, section 7.2).
pub const PERSISTENT_HANDLES: std::ops::RangeInclusive<u32> = 0x8100_0000..=0x81ff_ffff;

/// Where the key is.
#[derive(Clone, PartialEq, Eq)]
pub enum ManufacturerKey {
    /// In the TPM, at this handle.
    Persistent(u32),
    /// In two halves, to be loaded under a storage key in the TPM.
    Loadable {
        /// TPMT_PUBLIC.
        public: Vec<u8>,
        /// The content of TPM2B_PRIVATE.
        private: Vec<u8>,
        /// The persistent handle of the storage key.
        parent: u32,
    },
}

/// Without the private half, which has no business in a log although only the TPM can read it.
impl fmt::Debug for ManufacturerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persistent(handle) => write!(f, "ManufacturerKey {{ handle: {handle:#x} }}"),
            Self::Loadable { parent, .. } => write!(f, "ManufacturerKey {{ parent: {parent:#x} }}"),
        }
    }
}

/// What such a key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManufacturerSignature {
    /// TPMT_PUBLIC of the key.
    pub public: Vec<u8>,
    /// TPMT_SIGNATURE: ECDSA with the hash of the curve's size, or RSASSA with SHA-256.
    pub signature: Vec<u8>,
    /// The attestation key's word that the key lives in this TPM; None if the TPM does not give it, because the key
    /// demands a policy for that.
    pub certification: Option<Attestation>,
}
