//! The Touchstone attestor: proves what a device booted and delivers its certificates.

#[cfg(feature = "test-util")]
pub mod testing;
pub mod tpm;
pub mod tss2_key;
