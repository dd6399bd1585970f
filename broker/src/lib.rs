//! The Touchstone broker: verifies evidence and issues certificates.

pub mod store;
