//! Secrets at rest: keys are stored wrapped under one key-encryption key (KEK), and challenges are
//! sealed under keys of their own.
//!
//! Both use AES-256-GCM under a key derived by HKDF-SHA-256 from the long-lived key and 32 fresh
//! random bytes, so that no nonce can repeat however many messages one key seals.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use zeroize::{Zeroize, Zeroizing};

use crate::ports::{Entropy, EntropyError, random};

const SALT: usize = 32;
const TAG: usize = 16;

/// A 256-bit secret key. Never printed.
#[derive(Clone)]
pub struct SecretKey([u8; 32]);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A sealed message does not open: another key, other associated data, or changed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes do not open under this key")]
pub struct OpenError;

impl SecretKey {
    /// A new random key.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random(entropy).map(Self)
    }

    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The key's bytes, for wrapping it under another.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as it is written: 64 hex digits and the end of a line.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}\n", hex::encode(self.0)))
    }

    /// Reads what [`Self::to_hex`] wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).ok().map(|()| Self(bytes))
    }

    fn derive(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let prk = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let okm = prk.expand(&[b"touchstone/v1/seal"], &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }

    /// Seals `plain`, bound to `context`: it opens only under the same key with the same context.
    pub fn seal(&self, entropy: &dyn Entropy, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, EntropyError> {
        let salt: [u8; SALT] = random(entropy)?;
        let key = self.derive(&salt).ok_or(EntropyError)?;
        let mut body = plain.to_vec();
        // One message for each derived key, so a constant nonce is sound.
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(context), &mut body)
            .map_err(|_| EntropyError)?;
        let mut sealed = salt.to_vec();
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Proves that the holder of this key vouches for `message`, for the use that `label` names.
    #[must_use]
    pub fn authenticate(&self, label: &[u8], message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.mac_key(label), message).as_ref().to_vec()
    }

    /// Checks what [`Self::authenticate`] made.
    pub fn verify(&self, label: &[u8], message: &[u8], mac: &[u8]) -> Result<(), OpenError> {
        hmac::verify(&self.mac_key(label), message, mac).map_err(|_| OpenError)
    }

    /// A key of its own for each label, so that a proof for one use is none for another.
    fn mac_key(&self, label: &[u8]) -> hmac::Key {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, label).as_ref())
    }

    /// Opens what [`Self::seal`] made.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (salt, body) = sealed.split_at_checked(SALT).ok_or(OpenError)?;
        let key = self.derive(salt).ok_or(OpenError)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.open_in_place(nonce, Aad::from(context), &mut body).map_err(|_| OpenError)?;
        let plain = body.len().saturating_sub(TAG);
        body.truncate(plain);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::System;

    #[test]
    fn sealed_bytes_open_only_under_their_key_and_context() {
        let system = System::default();
        let key = SecretKey::generate(&system).unwrap();
        let sealed = key.seal(&system, b"here", b"secret").unwrap();
        assert_eq!(key.open(b"here", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key.open(b"there", &sealed), Err(OpenError));
        assert_eq!(SecretKey::generate(&system).unwrap().open(b"here", &sealed), Err(OpenError));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(b"here", &changed), Err(OpenError), "byte {at}");
        }
        for cut in 0..sealed.len() {
            assert_eq!(key.open(b"here", &sealed[..cut]), Err(OpenError), "cut {cut}");
        }
    }
}
