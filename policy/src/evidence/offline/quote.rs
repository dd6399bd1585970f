//! A quote out of a folder: parsed, then verified against the key, the nonce and the PCR values that
//! lie beside it.

use super::QuoteFiles;
use super::pcr_text::PcrTable;
use super::signer::{SignedError, Signer, SignerError, has_length};
use crate::digest::Digest;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::attest::{Attest, AttestError, QuoteInfo, QuotedSelection, TPM_GENERATED};
use crate::tpm::clock::ClockInfo;
use crate::tpm::pcr::PcrValues;
use crate::tpm::signature::{Signature, SignatureError};

/// Longest nonce in bytes: what `TPM2_Quote` takes as qualifying data in every TPM, a SHA-512 digest
/// (TPM 2.0 Part 2, 10.4.3).
pub const MAX_NONCE: usize = 64;

/// The files of a quote cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteParseError {
    /// Not a `TPMS_ATTEST`.
    #[error("the quote cannot be read")]
    Attest(#[source] AttestError),
    /// Not a `TPMT_SIGNATURE`.
    #[error("the quote's signature cannot be read; write it as tpm2_quote -s does, without -f plain")]
    Signature(#[source] SignatureError),
    /// Not a key.
    #[error("the quote's key cannot be read")]
    Key(#[source] SignerError),
    /// Empty or too long.
    #[error("the nonce has {0} bytes; it is the qualifying data itself, 1 to {MAX_NONCE} raw bytes")]
    Nonce(usize),
}

/// A quote was read and does not prove the PCR values beside it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Well formed, and no quote of a TPM.
    #[error("the quote is no quote of a TPM")]
    NoQuote(#[source] AttestError),
    /// Not signed by the key.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// Made for another nonce.
    #[error("the quote answers the nonce {quoted}, the nonce beside it is {expected}; it is of another time")]
    Nonce {
        /// The nonce of the folder, hex.
        expected: String,
        /// The qualifying data of the quote, hex.
        quoted: String,
    },
    /// Another set of PCRs than was written down.
    #[error(
        "the quote covers {quoted:?} and not exactly the PCR values beside it; quote what is written down"
    )]
    Selection {
        /// What was quoted.
        quoted: Vec<QuotedSelection>,
    },
    /// Other values than were written down.
    #[error(
        "the PCR values hash to {computed}, the TPM signed {signed}; the values are of another time or were changed"
    )]
    PcrDigest {
        /// The digest in the quote, hex.
        signed: String,
        /// The digest of the values.
        computed: Box<HashValue>,
    },
}

/// What a verified quote tells besides the PCR values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenQuote {
    /// The TPM's clock.
    pub clock: ClockInfo,
    /// The TPM's firmware version, as its vendor counts.
    pub firmware_version: u64,
    /// Whether the key's attributes are known, and are an attestation key's. A PEM file says nothing
    /// about them: the key may be one that signs anything.
    pub restricted_key: bool,
    /// SHA-256 of the key's SubjectPublicKeyInfo: the same for one key, however it was written down.
    pub key: Digest,
}

/// A quote that was read; nothing is proven.
#[derive(Debug)]
pub(super) struct ParsedQuote<'a> {
    bytes: &'a [u8],
    /// Well formed in any case; whether it is a quote of a TPM is for [`Self::verify`] to say.
    attest: Result<Attest<'a>, AttestError>,
    signature: Signature<'a>,
    signer: Signer,
    nonce: &'a [u8],
}

