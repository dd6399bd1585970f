//! The configuration file as it is written. [`super::Config`] is what it means.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `attestor.toml`, key for key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) broker: Option<String>,
    pub(super) plant: Option<String>,
    pub(super) plant_root: Option<String>,
    pub(super) tpm: Option<String>,
    pub(super) state: Option<String>,
    pub(super) deliver: Option<String>,
    pub(super) device: Option<String>,
    #[serde(default)]
    pub(super) zones: Vec<String>,
    pub(super) join_token_file: Option<String>,
    pub(super) firmware_log: Option<String>,
    #[serde(default, rename = "service")]
    pub(super) services: Vec<RawService>,
    #[serde(default)]
    pub(super) inventory: BTreeMap<String, String>,
}

/// One `[[service]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    pub(super) name: Option<String>,
    pub(super) port: Option<i64>,
}
