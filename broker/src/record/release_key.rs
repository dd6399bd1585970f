//! Release keys: who may sign releases, how many must, and what became of the keys.

use std::num::NonZeroU8;

use policy::digest::Digest;
use policy::id::{ProductName, ReleaseKeyName};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::golden::StateChange;
use crate::store::record::Record;

/// Key of the [`ReleaseKeysHead`].
pub const RELEASE_KEYS: &str = "release-keys";
/// Prefix of release keys, by the digest of the key: one that was removed never comes back.
pub const RELEASE_KEY: &str = "release-key/";
/// Prefix of thresholds.
pub const THRESHOLD: &str = "release-threshold/";
/// Prefix of compromises that have not reached every device yet.
pub const COMPROMISE: &str = "compromise/";

/// Raised by every change of keys and thresholds, and compared by whatever verifies a new signature: a key that is
/// removed and a release that it signed cannot both win.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReleaseKeysHead {
    /// Counts changes.
    pub n: u64,
}

impl Record for ReleaseKeysHead {
    const VERSION: u32 = 1;
    const KIND: &'static str = "release keys head";
}

/// A key that may sign releases, or could.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseKeyRecord {
    /// What people call it.
    pub name: ReleaseKeyName,
    /// SubjectPublicKeyInfo, PEM.
    pub public_key: String,
    /// Products it may sign; none: all.
    pub products: Vec<ProductName>,
    /// Who registered it.
    pub by: String,
    /// When; 0: with the plant.
    pub at: UnixTime,
    /// Since when it signs nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<StateChange>,
    /// Since when others may have it, so that nothing counts that it signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised: Option<StateChange>,
}

impl ReleaseKeyRecord {
    /// Whether it may sign something new.
    #[must_use]
    pub const fn is_in_force(&self) -> bool {
        self.removed.is_none()
    }

    /// Whether it may sign releases of `product`.
    #[must_use]
    pub fn is_for(&self, product: &ProductName) -> bool {
        self.products.is_empty() || self.products.contains(product)
    }
}

impl Record for ReleaseKeyRecord {
    const VERSION: u32 = 2;
    const KIND: &'static str = "release key";

    /// Before version 2 there was one key, which was made with the plant and could not be removed.
    fn upgrade(from: u32, mut data: Value) -> Option<Value> {
        let fields = data.as_object_mut().filter(|_| from == 1)?;
        fields.insert("name".to_owned(), Value::from(ReleaseKeyName::first().as_str()));
        fields.insert("at".to_owned(), Value::from(0));
        Some(data)
    }
}

/// How many keys must sign a release of a product. Without a record it is one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ThresholdRecord {
    /// How many.
    pub needed: NonZeroU8,
    /// Since when.
    pub at: UnixTime,
    /// By whom.
    pub by: String,
}

impl Record for ThresholdRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "release threshold";
}

/// A key was compromised, until every device that last proved to run what it alone vouched for has lost its
/// certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Compromise {
    /// The key.
    pub key: Digest,
    /// When it was said.
    pub at: UnixTime,
    /// By whom.
    pub by: String,
}

impl Record for Compromise {
    const VERSION: u32 = 1;
    const KIND: &'static str = "compromise";
}

/// Key of a release key.
#[must_use]
pub fn release_key_key(id: &Digest) -> String {
    format!("{RELEASE_KEY}{}", id.hex())
}

/// Key of a product's threshold.
#[must_use]
pub fn threshold_key(product: &ProductName) -> String {
    format!("{THRESHOLD}{product}")
}

/// Key of a compromise.
#[must_use]
pub fn compromise_key(id: &Digest) -> String {
    format!("{COMPROMISE}{}", id.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::golden::ReleaseRecord;
    use crate::store::record::decode;

    #[test]
    fn the_key_of_an_older_plant_is_the_first_one_and_its_releases_needed_one() {
        let old = br#"{"v":1,"d":{"public_key":"PEM","products":[],"by":"ada"}}"#;
        let key: ReleaseKeyRecord = decode("release-key/00", old).unwrap();
        assert_eq!((key.name.as_str(), key.at, key.is_in_force()), ("init", UnixTime(0), true));
        assert!(key.is_for(&"edge".parse().unwrap()));
        let digest = Digest::of(b"");
        let old = format!(
            r#"{{"v":1,"d":{{"product":"edge","version":"1","counter":1,"state":{{"state":"active"}},"envelope":"{digest}",
            "manifest":"{digest}","signers":["{digest}"],"applied_at":1,"applied_by":"ada"}}}}"#
        );
        let release: ReleaseRecord = decode("release/edge/1", old.as_bytes()).unwrap();
        assert_eq!(release.needed, NonZeroU8::MIN);
    }
}
