//! Appraisal: what a boot measured, held against releases.

#![expect(clippy::unwrap_used, reason = "what a test builds itself is well formed")]

mod boot;
mod image;
mod learn;
mod mismatch;
mod verdict;
