//! The Touchstone attestor: proves what a device booted and delivers its certificates.

pub mod authorize;
pub mod client;
pub mod commands;
pub mod config;
pub mod deliver;
pub(crate) mod durable;
pub mod evidence;
pub mod health;
pub mod hooks;
pub mod join_token;
pub mod plant;
pub mod ports;
pub mod program;
pub mod renewal;
pub mod role;
pub mod software_key;
pub mod state;
pub mod status;
pub mod svid;
pub mod telemetry;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod tpm;
pub mod trust;
pub mod tss2_key;
pub mod wanted;
