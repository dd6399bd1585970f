//! Golden releases: their states, counters and wishes.

use std::num::NonZeroU8;

use policy::digest::Digest;
use policy::id::ProductName;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Key of the [`GoldenHead`].
pub const GOLDEN: &str = "golden";
/// Prefix of releases.
pub const RELEASE: &str = "release/";
/// Prefix of product counters.
pub const PRODUCT: &str = "product/";
/// Prefix of wanted releases.
pub const WANTED: &str = "wanted/";
/// Prefix of withdrawals that have not reached every device yet.
pub const WITHDRAWAL: &str = "withdrawal/";

/// Raised in every transaction that changes what is accepted; a grant compares it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GoldenHead {
    /// Counts changes.
    pub n: u64,
}

impl Record for GoldenHead {
    const VERSION: u32 = 1;
    const KIND: &'static str = "golden head";
}

/// A release that was applied; its envelope is a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Product.
    pub product: ProductName,
    /// Version.
    pub version: String,
    /// Rollback counter.
    pub counter: u64,
    /// What it does today.
    pub state: ReleaseState,
    /// Blob of the DSSE envelope.
    pub envelope: Digest,
    /// Digest of the canonical manifest.
    pub manifest: Digest,
    /// Ids of the keys that signed it.
    pub signers: Vec<String>,
    /// How many of them were needed then.
    #[serde(default = "one")]
    pub needed: NonZeroU8,
    /// When it was applied.
    pub applied_at: UnixTime,
    /// By whom.
    pub applied_by: String,
    /// What was last done to its state since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<StateChange>,
}

/// What was needed before products had thresholds.
const fn one() -> NonZeroU8 {
    NonZeroU8::MIN
}

/// Who changed the state of a release or a key, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// When.
    pub at: UnixTime,
    /// By whom.
    pub by: String,
    /// For people; may be empty.
    pub reason: String,
}

impl StateChange {
    /// The reason as the end of a sentence; nothing where there is none.
    #[must_use]
    pub fn because(&self) -> String {
        if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) }
    }
}

impl ReleaseRecord {
    /// Product and version; `None` if the version is none, which no broker writes.
    #[must_use]
    pub fn id(&self) -> Option<ReleaseId> {
        Some(ReleaseId { product: self.product.clone(), version: self.version.parse().ok()? })
    }

    /// Who touched it last, and when.
    #[must_use]
    pub fn last_change(&self) -> (&str, UnixTime) {
        let applied = (self.applied_by.as_str(), self.applied_at);
        self.changed.as_ref().map_or(applied, |change| (change.by.as_str(), change.at))
    }
}

/// The release that devices of a product are told to install. It is no reason to trust one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedRelease {
    /// Product and version.
    pub release: ReleaseId,
    /// Since when.
    pub since: UnixTime,
    /// By whom.
    pub by: String,
}

impl Record for WantedRelease {
    const VERSION: u32 = 1;
    const KIND: &'static str = "wanted release";
}

/// A withdrawal, until every device that last proved to run the release has lost its certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Product and version.
    pub release: ReleaseId,
    /// When it was withdrawn.
    pub at: UnixTime,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Record for Withdrawal {
    const VERSION: u32 = 1;
    const KIND: &'static str = "withdrawal";
}

impl Record for ReleaseRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "golden release";
}

/// The highest counter that was applied for a product.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProductCounter {
    /// The counter.
    pub counter: u64,
}

impl Record for ProductCounter {
    const VERSION: u32 = 1;
    const KIND: &'static str = "product";
}

/// Key of a release.
#[must_use]
pub fn release_key(product: &ProductName, version: &str) -> String {
    format!("{RELEASE}{product}/{version}")
}

/// Key of a product's wanted release.
#[must_use]
pub fn wanted_key(product: &ProductName) -> String {
    format!("{WANTED}{product}")
}

/// Key of a withdrawal.
#[must_use]
pub fn withdrawal_key(release: &ReleaseId) -> String {
    format!("{WITHDRAWAL}{}/{}", release.product, release.version)
}

/// Key of a product's counter.
#[must_use]
pub fn product_key(product: &ProductName) -> String {
    format!("{PRODUCT}{product}")
}
