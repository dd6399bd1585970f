//! `TPMS_ATTEST`: what a TPM signs in a quote or a certification (TPM 2.0 Part 2, 10.12).
//!
//! Parsing trusts nothing: a parsed attest is believed only after its signature was verified. Other
//! attestation types (NV, creation, time, audit) are refused by name, because a signature over one
//! of them must never pass for a quote (checklist row 2).

use std::fmt;

use super::alg::HashAlg;
use super::clock::ClockInfo;
use super::pcr::{PcrIndex, PcrSelection};
use crate::budget::{MAX_ATTEST_BYTES, MAX_BANKS, MAX_DIGEST_BYTES, MAX_NAME_BYTES};
use crate::reader::{ReadError, Reader};

/// `TPM_GENERATED_VALUE`: only a TPM starts a signed structure with it (TPM 2.0 Part 2, 6.2).
pub const TPM_GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_CERTIFY` (TPM 2.0 Part 2, 6.9).
pub const ST_ATTEST_CERTIFY: u16 = 0x8017;
/// `TPM_ST_ATTEST_QUOTE`
pub const ST_ATTEST_QUOTE: u16 = 0x8018;

/// Octets of a PCR bitmap: 24 PCRs (TCG PC Client Platform TPM Profile, 4.6).
const BITMAP_OCTETS: u8 = 3;

/// Bytes are no attest of the kind that is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// Not made by a TPM.
    #[error(
        "the attest begins with {found:#010x} instead of 0xff544347: no TPM made it; attest again with TPM2_Quote or TPM2_Certify"
    )]
    Magic {
        /// What it begins with.
        found: u32,
    },
    /// Made by a TPM for something else.
    #[error(
        "the attest is of type {found:#06x}, {wanted} is needed; send the structure that this field is for"
    )]
    Type {
        /// Its `TPMI_ST_ATTEST`.
        found: u16,
        /// What is needed.
        wanted: &'static str,
    },
    /// Not well formed.
    #[error("the attest is malformed; send it exactly as the TPM returned it")]
    Structure(#[from] ReadError),
}

/// A parsed `TPMS_ATTEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attest<'a> {
    /// Qualified Name of the signing key.
    pub qualified_signer: &'a [u8],
    /// The qualifying data that the caller gave.
    pub extra_data: &'a [u8],
    /// Clock and counters.
    pub clock: ClockInfo,
    /// Vendor's firmware version.
    pub firmware_version: u64,
    /// What is attested.
    pub attested: Attested<'a>,
}

/// The part of an attest that depends on its type (`TPMU_ATTEST`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attested<'a> {
    /// PCR values.
    Quote(QuoteInfo<'a>),
    /// That an object is loaded in this TPM.
    Certify(CertifyInfo<'a>),
}

/// `TPMS_QUOTE_INFO`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteInfo<'a> {
    /// Selections in the order in which their values were hashed.
    pub selections: Vec<QuotedSelection>,
    /// Hash of the selected values.
    pub pcr_digest: &'a [u8],
}

/// `TPMS_PCR_SELECTION` as quoted; the bank may be one that this crate cannot compute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QuotedSelection {
    /// `TPM_ALG_ID` of the bank.
    pub bank: u16,
    /// Bits of PCRs 0 to 23, PCR 0 lowest.
    pub bitmap: [u8; 3],
}

impl QuotedSelection {
    /// The quoted form of a selection.
    #[must_use]
    pub const fn of(selection: &PcrSelection) -> Self {
        Self { bank: selection.bank.id(), bitmap: selection.bitmap() }
    }
}

impl fmt::Debug for QuotedSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match HashAlg::from_id(self.bank) {
            Some(bank) => PcrSelection::from_bitmap(bank, self.bitmap).fmt(f),
            None => {
                write!(f, "{:#06x}:", self.bank)?;
                let any_bank = PcrSelection::from_bitmap(HashAlg::Sha256, self.bitmap);
                f.debug_set().entries(any_bank.iter().map(PcrIndex::number)).finish()
            }
        }
    }
}

/// `TPMS_CERTIFY_INFO`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifyInfo<'a> {
    /// Name of the certified object.
    pub name: &'a [u8],
    /// Its Qualified Name.
    pub qualified_name: &'a [u8],
}

/// What every `TPMS_ATTEST` begins with (TPM 2.0 Part 2, 10.12.12).
pub(super) struct Header<'a> {
    /// `TPMI_ST_ATTEST`
    pub(super) kind: u16,
    pub(super) qualified_signer: &'a [u8],
    pub(super) extra_data: &'a [u8],
    pub(super) clock: ClockInfo,
    pub(super) firmware_version: u64,
}

