//! A fault that runs in a staging zone, with the time at which it is over.

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Fault;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Prefix of drills, by zone: one at a time.
pub const DRILL: &str = "drill/";

/// A fault on purpose. It counts until its end and not a second longer, whoever forgets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// The zone, which is marked for it.
    pub zone: ZoneName,
    /// What is broken.
    pub fault: Fault,
    /// The device that it befalls; none: every device that is in this zone alone.
    pub device: Option<DeviceName>,
    /// By how many seconds answers are late; of [`Fault::Delay`] alone.
    pub delay: u64,
    /// Since when.
    pub began: UnixTime,
    /// Until when.
    pub ends: UnixTime,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Record for Drill {
    const VERSION: u32 = 1;
    const KIND: &'static str = "drill";
}

/// Key of the drill of a zone.
#[must_use]
pub fn drill_key(zone: &ZoneName) -> String {
    format!("{DRILL}{zone}")
}
