//! A certificate request for a key in the TPM (PKCS #10), signed without blocking anybody.
//!
//! rcgen signs synchronously, and a TPM that hangs would hold up whoever polls. So a request is written twice: what is
//! to be signed is taken from the first, and the TPM's signature is put into the second, which says the same.

use std::sync::{Mutex, PoisonError};

use policy::digest::Digest;

use crate::tpm::IdentityKeyBlob;

/// What is to be signed of a request.
pub(super) struct Unsigned<'k> {
    key: &'k IdentityKeyBlob,
    message: Vec<u8>,
}

impl<'k> Unsigned<'k> {
    /// Of the request for `key`.
    pub(super) fn of(key: &'k IdentityKeyBlob) -> Result<Self, rcgen::Error> {
        let pen = Pen { key, signature: Vec::new(), message: Mutex::default() };
        pen.write()?;
        let message = pen.message.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Self { key, message })
    }

    /// Its SHA-256.
    pub(super) fn digest(&self) -> [u8; 32] {
        Digest::of(&self.message).0
    }

    /// The request (DER) with its signature.
    pub(super) fn signed(&self, signature: Vec<u8>) -> Result<Vec<u8>, rcgen::Error> {
        let pen = Pen { key: self.key, signature, message: Mutex::new(self.message.clone()) };
        pen.write()
    }
}

/// Signs with a signature that is there already, and keeps what was signed.
struct Pen<'k> {
    key: &'k IdentityKeyBlob,
    signature: Vec<u8>,
    /// What is signed; empty before the first time.
    message: Mutex<Vec<u8>>,
}

impl Pen<'_> {
    fn write(&self) -> Result<Vec<u8>, rcgen::Error> {
        // Only its key and its signature count: the broker writes names itself.
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(self)?.der().to_vec())
    }
}

impl rcgen::PublicKeyData for Pen<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.point()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Pen<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut before = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_empty() {
            before.extend_from_slice(message);
        }
        match before.as_slice() == message {
            true => Ok(self.signature.clone()),
            // Another message would go out under a signature that does not hold.
            false => Err(rcgen::Error::RemoteKeyError),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, SigningKey as _};

    use super::*;
    use crate::identity_key::IdentityKey;
    use crate::state::tests::identity_key;

    #[test]
    fn what_is_signed_between_is_a_request_for_the_key() {
        let pair = KeyPair::generate().unwrap();
        let IdentityKey::Tpm(key) = identity_key(&pair) else { panic!("it is in the TPM") };
        let unsigned = Unsigned::of(&key).unwrap();
        let request = unsigned.signed(pair.sign(&unsigned.message).unwrap()).unwrap();
        let read = rcgen::CertificateSigningRequestParams::from_der(&request.as_slice().into()).unwrap();
        assert_eq!(rcgen::PublicKeyData::der_bytes(&read.public_key), key.point());
        assert!(read.params.distinguished_name.iter().next().is_none());
    }
}
