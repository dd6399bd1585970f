//! What an observing zone would have refused, had it enforced: one record a zone and device.

use policy::appraisal::Finding;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Prefix of would-be refusals.
pub const WOULD: &str = "would/";
/// Reasons that are kept of the last one.
const MAX_REASONS: usize = 4;
/// Longest reason that is kept, in characters of up to four bytes: the record holds 4 KiB.
const MAX_REASON: usize = 200;

/// The would-be refusals of a device in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WouldRefuse {
    /// The first one.
    pub first: UnixTime,
    /// The last one.
    pub last: UnixTime,
    /// How many there were.
    pub count: u64,
    /// Why, the last time.
    pub reasons: Vec<String>,
}

impl Record for WouldRefuse {
    const VERSION: u32 = 1;
    const KIND: &'static str = "would-be refusal";
}

impl WouldRefuse {
    /// The record after one more, at `now` and for these reasons.
    #[must_use]
    pub fn again(known: Option<Self>, now: UnixTime, reasons: &[Finding]) -> Self {
        let told = reasons.iter().take(MAX_REASONS);
        let reasons = told.map(|reason| reason.sentence.chars().take(MAX_REASON).collect()).collect();
        let (first, count) = known.map_or((now, 0), |known| (known.first, known.count));
        Self { first, last: now, count: count.saturating_add(1), reasons }
    }
}

/// Prefix of a zone's would-be refusals.
#[must_use]
pub fn would_prefix(zone: &ZoneName) -> String {
    format!("{WOULD}{zone}/")
}

/// Key of the would-be refusals of a device in a zone.
#[must_use]
pub fn would_key(zone: &ZoneName, device: &DeviceName) -> String {
    format!("{WOULD}{zone}/{device}")
}
