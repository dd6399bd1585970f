//! The device's own key for one zone and role: in its TPM, or in software where it has none.

use std::sync::Arc;

use rustls::sign::SigningKey;

use crate::software_key::SoftwareKey;
use crate::tpm::{IdentityKeyBlob, TpmHandle, TpmIdentityKey};

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

    /// The key for TLS on a device with this TPM. None if the configuration was changed since: the device proves itself
    /// anew first.
    #[must_use]
    pub fn signing_key(&self, tpm: Option<&TpmHandle>) -> Option<Arc<dyn SigningKey>> {
        match (self, tpm) {
            (Self::Tpm(key), Some(tpm)) => Some(Arc::new(TpmIdentityKey::new(tpm.clone(), key.clone()))),
            (Self::Software(key), None) => key.signing_key().ok(),
            (Self::Tpm(_), None) | (Self::Software(_), Some(_)) => None,
        }
    }
}
