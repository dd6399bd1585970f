//! The pure heart of Touchstone: what a device proved, and what follows from it.
//!
//! Bytes, time and randomness come in as arguments; verdicts go out as values. The crate does no
//! I/O, has no clock and draws no random numbers, so every decision can be made again from its
//! inputs and tested without a machine.
//!
//! The paved path of types, each buildable only by the step before it:
//!
//! ```text
//! Evidence -> VerifiedEvidence -> AttestationResult -> IssuanceGrant
//! ```
//!
//! What this crate does not promise: it does not fetch anything, remember anything, or know whether
//! an answer reached anybody.

pub mod access;
pub mod advisory;
pub mod appraisal;
pub mod audit;
pub mod budget;
pub mod cause;
pub mod checklist;
pub mod component;
pub mod digest;
pub mod eventlog;
pub mod evidence;
pub mod grant;
pub mod id;
pub mod issuing;
pub mod predict;
pub mod reader;
pub mod reference;
pub mod renewal;
pub mod rollout;
pub mod sbom;
pub mod time;
pub mod tpm;
pub mod x509;
pub mod zone;
