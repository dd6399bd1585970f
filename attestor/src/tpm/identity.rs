//! An identity key in the TPM as a key of rustls (TLS connections) and of rcgen (certificate requests).
//!
//! Both libraries sign synchronously, so a signature blocks its caller for as long as the TPM takes, at most
//! the handle's deadline; see [`TpmHandle::run_blocking`] for why that cannot deadlock. Give rustls a handle with a
//! deadline shorter than the TLS handshake's.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    OtherError, SignatureAlgorithm, SignatureScheme,
    pki_types::{SubjectPublicKeyInfoDer, alg_id},
    sign::{Signer, SigningKey, public_key_to_spki},
};

use super::{IdentityKeyBlob, Operation, TpmError, TpmHandle};

/// A P-256 key that never leaves the TPM. Signs with ECDSA and SHA-256 only.
#[derive(Debug, Clone)]
pub struct TpmIdentityKey {
    tpm: TpmHandle,
    key: Arc<IdentityKeyBlob>,
}

impl TpmIdentityKey {
    /// A key and the TPM it lives in. Nothing is asked of the TPM until the first signature.
    pub fn new(tpm: TpmHandle, key: IdentityKeyBlob) -> Self {
        Self { tpm, key: Arc::new(key) }
    }

    /// The key's blob, for [`TpmHandle::certify`] and the key file.
    pub fn blob(&self) -> &IdentityKeyBlob {
        &self.key
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let hash = digest(&SHA256, message);
        let key = Arc::clone(&self.key);
        self.tpm.run_blocking(Operation::SignDigest, move |tpm| {
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(hash.as_ref());
            tpm.sign_digest(&key, &sha256)
        })
    }
}

impl SigningKey for TpmIdentityKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| -> Box<dyn Signer> { Box::new(self.clone()) })
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P256, self.key.point()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TpmIdentityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.sign_message(message).map_err(|error| OtherError(Arc::new(error)).into())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

impl rcgen::PublicKeyData for TpmIdentityKey {
    fn der_bytes(&self) -> &[u8] {
        self.key.point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for TpmIdentityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // rcgen's error has no room for the reason, so it is logged where it is lost.
        self.sign_message(message).map_err(|error| {
            tracing::error!(%error, "the TPM did not sign");
            rcgen::Error::RemoteKeyError
        })
    }
}
