//! Appraisal: what a boot measured, held against releases.

#![expect(clippy::unwrap_used, reason = "what a test builds itself is well formed")]

mod boot;
#[cfg(test)]
mod files;
#[cfg(test)]
#[expect(dead_code, reason = "the rig has more than these tests need")]
#[path = "../rig/ima.rs"]
mod ima;
mod learn;
mod mismatch;
mod secure_boot;
mod verdict;
