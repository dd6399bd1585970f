//! What is known of a device besides what it proves.

use std::collections::BTreeMap;

use policy::id::DeviceName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Prefix of inventories.
pub const INVENTORY: &str = "inventory/";
/// Inventory values of one device, each at most [`MAX_VALUE`] bytes: a record has at most 4 KiB.
pub const MAX_INVENTORY: usize = 16;
/// Longest inventory name or value in bytes.
pub const MAX_VALUE: usize = 48;

/// Where an inventory value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An administrator or a supplier's list says so.
    Vouched,
    /// The device says so.
    Declared,
    /// Bound to verified evidence.
    Attested,
}

/// A property of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InventoryValue {
    /// The value.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
    /// Since when.
    pub at: UnixTime,
}

/// What is known of a device besides what it proves, by name of the property.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// At most [`MAX_INVENTORY`] values.
    pub values: BTreeMap<String, InventoryValue>,
}

impl Record for Inventory {
    const VERSION: u32 = 1;
    const KIND: &'static str = "inventory";
}

/// Key of a device's inventory.
#[must_use]
pub fn inventory_key(name: &DeviceName) -> String {
    format!("{INVENTORY}{name}")
}