impl<'a> Header<'a> {
    /// Reads the header of an attest of one of `kinds`; `wanted` names them.
    pub(super) fn parse(
        reader: &mut Reader<'a>,
        kinds: [u16; 2],
        wanted: &'static str,
    ) -> Result<Self, AttestError> {
        let magic = reader.u32_be("magic")?;
        if magic != TPM_GENERATED {
            return Err(AttestError::Magic { found: magic });
        }
        let kind = reader.u16_be("type")?;
        if !kinds.contains(&kind) {
            return Err(AttestError::Type { found: kind, wanted });
        }
        Ok(Self {
            kind,
            qualified_signer: reader.tpm2b(MAX_NAME_BYTES, "qualifiedSigner")?,
            // TPM2B_DATA holds a TPMT_HA at most (TPM 2.0 Part 2, 10.4.3).
            extra_data: reader.tpm2b(MAX_NAME_BYTES, "extraData")?,
            clock: clock(reader)?,
            firmware_version: reader.u64_be("firmwareVersion")?,
        })
    }
}

impl<'a> Attest<'a> {
    /// Parses a quote or a certification, whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, AttestError> {
        let mut reader = Reader::at_most(bytes, MAX_ATTEST_BYTES, "TPMS_ATTEST")?;
        let wanted = "a quote (0x8018) or a certify (0x8017)";
        let header = Header::parse(&mut reader, [ST_ATTEST_QUOTE, ST_ATTEST_CERTIFY], wanted)?;
        let attest = Self {
            qualified_signer: header.qualified_signer,
            extra_data: header.extra_data,
            clock: header.clock,
            firmware_version: header.firmware_version,
            attested: match header.kind {
                ST_ATTEST_QUOTE => Attested::Quote(quote(&mut reader)?),
                _ => Attested::Certify(certify(&mut reader)?),
            },
        };
        reader.finish("TPMS_ATTEST")?;
        Ok(attest)
    }

    /// The quote in it.
    pub fn quote(&self) -> Result<&QuoteInfo<'a>, AttestError> {
        match &self.attested {
            Attested::Quote(quote) => Ok(quote),
            Attested::Certify(_) => {
                Err(AttestError::Type { found: ST_ATTEST_CERTIFY, wanted: "a quote (0x8018)" })
            }
        }
    }

    /// The certification in it.
    pub fn certify(&self) -> Result<&CertifyInfo<'a>, AttestError> {
        match &self.attested {
            Attested::Certify(certify) => Ok(certify),
            Attested::Quote(_) => {
                Err(AttestError::Type { found: ST_ATTEST_QUOTE, wanted: "a certify (0x8017)" })
            }
        }
    }
}

fn clock(reader: &mut Reader<'_>) -> Result<ClockInfo, ReadError> {
    let clock_ms = reader.u64_be("clock")?;
    let reset_count = reader.u32_be("resetCount")?;
    let restart_count = reader.u32_be("restartCount")?;
    let offset = reader.offset();
    let safe = match reader.u8("safe")? {
        0 => false,
        1 => true,
        _ => return Err(ReadError::Invalid { offset, what: "safe is neither 0 nor 1" }),
    };
    Ok(ClockInfo { clock_ms, reset_count, restart_count, safe })
}

fn quote<'a>(reader: &mut Reader<'a>) -> Result<QuoteInfo<'a>, ReadError> {
    let offset = reader.offset();
    let count = reader.u32_be("number of PCR selections")?;
    if count > MAX_BANKS {
        return Err(ReadError::TooLarge {
            offset,
            what: "number of PCR selections",
            found: count.into(),
            limit: MAX_BANKS.into(),
        });
    }
    let mut selections = Vec::new();
    for _ in 0..count {
        selections.push(selection(reader)?);
    }
    let pcr_digest = reader.tpm2b(MAX_DIGEST_BYTES, "pcrDigest")?;
    Ok(QuoteInfo { selections, pcr_digest })
}

fn selection(reader: &mut Reader<'_>) -> Result<QuotedSelection, ReadError> {
    let bank = reader.u16_be("bank of a PCR selection")?;
    let offset = reader.offset();
    if reader.u8("size of a PCR selection")? != BITMAP_OCTETS {
        return Err(ReadError::Invalid { offset, what: "a PCR selection does not cover 24 PCRs" });
    }
    Ok(QuotedSelection { bank, bitmap: reader.array("bitmap of a PCR selection")? })
}

fn certify<'a>(reader: &mut Reader<'a>) -> Result<CertifyInfo<'a>, ReadError> {
    Ok(CertifyInfo {
        name: reader.tpm2b(MAX_NAME_BYTES, "name")?,
        qualified_name: reader.tpm2b(MAX_NAME_BYTES, "qualifiedName")?,
    })
}
