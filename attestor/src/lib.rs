//! The Touchstone attestor: proves what a device booted and delivers its certificates.

pub mod tpm;
pub mod tss2_key;
