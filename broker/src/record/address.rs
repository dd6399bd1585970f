//! Whose an IP address is in a zone: two devices never have certificates for the same one.

use std::net::IpAddr;

use policy::id::{DeviceName, ZoneName};
use serde::{Deserialize, Serialize};

use crate::store::record::Record;

/// Prefix of addresses, by zone: plants use the same addresses in each of their cells.
pub const ADDRESS: &str = "address/";

/// Who has an address. It counts as long as the device's own record has it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressOwner {
    /// The device.
    pub device: DeviceName,
}

impl Record for AddressOwner {
    const VERSION: u32 = 1;
    const KIND: &'static str = "address";
}

/// Key of an address.
#[must_use]
pub fn address_key(zone: &ZoneName, address: IpAddr) -> String {
    format!("{ADDRESS}{zone}/{address}")
}
