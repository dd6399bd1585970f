//! Zones, conduits, trust files and authorization.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what a test builds itself is well formed"
)]

mod access;
mod document;
mod generation;
mod inspection;
mod later;
mod model;
mod schedule;
mod silence;
mod trust;
