//! What is accepted of a device by hand, for a time.

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Override;
use serde::{Deserialize, Serialize};

use super::{Held, RecordError, fetch};
use crate::store::record::Record;
use crate::store::{Expect, Store};

/// Prefix of overrides.
pub const OVERRIDE: &str = "override/";

/// The override of one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OverrideRecord {
    /// Whose.
    pub device: DeviceName,
    /// In which zones: a zone that the device is moved to later, nobody accepted it for.
    #[serde(default)]
    pub zones: Vec<ZoneName>,
    /// What is accepted, and until when.
    #[serde(flatten)]
    pub excused: Override,
    /// Since when.
    pub at: UnixTime,
    /// Who asked for it.
    pub by: String,
    /// Who approved it.
    pub approved_by: String,
    /// Why.
    pub reason: String,
}

impl Record for OverrideRecord {
    const VERSION: u32 = 1;
    const KIND: &'static str = "override";
}

impl OverrideRecord {
    /// What is accepted in `zone`.
    #[must_use]
    pub fn in_zone(&self, zone: &ZoneName) -> Option<&Override> {
        self.zones.contains(zone).then_some(&self.excused)
    }
}

/// Key of a device's override.
#[must_use]
pub fn override_key(device: &DeviceName) -> String {
    format!("{OVERRIDE}{device}")
}

/// What a decision about a device rests on: its override, or that it has none.
#[derive(Debug)]
pub struct Excused {
    key: String,
    held: Option<Held<OverrideRecord>>,
}

impl Excused {
    /// That of `device`.
    pub async fn of(store: &dyn Store, device: &DeviceName) -> Result<Self, RecordError> {
        let key = override_key(device);
        Ok(Self { held: fetch(store, key.clone()).await?, key })
    }

    /// What is accepted in `zone`.
    #[must_use]
    pub fn in_zone(&self, zone: &ZoneName) -> Option<&Override> {
        self.held.as_ref().map(|held| &held.record)?.in_zone(zone)
    }

    /// What a transaction compares, so that nothing is issued on an override that has gone.
    #[must_use]
    pub fn expected(&self) -> (String, Expect) {
        let expect = self.held.as_ref().map_or(Expect::Absent, |held| Expect::Version(held.version));
        (self.key.clone(), expect)
    }
}
