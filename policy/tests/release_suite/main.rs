//! Releases: manifests, envelopes and states.

#![expect(clippy::unwrap_used, reason = "what a test builds itself is well formed")]

mod dsse;
mod ima;
mod manifest;
mod state;
