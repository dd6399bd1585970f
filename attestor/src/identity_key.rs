//! The device's own key for one zone and role: in its TPM, or in software where it has none.

use crate::software_key::SoftwareKey;
use crate::tpm::IdentityKeyBlob;

/// A key with a place to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityKey {
    /// In the TPM: the blob is useless elsewhere, and the key stays.
    Tpm(IdentityKeyBlob),
    /// In software: a new one for every certificate.
    Software(SoftwareKey),
}

impl IdentityKey {
    /// The public point, uncompressed.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        match self {
            Self::Tpm(key) => key.point(),
            Self::Software(key) => key.point(),
        }
    }
}
