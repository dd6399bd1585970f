//! The recovery kit: the plant root's key, encrypted, to be kept offline.
//!
//! The key is PKCS#8 under scrypt and AES-256 (RFC 5958, RFC 8018), so that it opens with openssl and
//! does not depend on Touchstone.

use std::path::Path;

use pkcs8::{PrivateKeyInfo, pkcs5::pbes2};
use policy::id::PlantDomain;
use zeroize::Zeroizing;

use super::{InitError, pem, put};
use crate::ca::AuthorityKey;
use crate::files::{write_public, write_secret};
use crate::ports::{Entropy, random};

/// scrypt cost: 2^15 * 8 * 128 bytes = 32 MiB, a tenth of a second; the passphrase has 160 bits.
const SCRYPT: (u8, u32, u32) = (15, 8, 1);
/// Letters and digits that people do not confuse.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Writes the kit and returns the passphrase that opens it.
pub(super) fn write(
    folder: &Path,
    plant: &PlantDomain,
    key: &AuthorityKey,
    certificate: &[u8],
    entropy: &dyn Entropy,
) -> Result<Zeroizing<String>, InitError> {
    let passphrase = passphrase(entropy)?;
    let encrypted = encrypt(key, &passphrase, entropy)?;
    put(write_public, &folder.join("plant-root.pem"), pem("CERTIFICATE", certificate).as_bytes())?;
    put(write_secret, &folder.join("plant-root.key.pem"), encrypted.as_bytes())?;
    let note = format!(
        "Recovery kit of the plant {plant}.\n\n\
         plant-root.key.pem is the key of the plant root, encrypted under the passphrase that\n\
         `touchstone-broker init` printed. Whoever has both can make a new owner and a new issuing key.\n\
         Keep this folder offline and the passphrase elsewhere; remove the folder from the broker's host.\n\
         To look at it: openssl pkey -in plant-root.key.pem -noout -text\n"
    );
    put(write_public, &folder.join("README.txt"), note.as_bytes())?;
    Ok(passphrase)
}

/// 32 characters of 5 bits in groups of four.
fn passphrase(entropy: &dyn Entropy) -> Result<Zeroizing<String>, InitError> {
    let bytes = Zeroizing::new(random::<32>(entropy)?);
    let mut text = Zeroizing::new(String::with_capacity(40));
    for (n, byte) in bytes.iter().enumerate() {
        if n > 0 && n % 4 == 0 {
            text.push(' ');
        }
        let letter = ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'a');
        text.push(char::from(letter));
    }
    Ok(text)
}

fn encrypt(
    key: &AuthorityKey,
    passphrase: &str,
    entropy: &dyn Entropy,
) -> Result<Zeroizing<String>, InitError> {
    let failed = |error: &dyn std::fmt::Display| InitError::Kit(error.to_string());
    let (salt, iv) = (random::<16>(entropy)?, random::<16>(entropy)?);
    let (cost, block, parallel) = SCRYPT;
    let cost = pkcs8::pkcs5::scrypt::Params::new(cost, block, parallel, 32).map_err(|e| failed(&e))?;
    let scheme = pbes2::Parameters::scrypt_aes256cbc(cost, &salt, &iv).map_err(|e| failed(&e))?;
    let der = key.to_pkcs8();
    let info = PrivateKeyInfo::try_from(der.as_slice()).map_err(|e| failed(&e))?;
    let encrypted = info.encrypt_with_params(scheme, passphrase).map_err(|e| failed(&e))?;
    encrypted.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::System;

    #[test]
    fn the_kit_opens_with_its_passphrase_only() {
        let system = System::default();
        let key = AuthorityKey::generate().unwrap();
        let secret = passphrase(&system).unwrap();
        assert_eq!(secret.len(), 39);
        let pem = encrypt(&key, &secret, &system).unwrap();
        let (_, document) = pkcs8::SecretDocument::from_pem(&pem).unwrap();
        let info = pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes()).unwrap();
        assert_eq!(info.decrypt(secret.as_bytes()).unwrap().as_bytes(), key.to_pkcs8().as_slice());
        assert!(info.decrypt(b"wrong").is_err());
    }
}
