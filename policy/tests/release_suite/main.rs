//! Releases: manifests, envelopes and states.

#![expect(clippy::unwrap_used, reason = "what a test builds itself is well formed")]

mod dsse;
mod hollow;
mod ima;
mod keys;
mod manifest;
mod state;
