//! NV indices: `TPMS_NV_PUBLIC`, and what TPM2_NV_Certify signs about one (TPM 2.0 Part 2, 10.12.8 and
//! 13.5).
//!
//! An NV attest is parsed here and nowhere else, so that it never passes for a quote or a certification,
//! nor one of them for it (checklist row 2). Parsing trusts nothing.

use super::alg::HashAlg;
use super::attest::{AttestError, Header};
use super::clock::ClockInfo;
use super::public::Name;
use crate::budget::{MAX_ATTEST_BYTES, MAX_DIGEST_BYTES, MAX_NAME_BYTES, MAX_PUBLIC_BYTES};
use crate::reader::{ReadError, Reader};

/// `TPM_ST_ATTEST_NV` (TPM 2.0 Part 2, 6.9).
pub const ST_ATTEST_NV: u16 = 0x8014;
/// `TPM_ST_ATTEST_NV_DIGEST`
pub const ST_ATTEST_NV_DIGEST: u16 = 0x801c;

/// `TPM_HT_NV_INDEX`: the first octet of an NV index' handle (TPM 2.0 Part 2, 7.2).
const HANDLE_TYPE: u32 = 0x01;

/// Bytes are no public area of an NV index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NvPublicError {
    /// Not a handle of an NV index.
    #[error("{0:#010x} is no handle of an NV index; send the public area of one")]
    Handle(u32),
    /// The Name would be computed with a hash that is broken or not known.
    #[error("the NV index' nameAlg is {0:#06x}; define it with sha256, sha384 or sha512")]
    NameAlg(u16),
    /// Not well formed.
    #[error("the NV index' public area is malformed; send it exactly as TPM2_NV_ReadPublic returned it")]
    Structure(#[from] ReadError),
}

/// `TPMA_NV` (TPM 2.0 Part 2, 13.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvAttributes(u32);

impl NvAttributes {
    /// The platform's authorization may write.
    pub const PP_WRITE: Self = Self(1);
    /// The owner's authorization may write.
    pub const OWNER_WRITE: Self = Self(1 << 1);
    /// The index' own authorization value may write.
    pub const AUTH_WRITE: Self = Self(1 << 2);
    /// Its policy may write.
    pub const POLICY_WRITE: Self = Self(1 << 3);
    /// It is unwritten again after each TPM Reset or Restart.
    pub const CLEAR_STCLEAR: Self = Self(1 << 27);
    /// It was written.
    pub const WRITTEN: Self = Self(1 << 29);

    /// The set of these bits.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether all of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is of type `TPM_NT_EXTEND`: written by extending, like a PCR.
    #[must_use]
    pub const fn is_extend(self) -> bool {
        (self.0 >> 4) & 0xf == 4
    }
}

/// `TPMS_NV_PUBLIC`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NvPublic<'a> {
    /// Handle of the index.
    pub index: u32,
    /// Hash of its Name, and of what it is extended by.
    pub name_alg: HashAlg,
    /// What may be done with it.
    pub attributes: NvAttributes,
    /// Digest of its policy; empty without one.
    pub policy: &'a [u8],
    /// Size of its contents in bytes.
    pub data_size: u16,
}

impl<'a> NvPublic<'a> {
    /// Parses a public area, whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NvPublicError> {
        let mut reader = Reader::at_most(bytes, MAX_PUBLIC_BYTES, "TPMS_NV_PUBLIC")?;
        let index = reader.u32_be("nvIndex")?;
        if index >> 24 != HANDLE_TYPE {
            return Err(NvPublicError::Handle(index));
        }
        let id = reader.u16_be("nameAlg")?;
        let name_alg = HashAlg::from_id(id).filter(|alg| *alg != HashAlg::Sha1);
        let public = Self {
            index,
            name_alg: name_alg.ok_or(NvPublicError::NameAlg(id))?,
            attributes: NvAttributes(reader.u32_be("attributes")?),
            policy: reader.tpm2b(MAX_DIGEST_BYTES, "authPolicy")?,
            data_size: reader.u16_be("dataSize")?,
        };
        reader.finish("TPMS_NV_PUBLIC")?;
        Ok(public)
    }

    /// Its Name with `TPMA_NV_WRITTEN` as `written` says: the one attribute that changes by use (TPM 2.0
    /// Part 1, 16).
    #[must_use]
    pub fn name(&self, written: bool) -> Name {
        let NvAttributes(bits) = self.attributes;
        let NvAttributes(flag) = NvAttributes::WRITTEN;
        let bits = if written { bits | flag } else { bits & !flag };
        let policy_len = u16::try_from(self.policy.len()).unwrap_or(u16::MAX);
        let mut out = self.index.to_be_bytes().to_vec();
        out.extend(self.name_alg.id().to_be_bytes());
        out.extend(bits.to_be_bytes());
        out.extend(policy_len.to_be_bytes());
        out.extend(self.policy);
        out.extend(self.data_size.to_be_bytes());
        Name::of(self.name_alg, &out)
    }
}

/// A parsed `TPMS_ATTEST` about an NV index; believed only after its signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvAttest<'a> {
    /// The qualifying data that the caller gave.
    pub extra_data: &'a [u8],
    /// Clock and counters.
    pub clock: ClockInfo,
    /// Name of the index.
    pub index_name: &'a [u8],
    /// What of its contents is attested.
    pub contents: NvContents<'a>,
}

/// What of an index' contents is attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NvContents<'a> {
    /// `TPMS_NV_CERTIFY_INFO`: bytes from an offset.
    Bytes {
        /// First byte.
        offset: u16,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// `TPMS_NV_DIGEST_CERTIFY_INFO`: the hash of all of it, made with the signing scheme's hash.
    Digest(&'a [u8]),
}

impl<'a> NvAttest<'a> {
    /// Parses the attest of TPM2_NV_Certify, whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, AttestError> {
        let mut reader = Reader::at_most(bytes, MAX_ATTEST_BYTES, "TPMS_ATTEST")?;
        let wanted = "an NV certification (0x8014 or 0x801c)";
        let header = Header::parse(&mut reader, [ST_ATTEST_NV, ST_ATTEST_NV_DIGEST], wanted)?;
        let index_name = reader.tpm2b(MAX_NAME_BYTES, "indexName")?;
        let contents = match header.kind {
            ST_ATTEST_NV => NvContents::Bytes {
                offset: reader.u16_be("offset")?,
                // An index that is accepted as evidence holds one digest.
                bytes: reader.tpm2b(MAX_DIGEST_BYTES, "nvContents")?,
            },
            _ => NvContents::Digest(reader.tpm2b(MAX_DIGEST_BYTES, "nvDigest")?),
        };
        reader.finish("TPMS_ATTEST")?;
        Ok(Self { extra_data: header.extra_data, clock: header.clock, index_name, contents })
    }
}
