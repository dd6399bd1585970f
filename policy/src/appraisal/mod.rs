//! Appraisal (RFC 9334, section 3): verified evidence against Reference Values under the policy of a
//! zone.
//!
//! The verdict is never a bool: it is an AR4SI vector with reasons that name the PCR, the event, the
//! expected and the seen digest. What cannot be evaluated counts against the device, and what no
//! release constrains is listed as not appraised.
//!
//! What this module does not promise: it verifies nothing. [`appraise`] takes what verification left,
//! and only it makes an [`AttestationResult`].

mod appraise;
pub mod claims;
pub mod ear;
pub(crate) mod early;
mod files;
pub mod finding;
mod images;
mod matching;
pub mod measurements;
pub mod offline;
pub mod policy;
pub mod result;
mod secure_boot;

pub use appraise::{BOOT_PCRS, appraise, appraise_without_tpm, forecast, forecast_supposed};
pub use finding::Finding;
pub use offline::OfflineResult;
pub use result::{AppraisalRecord, AttestationResult, Forecast, Prover, Verdict};
