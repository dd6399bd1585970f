//! Moves of devices that wait for their window.

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Schedule;
use serde::{Deserialize, Serialize};

use super::person::{self, Person};
use crate::store::record::Record;

/// Prefix of moves, by device.
pub const MOVE: &str = "move/";

/// A move that begins when its window opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMove {
    /// Who moves.
    pub device: DeviceName,
    /// The zone that it leaves.
    pub from: ZoneName,
    /// The zone that it goes to.
    pub to: ZoneName,
    /// The hours in which it may begin.
    pub window: Schedule,
    /// Who asked for it.
    pub by: String,
    /// That person as an administrator, and who approved it, if two were needed. Not known of older records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<Person>,
    /// When.
    pub at: UnixTime,
    /// Why.
    pub reason: String,
}

impl PlannedMove {
    /// Everybody who stands for it, who asked for it first.
    #[must_use]
    pub fn people(&self) -> Vec<Person> {
        person::people(&self.people, &self.by)
    }
}

impl Record for PlannedMove {
    const VERSION: u32 = 1;
    const KIND: &'static str = "planned move";
}

/// Key of a device's planned move.
#[must_use]
pub fn move_key(device: &DeviceName) -> String {
    format!("{MOVE}{device}")
}
