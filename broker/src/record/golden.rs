//! Golden releases and the keys that sign them.

use policy::digest::Digest;
use policy::id::ProductName;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Key of the [`GoldenHead`].
pub const GOLDEN: &str = "golden";
/// Prefix of releases.
pub const RELEASE: &str = "release/";
/// Prefix of release keys.
pub const RELEASE_KEY: &str = "release-key/";
/// Prefix of product counters.
pub const PRODUCT: &str = "product/";

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
    /// When it was applied.
    pub applied_at: UnixTime,
    /// By whom.
    pub applied_by: String,
}

impl Record for ReleaseRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "golden release";
}

/// A key that may sign releases.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseKeyRecord {
    /// SubjectPublicKeyInfo, PEM.
    pub public_key: String,
    /// Products it may sign; none: all.
    pub products: Vec<ProductName>,
    /// Who registered it.
    pub by: String,
}

impl Record for ReleaseKeyRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "release key";
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

/// Key of a product's counter.
#[must_use]
pub fn product_key(product: &ProductName) -> String {
    format!("{PRODUCT}{product}")
}

/// Key of a release key.
#[must_use]
pub fn release_key_key(id: &str) -> String {
    format!("{RELEASE_KEY}{id}")
}
