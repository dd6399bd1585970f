//! What a device without a TPM proves itself with: a key in software, which another follows with every proof.
//!
//! Promises: a [`KeyProof`] is of a key whose holder answers this challenge with this statement, and names the next key,
//! whose holder it is as well. So whoever copies the key can follow it only by using it, and then the key that is
//! left behind betrays that there are two.
//! Does not promise that nobody copied it, nor anything about what the device booted.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::{Purpose, qualifying_data};
use crate::digest::Digest;
use crate::x509::spki::{Curve, KeyError, SubjectKey};

/// Longest SubjectPublicKeyInfo that is read: one of P-256 has 91 bytes.
const MAX_SPKI: usize = 256;

/// A key and its signature over the qualifying data; untrusted.
#[derive(Debug, Clone, Copy)]
pub struct SignedKey<'a> {
    /// SubjectPublicKeyInfo, DER.
    pub spki: &'a [u8],
    /// SHA-256 of it, as the device stated.
    pub stated: &'a [u8],
    /// ECDSA with SHA-256, DER.
    pub signature: &'a [u8],
}

/// A key proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProofError {
    /// Not the key that the statement names.
    #[error("the statement does not name the {0}; state the digest of the key that is sent")]
    NotStated(&'static str),
    /// It cannot be used.
    #[error("the {0} cannot be used; make a P-256 key")]
    Key(&'static str, #[source] Option<KeyError>),
    /// Not signed by it for this challenge and statement.
    #[error("the {0} did not sign this challenge and statement; ask for a new challenge and attest again")]
    Signature(&'static str),
    /// A key that follows itself.
    #[error("the next key is the one that it follows; make a new key for every proof")]
    Same,
}

/// The key that a device proved to hold, and the one that follows it. Only [`KeyProof::verify`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProof {
    key: Digest,
    next: SubjectKey,
}

impl KeyProof {
    /// Verifies that `key` and `next` both signed this challenge and statement, each for its own use.
    pub fn verify(
        key: SignedKey<'_>,
        next: SignedKey<'_>,
        challenge: &[u8],
        statement: &[u8],
    ) -> Result<Self, KeyProofError> {
        let data = |purpose| qualifying_data(purpose, challenge, statement);
        let key = verified("device's key", key, data(Purpose::DeviceKey))?;
        let next = verified("next key", next, data(Purpose::NextKey))?;
        if key == next {
            return Err(KeyProofError::Same);
        }
        Ok(Self { key: key.digest(), next })
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo.
    #[must_use]
    pub const fn key(&self) -> Digest {
        self.key
    }

    /// SHA-256 of the next key's.
    #[must_use]
    pub fn next(&self) -> Digest {
        self.next.digest()
    }

    /// The next key as SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn next_der(&self) -> Vec<u8> {
        self.next.to_der()
    }
}

fn verified(what: &'static str, sent: SignedKey<'_>, data: [u8; 32]) -> Result<SubjectKey, KeyProofError> {
    let refuse = |source| KeyProofError::Key(what, source);
    if sent.spki.len() > MAX_SPKI {
        return Err(refuse(None));
    }
    if Digest::of(sent.spki).0 != sent.stated {
        return Err(KeyProofError::NotStated(what));
    }
    let key = SubjectKey::parse(sent.spki).map_err(|error| refuse(Some(error)))?;
    key.validate().map_err(|error| refuse(Some(error)))?;
    let SubjectKey::Ec { curve: Curve::P256, point } = &key else { return Err(refuse(None)) };
    // One key has one encoding, so that its digest is the only one.
    if key.to_der() != sent.spki {
        return Err(refuse(None));
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(&data, sent.signature)
        .map_err(|_| KeyProofError::Signature(what))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData, SigningKey};

    use super::*;

    struct Key(KeyPair, Vec<u8>);

    impl Key {
        fn new() -> Self {
            let pair = KeyPair::generate().unwrap();
            let spki = pair.subject_public_key_info();
            Self(pair, spki)
        }

        fn sign(&self, purpose: Purpose, challenge: &[u8]) -> (Vec<u8>, Vec<u8>) {
            let signature = self.0.sign(&qualifying_data(purpose, challenge, b"statement")).unwrap();
            (signature, Digest::of(&self.1).0.to_vec())
        }
    }

    fn judge(
        key: &Key,
        next: &Key,
        of: (Purpose, Purpose),
        bend: fn(&mut [Vec<u8>; 2]),
    ) -> Result<KeyProof, KeyProofError> {
        let ((one, stated), (two, next_stated)) =
            (key.sign(of.0, b"challenge"), next.sign(of.1, b"challenge"));
        let mut stated = [stated, next_stated];
        bend(&mut stated);
        let signed = SignedKey { spki: &key.1, stated: &stated[0], signature: &one };
        let follows = SignedKey { spki: &next.1, stated: &stated[1], signature: &two };
        KeyProof::verify(signed, follows, b"challenge", b"statement")
    }

    const GOOD: (Purpose, Purpose) = (Purpose::DeviceKey, Purpose::NextKey);

    #[test]
    fn both_keys_sign_each_for_its_use_and_are_stated() {
        let (key, next) = (Key::new(), Key::new());
        let proof = judge(&key, &next, GOOD, |_| {}).unwrap();
        assert_eq!((proof.key(), proof.next()), (Digest::of(&key.1), Digest::of(&next.1)));
        assert_eq!(proof.next_der(), next.1);
        let refused = |of, bend: fn(&mut [Vec<u8>; 2])| judge(&key, &next, of, bend).unwrap_err();
        assert_eq!(
            refused((Purpose::NextKey, Purpose::NextKey), |_| {}),
            KeyProofError::Signature("device's key")
        );
        assert_eq!(
            refused((Purpose::DeviceKey, Purpose::DeviceKey), |_| {}),
            KeyProofError::Signature("next key")
        );
        assert_eq!(refused(GOOD, |stated| stated.swap(0, 1)), KeyProofError::NotStated("device's key"));
        assert_eq!(refused(GOOD, |stated| stated[1].clear()), KeyProofError::NotStated("next key"));
        assert_eq!(judge(&key, &key, GOOD, |_| {}), Err(KeyProofError::Same));
    }

    #[test]
    fn another_challenge_and_what_is_no_key_are_refused() {
        let (key, next) = (Key::new(), Key::new());
        let ((one, stated), (two, next_stated)) =
            (key.sign(Purpose::DeviceKey, b"old"), next.sign(Purpose::NextKey, b"old"));
        let signed = SignedKey { spki: &key.1, stated: &stated, signature: &one };
        let follows = SignedKey { spki: &next.1, stated: &next_stated, signature: &two };
        let replayed = KeyProof::verify(signed, follows, b"challenge", b"statement");
        assert_eq!(replayed, Err(KeyProofError::Signature("device's key")));
        let (long, junk) = ([0x30; MAX_SPKI + 1], [0x30; 91]);
        for bytes in [&long[..], &junk[..], &[]] {
            let stated = Digest::of(bytes);
            let bad = SignedKey { spki: bytes, stated: &stated.0, signature: &one };
            assert!(matches!(
                KeyProof::verify(bad, follows, b"old", b"statement"),
                Err(KeyProofError::Key("device's key", _))
            ));
        }
    }
}
