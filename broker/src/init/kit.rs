//! The recovery kit: the plant root's key, encrypted, to be kept offline.
//!
//! The key is PKCS#8 under scrypt and AES-256 (RFC 5958, RFC 8018), so that it opens with openssl and
//! does not depend on Touchstone.

use std::path::{Path, PathBuf};

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
/// The file with the encrypted key.
const KEY_FILE: &str = "plant-root.key.pem";
/// Its PEM label (RFC 7468, section 11).
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// The kit cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// No file, or no such key in it.
    #[error(
        "{file} is no encrypted key of a recovery kit ({why}); name the folder `recovery-kit` with --kit"
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Another passphrase.
    #[error(
        "this passphrase does not open the recovery kit; it is the one that `touchstone-broker init` printed"
    )]
    Passphrase,
}

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
    put(write_secret, &folder.join(KEY_FILE), encrypted.as_bytes())?;
    let note = format!(
        "Recovery kit of the plant {plant}.\n\n\
         plant-root.key.pem is the key of the plant root, encrypted under the passphrase that\n\
         `touchstone-broker init` printed. Whoever has both can make a new owner and a new issuing key, with\n\
         `touchstone-broker recover`.\n\
         Keep this folder offline and the passphrase elsewhere; remove the folder from the broker's host.\n\
         To look at it: openssl pkey -in plant-root.key.pem -noout -text\n"
    );
    put(write_public, &folder.join("README.txt"), note.as_bytes())?;
    Ok(passphrase)
}

/// The key of the kit in `folder`. Blanks in the passphrase do not matter: people read it in groups.
pub(super) fn open(folder: &Path, passphrase: &str) -> Result<AuthorityKey, KitError> {
    let file = folder.join(KEY_FILE);
    let unreadable = |why: String| KitError::Unreadable { file: file.clone(), why };
    let text = std::fs::read_to_string(&file).map_err(|error| unreadable(error.to_string()))?;
    let (label, document) =
        pkcs8::SecretDocument::from_pem(&text).map_err(|error| unreadable(error.to_string()))?;
    if label != LABEL {
        return Err(unreadable(format!("it holds a {label}")));
    }
    let info = pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes())
        .map_err(|error| unreadable(error.to_string()))?;
    let words = Zeroizing::new(passphrase.split_whitespace().collect::<Vec<_>>().concat());
    let key = info.decrypt(grouped(&words).as_bytes()).map_err(|_| KitError::Passphrase)?;
    AuthorityKey::from_pkcs8(key.as_bytes()).map_err(|error| unreadable(error.to_string()))
}

/// The letters of a passphrase as it is shown: in groups of four.
fn grouped(letters: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(letters.len().saturating_mul(2)));
    for (n, letter) in letters.chars().enumerate() {
        if n > 0 && n % 4 == 0 {
            text.push(' ');
        }
        text.push(letter);
    }
    text
}

/// 32 characters of 5 bits in groups of four.
fn passphrase(entropy: &dyn Entropy) -> Result<Zeroizing<String>, InitError> {
    let bytes = Zeroizing::new(random::<32>(entropy)?);
    let letter = |byte: &u8| char::from(ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'a'));
    Ok(grouped(&Zeroizing::new(bytes.iter().map(letter).collect::<String>())))
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
    encrypted.to_pem(LABEL, pkcs8::LineEnding::LF).map_err(|e| failed(&e))
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
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(KEY_FILE), pem.as_bytes()).unwrap();
        for typed in
            [secret.to_string(), secret.replace(' ', ""), format!(" {} \n", secret.replace(' ', "  "))]
        {
            assert_eq!(open(folder.path(), &typed).unwrap().to_pkcs8(), key.to_pkcs8());
        }
        assert!(matches!(open(folder.path(), "wrong"), Err(KitError::Passphrase)));
        assert!(matches!(open(&folder.path().join("none"), &secret), Err(KitError::Unreadable { .. })));
    }
}
