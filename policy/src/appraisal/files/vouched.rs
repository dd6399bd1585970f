//! Verifies signatures of files, each file once: a list may repeat a signed file as often as it has room.
//!
//! Bounds what public-key operations a list can cause; says nothing that [`signature::verify`] does not.

use std::collections::BTreeSet;

use super::MAX_FINDINGS;
use crate::eventlog::ima::key::ImaKey;
use crate::eventlog::ima::signature::{self, FileSignatureError};
use crate::eventlog::ima::template::{Evm, Fields, FileDigest};

/// Most signed files that are remembered: more than a server measures that verifies every file it runs,
/// and about 16 MB.
const MAX_VOUCHED: usize = 65_536;

/// All of a record that its verdict depends on beside the keys.
type Signed<'a> = (Option<FileDigest>, Option<&'a [u8]>, Evm<'a>);

/// What was verified so far with the same keys.
#[derive(Default)]
pub(super) struct Vouched<'a> {
    good: BTreeSet<Signed<'a>>,
    failed: usize,
}

impl<'a> Vouched<'a> {
    /// Verifies that one of `keys`, the same in every call, vouches for the file of a record. Verifying is
    /// dear: who sends many wrong signatures has none of the later ones verified.
    pub(super) fn verify(&mut self, fields: &Fields<'a>, keys: &[ImaKey]) -> Result<(), FileSignatureError> {
        let signed = (fields.digest, fields.signature, fields.evm);
        if self.good.contains(&signed) {
            return Ok(());
        }
        let keys = if self.failed < MAX_FINDINGS { keys } else { &[] };
        let verdict = signature::verify(fields, keys);
        self.failed = self.failed.saturating_add(usize::from(verdict.as_ref().is_err_and(is_dear)));
        if verdict.is_ok() && self.good.len() < MAX_VOUCHED {
            self.good.insert(signed);
        }
        verdict
    }
}

/// Whether a signature may have been verified before the file was refused: one of EVM may be good, and be
/// of another file.
const fn is_dear(error: &FileSignatureError) -> bool {
    use FileSignatureError::{Attributes, OtherDigest, Wrong};
    matches!(error, Wrong(_) | OtherDigest | Attributes)
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};

    use super::*;
    use crate::eventlog::ima::template::DigestOf;
    use crate::tpm::alg::HashAlg;

    fn signature(key: &KeyPair, kind: u8, message: &[u8]) -> (u32, Vec<u8>) {
        let id = *HashAlg::Sha1.hash(&[key.der_bytes()]).as_bytes().last_chunk::<4>().unwrap();
        let signature = key.sign(message).unwrap();
        let len = u16::try_from(signature.len()).unwrap().to_be_bytes();
        (u32::from_be_bytes(id), [&[kind, 2, 4], &id[..], &len, &signature].concat())
    }

    fn fields<'a>(content: &[u8], signature: &'a [u8]) -> Fields<'a> {
        let digest = FileDigest { of: DigestOf::Unsaid, value: HashAlg::Sha256.hash(&[content]) };
        Fields { digest: Some(digest), signature: Some(signature), ..Fields::default() }
    }

    fn pair() -> (KeyPair, Vec<ImaKey>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let keys = vec![ImaKey::parse(&key.subject_public_key_info()).unwrap()];
        (key, keys)
    }

    #[test]
    fn a_file_that_was_verified_needs_no_key_again_and_another_does() {
        let (key, keys) = pair();
        let (id, good) = signature(&key, 3, b"1");
        let mut vouched = Vouched::default();
        assert_eq!(vouched.verify(&fields(b"1", &good), &keys), Ok(()));
        assert_eq!(vouched.verify(&fields(b"1", &good), &[]), Ok(()));
        assert_eq!(vouched.verify(&fields(b"2", &good), &keys), Err(FileSignatureError::Wrong(id)));
        assert_eq!(vouched.verify(&fields(b"2", &good), &[]), Err(FileSignatureError::UnknownKey(id)));
        let (_, again) = signature(&key, 3, b"1");
        assert_eq!(vouched.verify(&fields(b"1", &again), &[]), Err(FileSignatureError::UnknownKey(id)));
    }

    #[test]
    fn good_signatures_of_other_files_are_not_verified_without_end() {
        let (key, keys) = pair();
        let ima = [&[4, 4], HashAlg::Sha256.hash(&[b"1"]).as_bytes()].concat();
        let (id, evm) = signature(&key, 5, &[&ima[..], &[0; 24]].concat());
        let evm = Evm {
            signature: Some(&evm),
            names: b"security.ima",
            lengths: &[34, 0, 0, 0],
            values: &ima,
            uid: &[0; 4],
            gid: &[0; 4],
            mode: &[0; 2],
        };
        let of = |content: &[u8]| Fields { evm, ..fields(content, &[]) };
        let mut vouched = Vouched::default();
        for _ in 0..MAX_FINDINGS {
            assert_eq!(vouched.verify(&of(b"2"), &keys), Err(FileSignatureError::OtherDigest));
        }
        assert_eq!(vouched.verify(&of(b"1"), &keys), Err(FileSignatureError::UnknownKey(id)));
        assert_eq!(Vouched::default().verify(&of(b"1"), &keys), Ok(()));
    }
}
