//! The configuration file as it is written. [`super::Config`] is what it means.
//!
//! Keys that are not known are kept, so that they are refused by name together with all other faults.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::gate::RawGate;
use super::idevid::RawIdevId;
use super::images::RawImages;
use super::mqtt::RawMqtt;
use super::workload::{RawWorkload, RawWorkloadApi};

/// `attestor.toml`, key for key.
#[derive(Debug, Deserialize)]
pub(super) struct Raw {
    pub(super) broker: Option<String>,
    #[serde(default)]
    pub(super) other_brokers: Vec<String>,
    pub(super) plant: Option<String>,
    pub(super) plant_root: Option<String>,
    pub(super) tpm: Option<String>,
    pub(super) tpm_deadline: Option<i64>,
    pub(super) state: Option<String>,
    pub(super) deliver: Option<String>,
    pub(super) device: Option<String>,
    #[serde(default)]
    pub(super) zones: Vec<String>,
    pub(super) join_token_file: Option<String>,
    pub(super) firmware_log: Option<String>,
    pub(super) userspace_log: Option<String>,
    pub(super) ima_log: Option<String>,
    pub(super) idevid: Option<RawIdevId>,
    #[serde(default, rename = "service")]
    pub(super) services: Vec<RawService>,
    #[serde(default)]
    pub(super) vouches: Vec<RawVouched>,
    #[serde(default)]
    pub(super) inventory: BTreeMap<String, String>,
    pub(super) health: Option<RawHealth>,
    pub(super) on_wanted: Option<Vec<String>>,
    pub(super) authorize: Option<RawAuthorize>,
    pub(super) metrics: Option<RawMetrics>,
    pub(super) log_format: Option<String>,
    pub(super) mqtt: Option<RawMqtt>,
    pub(super) images: Option<RawImages>,
    #[serde(default, rename = "hook")]
    pub(super) hooks: Vec<RawHook>,
    pub(super) safe_state: Option<RawSafeState>,
    #[serde(default)]
    pub(super) on_state: Vec<RawStateHook>,
    pub(super) workload_api: Option<RawWorkloadApi>,
    #[serde(default, rename = "workload")]
    pub(super) workloads: Vec<RawWorkload>,
    #[serde(default, rename = "gate")]
    pub(super) gates: Vec<RawGate>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}

/// One `[[service]]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawService {
    pub(super) name: Option<String>,
    pub(super) port: Option<i64>,
    pub(super) key: Option<String>,
    pub(super) key_owner: Option<i64>,
    pub(super) key_group: Option<i64>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}

/// `[authorize]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawAuthorize {
    pub(super) listen: Option<String>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}

/// `[metrics]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawMetrics {
    pub(super) listen: Option<String>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}

/// `[health]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawHealth {
    #[serde(default)]
    pub(super) command: Vec<String>,
    pub(super) timeout: Option<i64>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}

/// One `[[hook]]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawHook {
    pub(super) name: Option<String>,
    pub(super) service: Option<String>,
    pub(super) reload: Option<toml::Value>,
    pub(super) restart: Option<toml::Value>,
    pub(super) timeout: Option<i64>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}

/// `[safe_state]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawSafeState {
    pub(super) command: Option<Vec<String>>,
    pub(super) timeout: Option<i64>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}

/// One `[[on_state]]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawStateHook {
    pub(super) name: Option<String>,
    pub(super) command: Option<Vec<String>>,
    pub(super) states: Option<Vec<String>>,
    pub(super) timeout: Option<i64>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}

/// One `[[vouches]]`.
#[derive(Debug, Deserialize)]
pub(super) struct RawVouched {
    pub(super) name: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) address: Option<String>,
    pub(super) serial: Option<String>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, toml::Value>,
}
