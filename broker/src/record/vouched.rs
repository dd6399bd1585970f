//! Machines without a Touchstone of their own that a gateway vouches for: entries of the inventory, no keys.

use policy::id::DeviceName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Prefix of what gateways state, by gateway and machine.
pub const VOUCHED: &str = "vouched/";
/// Prefix of the names of machines that were accepted.
pub const MACHINE: &str = "machine/";
/// Most machines behind one gateway.
pub const MAX_MACHINES: usize = 16;

/// What is said of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// What it is, for example PLC; never empty.
    pub kind: String,
    /// Where it is reached behind the gateway; may be empty.
    pub address: String,
    /// Its serial number; may be empty.
    pub serial: String,
}

/// Who accepted a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The administrator.
    pub by: String,
    /// When.
    pub at: UnixTime,
}

/// A machine behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: DeviceName,
    /// The device that vouches for it.
    pub gateway: DeviceName,
    /// What is said of it.
    pub about: About,
    /// Since when the gateway states it so; none: it does not, or not any more.
    pub stated: Option<UnixTime>,
    /// Who accepted it so; none: nobody, and it counts for nothing.
    pub accepted: Option<Accepted>,
}

impl Record for Machine {
    const VERSION: u32 = 1;
    const KIND: &'static str = "vouched machine";
}

/// Behind which gateway the machine of an accepted name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineOwner {
    /// The gateway.
    pub gateway: DeviceName,
}

impl Record for MachineOwner {
    const VERSION: u32 = 1;
    const KIND: &'static str = "machine name";
}

/// Prefix of the machines behind a gateway.
#[must_use]
pub fn vouched_prefix(gateway: &DeviceName) -> String {
    format!("{VOUCHED}{gateway}/")
}

/// Key of a machine behind a gateway.
#[must_use]
pub fn vouched_key(gateway: &DeviceName, machine: &DeviceName) -> String {
    format!("{VOUCHED}{gateway}/{machine}")
}

/// Key of the name of an accepted machine.
#[must_use]
pub fn machine_key(machine: &DeviceName) -> String {
    format!("{MACHINE}{machine}")
}
