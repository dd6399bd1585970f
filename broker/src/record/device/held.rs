//! The certificates that a device holds, and whose the keys in them are.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use policy::digest::Digest;
use policy::id::{DeviceName, ServiceName, WorkloadName, ZoneName};
use policy::time::{UnixTime, Validity};
use policy::zone::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::short;
use crate::store::record::Record;

/// Prefix of certified keys.
pub const KEY: &str = "key/";
/// Prefix of the certificates that a device holds.
pub const HELD: &str = "held/";
/// What stands before the name of a workload there, where that of a service stands by itself.
const WORKLOAD: &str = "workload/";
/// Certificates of one zone and role that a device may hold at once. It replaces one after a third of
/// its life, so an honest device holds three.
pub const MAX_HELD: usize = 4;

/// A certificate that the device holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldCertificate {
    /// Caller or listener.
    pub role: Role,
    /// Generation of the authority that signed it.
    pub generation: u32,
    /// Serial, hex.
    pub serial: String,
    /// Digest of the certified key.
    #[serde(with = "short")]
    pub spki: Digest,
    /// When it holds.
    pub validity: Validity,
    /// The service that has the key in software; without it and a workload it is the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The workload that it names, which has the key in software too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadName>,
    /// IP addresses that it names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub addresses: BTreeSet<IpAddr>,
}

/// What a certificate of a device is for whose key is in software.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The server of a service that the device offers.
    Service(ServiceName),
    /// A workload on it.
    Workload(WorkloadName),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "{service}"),
            Self::Workload(workload) => write!(f, "workload {workload}"),
        }
    }
}

impl HeldCertificate {
    /// Who has the key in software; None: it is in the TPM.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        let service = self.service.clone().map(Holder::Service);
        service.or_else(|| self.workload.clone().map(Holder::Workload))
    }
}

/// The certificates of one zone, or of one holder's software keys in it, that were issued to a device and have not ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HeldCertificates {
    /// Oldest first.
    pub certificates: Vec<HeldCertificate>,
}

impl Record for HeldCertificates {
    const VERSION: u32 = 2;
    const KIND: &'static str = "held certificates";

    fn upgrade(from: u32, data: Value) -> Option<Value> {
        short::long_digests(from, data)
    }
}

/// Whose a certified key is: a key is never certified for two zones, roles or devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedKeyOwner {
    /// The device.
    pub device: DeviceName,
    /// The zone.
    pub zone: ZoneName,
    /// The role.
    pub role: Role,
    /// When the certificate of a key in software ends, for which alone it was made: the key comes no more. None of a key
    /// in a TPM, which is certified again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixTime>,
}

impl Record for CertifiedKeyOwner {
    const VERSION: u32 = 1;
    const KIND: &'static str = "certified key";
}

/// Prefix of the certificates that a device holds, by zone.
#[must_use]
pub fn held_prefix(name: &DeviceName) -> String {
    format!("{HELD}{name}/")
}

/// Key of the certificates that a device holds in a zone.
#[must_use]
pub fn held_key(name: &DeviceName, zone: &ZoneName) -> String {
    format!("{HELD}{name}/{zone}")
}

/// Key of the certificates for the software keys of one holder on a device in a zone.
#[must_use]
pub fn held_outside_key(name: &DeviceName, zone: &ZoneName, holder: &Holder) -> String {
    match holder {
        Holder::Service(service) => format!("{HELD}{name}/{zone}/{service}"),
        Holder::Workload(workload) => format!("{HELD}{name}/{zone}/{WORKLOAD}{workload}"),
    }
}

/// The zone, and the holder if it is one of software keys, of a record of certificates, from what follows
/// [`held_prefix`] in its key.
#[must_use]
pub fn held_place(rest: &str) -> Option<(ZoneName, Option<Holder>)> {
    let Some((zone, holder)) = rest.split_once('/') else { return Some((rest.parse().ok()?, None)) };
    let holder = match holder.strip_prefix(WORKLOAD) {
        Some(workload) => Holder::Workload(workload.parse().ok()?),
        None => Holder::Service(holder.parse().ok()?),
    };
    Some((zone.parse().ok()?, Some(holder)))
}

/// Key of a certified key.
#[must_use]
pub fn certified_key(spki: &Digest) -> String {
    format!("{KEY}{}", spki.hex())
}
