//! The first record: `boot_aggregate`, the hash over the PCRs of the boot (`ima_calc_boot_aggregate` of
//! Linux). It ties a list to the boot that the quote shows (checklist row 26).
//!
//! PCRs 0 to 7 are hashed, or 0 to 9 by kernels since 5.8 in banks other than SHA-1. Linux may extend PCR
//! 9 later, so where the firmware's log tells an earlier value of 8 or 9, that one counts as well.
//!
//! After kexec the list goes on with a second `boot_aggregate`. It is a record like any other here: no PCR
//! says which kernel was started, so the release must list it, or the device must boot through its
//! firmware.

use super::list::Record;
use super::template::DigestOf;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// The name of the record.
pub const BOOT_AGGREGATE: &str = "boot_aggregate";

/// The first record does not tie the list to the boot that was quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    /// Another record, a violation, or one without a digest that is known here.
    #[error("the first record is not boot_aggregate with a digest; send the list from its beginning")]
    Missing,
    /// All zero: the kernel had no TPM when IMA started.
    #[error(
        "boot_aggregate is all zero: the kernel found no TPM when IMA started; build the TPM driver into the kernel"
    )]
    Zero,
    /// Computed over PCRs that were not quoted.
    #[error(
        "boot_aggregate is of the {found} PCRs and {quoted} was quoted; boot with ima_hash={quoted} so that it can be compared"
    )]
    OtherBank {
        /// The algorithm of the record.
        found: HashAlg,
        /// The quoted bank.
        quoted: HashAlg,
    },
    /// Computed over other values than were quoted.
    #[error("boot_aggregate {0} is not that of the quoted PCRs; the list is of another boot")]
    Mismatch(Box<HashValue>),
}

/// Verifies that `record` is the boot aggregate of the quoted values. `firmware` is what the firmware's
/// log explains.
pub(super) fn verify(
    record: &Record<'_>,
    quoted: &PcrValues,
    firmware: &PcrValues,
) -> Result<(), AggregateError> {
    let found = record.fields.digest.filter(|digest| digest.of != DigestOf::Verity);
    let named = record.fields.name == Some(BOOT_AGGREGATE.as_bytes());
    let found = found.filter(|_| named && !record.is_violation()).ok_or(AggregateError::Missing)?.value;
    if found.as_bytes().iter().all(|byte| *byte == 0) {
        return Err(AggregateError::Zero);
    }
    // A kernel on a TPM without a bank of IMA's own hash takes the values of the bank that there is.
    let matches = |values: Option<Vec<&[u8]>>| values.is_some_and(|v| found.alg().hash(&v) == found);
    if matches(values(0..8, quoted, quoted))
        || matches(values(0..10, quoted, quoted))
        || matches(values(0..10, quoted, firmware))
    {
        return Ok(());
    }
    Err(if found.alg() == quoted.bank() {
        AggregateError::Mismatch(Box::new(found))
    } else {
        AggregateError::OtherBank { found: found.alg(), quoted: quoted.bank() }
    })
}

/// The values of these PCRs; those of 8 and 9 as `late` has them, where it does.
fn values<'v>(
    pcrs: std::ops::Range<u32>,
    quoted: &'v PcrValues,
    late: &'v PcrValues,
) -> Option<Vec<&'v [u8]>> {
    let value = |pcr: PcrIndex| match pcr.number() {
        8 | 9 => late.value(pcr).or_else(|| quoted.value(pcr)),
        _ => quoted.value(pcr),
    };
    pcrs.filter_map(PcrIndex::new).map(|pcr| value(pcr).map(HashValue::as_bytes)).collect()
}
