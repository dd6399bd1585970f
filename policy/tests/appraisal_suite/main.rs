//! Appraisal: what a boot measured, held against releases.

#![expect(clippy::unwrap_used, reason = "what a test builds itself is well formed")]

mod boot;
mod early;
#[cfg(test)]
mod files;
#[cfg(test)]
#[expect(dead_code, reason = "the rig has more than these tests need")]
#[path = "../rig/ima.rs"]
mod ima;
mod image;
mod learn;
mod mismatch;
mod recorded_boot;
mod secure_boot;
mod variant;
mod verdict;
