//! The configuration file as it is written. [`super::Config`] is what it means.

use serde::Deserialize;

use super::publish::RawPublish;
use super::store::RawStore;
use super::tpm_deny::RawRule;

/// `broker.toml`, key for key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) listen: String,
    pub(super) metrics: Option<String>,
    pub(super) publish: Option<RawPublish>,
    pub(super) store: Option<RawStore>,
    #[serde(default)]
    pub(super) tpm_roots: Vec<String>,
    #[serde(default)]
    pub(super) idevid_roots: Vec<String>,
    #[serde(default)]
    pub(super) tpm_deny: Vec<RawRule>,
    #[serde(default = "a_year")]
    pub(super) audit_keep_days: u64,
    #[serde(default)]
    pub(super) limits: Limits,
}

const fn a_year() -> u64 {
    365
}

/// Bounds that a plant may set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) pending_devices: usize,
    pub(super) not_before_skew_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 20_000, pending_devices: 1_000, not_before_skew_seconds: 300 }
    }
}
