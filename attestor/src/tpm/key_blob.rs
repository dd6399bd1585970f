//! An identity key outside the TPM: useless to any other TPM, so it may lie in a file.

use std::fmt;

use super::{
    template,
    wire::{sized, unwrap_sized},
};

/// Longest TPM2B_PRIVATE accepted. A P-256 key takes under 200 bytes; the reference implementation's largest
/// private structure takes about 1,200.
const MAX_PRIVATE: usize = 2048;
/// Persistent handles of the owner hierarchy (TCG Registry of Reserved TPM 2.0 Handles).
const OWNER_HANDLES: std::ops::RangeInclusive<u32> = 0x8100_0000..=0x817f_ffff;

/// The two halves of an identity key and the handle of its parent.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityKeyBlob {
    public: Vec<u8>,
    private: Vec<u8>,
    parent: u32,
    point: [u8; 65],
}

/// The parts are no identity key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyBlobError {
    /// The public half was not made from the identity key template.
    #[error("the public half is not that of an identity key: make the key anew")]
    Public,
    /// The private half is empty, too long or cut.
    #[error("the private half is damaged: make the key anew")]
    Private,
    /// The parent is no persistent key of the owner.
    #[error(
        "the parent {0:#x} is not a persistent handle of the owner (0x81000000 to 0x817fffff): make the key anew"
    )]
    Parent(u32),
}

impl IdentityKeyBlob {
    /// Parses the halves of a key: TPM2B_PUBLIC and TPM2B_PRIVATE, each with its size, and the persistent handle.
    pub fn parse(public: Vec<u8>, private: Vec<u8>, parent: u32) -> Result<Self, KeyBlobError> {
        let point =
            unwrap_sized(&public).and_then(template::identity_key_point).ok_or(KeyBlobError::Public)?;
        let secret = unwrap_sized(&private).ok_or(KeyBlobError::Private)?;
        if secret.is_empty() || secret.len() > MAX_PRIVATE {
            return Err(KeyBlobError::Private);
        }
        if !OWNER_HANDLES.contains(&parent) {
            return Err(KeyBlobError::Parent(parent));
        }
        Ok(Self { public, private, parent, point })
    }

    /// The same from unsized parts, as the TPM gives them.
    pub(super) fn from_areas(public: &[u8], private: &[u8], parent: u32) -> Result<Self, KeyBlobError> {
        Self::parse(sized(public), sized(private), parent)
    }

    /// TPM2B_PUBLIC, with its size.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// TPMT_PUBLIC, the form whose digest is the key's Name.
    pub fn public_area(&self) -> &[u8] {
        unwrap_sized(&self.public).unwrap_or_default()
    }

    /// TPM2B_PRIVATE, with its size; encrypted by the parent.
    pub fn private(&self) -> &[u8] {
        &self.private
    }

    pub(super) fn private_area(&self) -> &[u8] {
        unwrap_sized(&self.private).unwrap_or_default()
    }

    /// The persistent handle of the storage key it was made under.
    pub fn parent(&self) -> u32 {
        self.parent
    }

    /// The public point, uncompressed (SEC 1, section 2.3.3).
    pub fn point(&self) -> &[u8; 65] {
        &self.point
    }
}

/// Without the private half, which has no business in a log although only the TPM can read it.
impl fmt::Debug for IdentityKeyBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKeyBlob {{ parent: {:#x}, point: {} }}", self.parent, hex::encode(self.point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public() -> Vec<u8> {
        let mut area = template::identity_key();
        area.truncate(area.len() - 4);
        area.extend(sized(&[1; 32]));
        area.extend(sized(&[2; 32]));
        sized(&area)
    }

    #[test]
    fn a_key_is_parsed_and_its_debug_form_hides_the_private_half() {
        let key = IdentityKeyBlob::parse(public(), sized(&[0xab; 90]), 0x8100_0001).unwrap();
        assert_eq!(key.point()[..2], [4, 1]);
        assert!(!format!("{key:?}").contains("abab"));
    }

    #[test]
    fn damaged_parts_are_refused_with_their_reason() {
        let private = sized(&[0xab; 90]);
        let parse = IdentityKeyBlob::parse;
        assert_eq!(
            parse(sized(&template::storage_key()), private.clone(), 0x8100_0001),
            Err(KeyBlobError::Public)
        );
        assert_eq!(parse(public()[..40].to_vec(), private.clone(), 0x8100_0001), Err(KeyBlobError::Public));
        assert_eq!(parse(public(), private[..40].to_vec(), 0x8100_0001), Err(KeyBlobError::Private));
        assert_eq!(parse(public(), sized(&[]), 0x8100_0001), Err(KeyBlobError::Private));
        assert_eq!(parse(public(), private.clone(), 0x4000_0001), Err(KeyBlobError::Parent(0x4000_0001)));
        assert_eq!(parse(public(), private, 0x8180_0000), Err(KeyBlobError::Parent(0x8180_0000)));
    }
}
