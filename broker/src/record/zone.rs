//! Zones, conduits, authorities and what they revoked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::time::UnixTime;
pub use policy::zone::GenerationState as AuthorityState;
use policy::zone::{Conduit, Generation, Role, Subnet, Zone};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Bytes;
use crate::ca::Serial;
use crate::store::record::Record;

/// Prefix of zones.
pub const ZONE: &str = "zone/";
/// Prefix of conduits.
pub const CONDUIT: &str = "conduit/";
/// Prefix of authorities.
pub const AUTHORITY: &str = "authority/";
/// Prefix of revoked certificates.
pub const REVOKED: &str = "revoked/";

/// Prefix of changes of rules that have not reached every device yet.
pub const REAPPRAISAL: &str = "reappraisal/";
/// Prefix of narrower subnets, by zone.
pub const NARROWING: &str = "narrowing/";

impl Record for Zone {
    /// 2: it says whether it allows software keys. 3: and whether changes need two people. 4: and what it is for.
    const VERSION: u32 = 4;
    const KIND: &'static str = "zone";

    /// A zone of version 1 allows none, one of version 2 asks for one person, one of version 3 is for nothing that was said:
    /// the defaults.
    fn upgrade(from: u32, data: Value) -> Option<Value> {
        (1..Self::VERSION).contains(&from).then_some(data)
    }
}

impl Record for Conduit {
    /// 2: it may have hours.
    const VERSION: u32 = 2;
    const KIND: &'static str = "conduit";

    /// A conduit of version 1 is open at all hours: the default.
    fn upgrade(from: u32, data: Value) -> Option<Value> {
        (from == 1).then_some(data)
    }
}

/// Other rules of a zone, until whoever holds certificates in it was judged by them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reappraisal {
    /// The zone.
    pub zone: ZoneName,
    /// Since when its rules hold.
    pub at: UnixTime,
    /// Who changed them.
    pub by: String,
}

impl Record for Reappraisal {
    const VERSION: u32 = 1;
    const KIND: &'static str = "change of rules";
}

/// Narrower subnets of a zone, until no certificate names an address outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Narrowing {
    /// The zone.
    pub zone: ZoneName,
    /// From then on what still names such an address is revoked.
    pub due: UnixTime,
    /// Whether the devices were asked to replace what they hold.
    pub asked: bool,
}

impl Record for Narrowing {
    const VERSION: u32 = 1;
    const KIND: &'static str = "narrower subnets";
}

/// One generation of one of a zone's two authorities.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// The zone.
    pub zone: ZoneName,
    /// Caller or listener.
    pub role: Role,
    /// Counts the authorities of this zone and role.
    pub generation: u32,
    /// DER.
    pub certificate: Bytes,
    /// PKCS#8 under the KEK.
    pub wrapped_key: Bytes,
    /// When the certificate ends.
    pub not_after: UnixTime,
    /// When the certificate begins; not known of one that was made by an earlier version.
    #[serde(default)]
    pub not_before: Option<UnixTime>,
    /// Where it is in its life.
    pub state: AuthorityState,
    /// Since when.
    #[serde(default)]
    pub since: UnixTime,
    /// Sequence of the first trust sets that it is in.
    #[serde(default)]
    pub published: u64,
    /// Subnets whose addresses it may name in what it signs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub subnets: BTreeSet<Subnet>,
}

impl AuthorityRecord {
    /// The authority as its life is decided on; `life` is how long its kind lives, in seconds.
    #[must_use]
    pub fn generation(&self, life: u64) -> Generation {
        Generation {
            number: self.generation,
            state: self.state,
            since: self.since,
            published: self.published,
            not_before: self.not_before.unwrap_or_else(|| self.not_after.minus(life)),
            not_after: self.not_after,
        }
    }

    /// Whether it may name `address` in what it signs.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(address))
    }

    /// The authority in another state from `now` on.
    #[must_use]
    pub fn turned(&self, state: AuthorityState, now: UnixTime) -> Self {
        Self { state, since: now, ..self.clone() }
    }
}

impl Record for AuthorityRecord {
    /// 2: it says since when it is what it is, and since when it is published.
    const VERSION: u32 = 2;
    const KIND: &'static str = "authority";

    /// One of version 1 is active for as long as anybody remembers: the defaults.
    fn upgrade(from: u32, data: Value) -> Option<Value> {
        (from == 1).then_some(data)
    }
}

/// One revoked certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RevokedCertificate {
    /// Whose it was.
    pub device: DeviceName,
    /// When.
    pub at: UnixTime,
    /// Why, for people.
    pub reason: String,
    /// When the certificate ends: the entry may be dropped after that.
    pub not_after: UnixTime,
}

impl Record for RevokedCertificate {
    const VERSION: u32 = 1;
    const KIND: &'static str = "revocation";
}

/// The name of a role in keys and messages.
#[must_use]
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Caller => "caller",
        Role::Listener => "listener",
    }
}

/// Key of a zone's change of rules.
#[must_use]
pub fn reappraisal_key(zone: &ZoneName) -> String {
    format!("{REAPPRAISAL}{zone}")
}

/// Key of a zone's narrower subnets.
#[must_use]
pub fn narrowing_key(zone: &ZoneName) -> String {
    format!("{NARROWING}{zone}")
}

/// Key of a zone.
#[must_use]
pub fn zone_key(zone: &ZoneName) -> String {
    format!("{ZONE}{zone}")
}

/// Key of a conduit.
#[must_use]
pub fn conduit_key(from: &ZoneName, to: &ZoneName, service: &ServiceName) -> String {
    format!("{CONDUIT}{from}/{to}/{service}")
}

/// Prefix of the authorities of one zone and role.
#[must_use]
pub fn authority_prefix(zone: &ZoneName, role: Role) -> String {
    format!("{AUTHORITY}{zone}/{}/", role_name(role))
}

/// Key of an authority.
#[must_use]
pub fn authority_key(zone: &ZoneName, role: Role, generation: u32) -> String {
    format!("{}{generation:010}", authority_prefix(zone, role))
}

/// Prefix of what one authority revoked.
#[must_use]
pub fn revoked_prefix(zone: &ZoneName, role: Role, generation: u32) -> String {
    format!("{REVOKED}{zone}/{}/{generation:010}/", role_name(role))
}

/// Key of a revoked certificate.
#[must_use]
pub fn revoked_key(zone: &ZoneName, role: Role, generation: u32, serial: Serial) -> String {
    format!("{}{}", revoked_prefix(zone, role, generation), serial.hex())
}

#[cfg(test)]
mod tests {
    use policy::zone::SoftwareKeys;

    use super::*;
    use crate::store::record::{decode, encode};

    #[test]
    fn a_zone_of_version_1_allows_no_software_keys() {
        let zone = Zone::new("cell-3".parse().unwrap());
        let written = String::from_utf8(encode(&zone).unwrap()).unwrap();
        let old = written.replace("\"v\":4", "\"v\":1").replace("\"function\":null,", "");
        let old = old.replace(",\"software_keys\":\"refuse\"", "").replace(",\"two_person\":false", "");
        assert!(old.contains("\"v\":1") && !old.contains("software_keys") && !old.contains("two"), "{old}");
        let read: Zone = decode("zone/cell-3", old.as_bytes()).unwrap();
        assert_eq!((read.software_keys, &read), (SoftwareKeys::Refuse, &zone));
    }
}
