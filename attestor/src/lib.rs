//! The Touchstone attestor: proves what a device booted and delivers its certificates.

pub mod config;
pub(crate) mod durable;
pub mod ports;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod tpm;
pub mod tss2_key;
