//! SBOMs, advisories, and which component an advisory is about.

#![expect(clippy::unwrap_used, reason = "what a test builds itself is well formed")]

mod advisory;
mod affected;
mod hostile;
mod purl;
mod release;
mod sbom;
mod versions;