impl<'a> ParsedQuote<'a> {
    pub(super) fn parse(files: &QuoteFiles<'a>) -> Result<Self, QuoteParseError> {
        let bytes = without_length(files.attest);
        let attest = match Attest::parse(bytes) {
            Err(error @ AttestError::Structure(_)) => return Err(QuoteParseError::Attest(error)),
            Err(error @ AttestError::Magic { .. }) if !is_attest_but_for_magic(bytes) => {
                return Err(QuoteParseError::Attest(error));
            }
            other => other,
        };
        if !(1..=MAX_NONCE).contains(&files.nonce.len()) {
            return Err(QuoteParseError::Nonce(files.nonce.len()));
        }
        Ok(Self {
            bytes,
            attest,
            signature: Signature::parse(files.signature).map_err(QuoteParseError::Signature)?,
            signer: Signer::parse(files.ak).map_err(QuoteParseError::Key)?,
            nonce: files.nonce,
        })
    }

    /// The banks that it covers a PCR of, strongest first.
    pub(super) fn banks(&self) -> Vec<HashAlg> {
        let quote = self.attest.as_ref().ok().and_then(|attest| attest.quote().ok());
        let selections = quote.map(|quote| quote.selections.as_slice()).unwrap_or_default();
        let covered = |bank: &HashAlg| selections.iter().any(|s| s.bank == bank.id() && s.bitmap != [0; 3]);
        HashAlg::ALL.into_iter().rev().filter(covered).collect()
    }

    /// Verifies it (checklist rows 1 to 3, 9, 10 and 12 to 15).
    pub(super) fn verify(self, table: &PcrTable) -> Result<ProvenQuote, QuoteError> {
        let attest = self.attest.map_err(QuoteError::NoQuote)?;
        let quote = attest.quote().map_err(QuoteError::NoQuote)?;
        let hash = self.signer.verify(&self.signature, self.bytes)?;
        if attest.extra_data != self.nonce {
            let (expected, quoted) = (hex::encode(self.nonce), hex::encode(attest.extra_data));
            return Err(QuoteError::Nonce { expected, quoted });
        }
        quoted_values(quote, table, hash)?;
        Ok(ProvenQuote {
            clock: attest.clock,
            firmware_version: attest.firmware_version,
            restricted_key: self.signer.has_attributes(),
            key: self.signer.spki_digest(),
        })
    }
}

/// Each quoted bank covers exactly the values that were written down of it, and together they hash to
/// the digest in the order of the selections.
fn quoted_values(quote: &QuoteInfo<'_>, table: &PcrTable, hash: HashAlg) -> Result<(), QuoteError> {
    let refuse = || QuoteError::Selection { quoted: quote.selections.clone() };
    let mut seen: Vec<HashAlg> = Vec::new();
    let mut values: Vec<&[u8]> = Vec::new();
    for selection in &quote.selections {
        let bank = HashAlg::from_id(selection.bank).ok_or_else(refuse)?;
        if seen.contains(&bank) || table.selection(bank).bitmap() != selection.bitmap {
            return Err(refuse());
        }
        seen.push(bank);
        let of_bank = table.values(bank).into_iter().flat_map(PcrValues::iter);
        values.extend(of_bank.map(|(_, value)| value.as_bytes()));
    }
    if values.is_empty() {
        return Err(refuse());
    }
    let computed = Box::new(hash.hash(&values));
    if computed.as_bytes() == quote.pcr_digest {
        return Ok(());
    }
    Err(QuoteError::PcrDigest { signed: hex::encode(quote.pcr_digest), computed })
}

/// The `TPMS_ATTEST` in a `TPM2B_ATTEST` or alone: tools write either, and the signature covers the
/// inner one.
fn without_length(bytes: &[u8]) -> &[u8] {
    match bytes {
        [_, _, inner @ ..] if has_length(bytes) && inner.starts_with(&TPM_GENERATED.to_be_bytes()) => inner,
        _ => bytes,
    }
}

/// Whether only the magic number keeps the bytes from being a `TPMS_ATTEST`: then somebody forged one,
/// and it is not a file of another kind.
fn is_attest_but_for_magic(bytes: &[u8]) -> bool {
    let mut patched = TPM_GENERATED.to_be_bytes().to_vec();
    patched.extend_from_slice(bytes.get(4..).unwrap_or_default());
    Attest::parse(&patched).is_ok()
}
