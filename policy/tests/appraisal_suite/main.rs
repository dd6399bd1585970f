//! Appraisal: what a boot measured, held against releases.

#![expect(clippy::unwrap_used, reason = "what a test builds itself is well formed")]

mod boot;
mod learn;
mod mismatch;
mod secure_boot;
mod verdict;
