//! Devices, their TPMs and certificates, tokens, and those that wait for an administrator.

mod attested;
mod held;
mod inventory;
mod prover;
mod tpm;
mod waiting;

pub use self::attested::{ATTESTED, Attested, Decision, StoredLogs, attested_key};
pub use self::held::{
    CertifiedKeyOwner, HELD, HeldCertificate, HeldCertificates, Holder, KEY, MAX_HELD, certified_key,
    held_key, held_outside_key, held_place, held_prefix,
};
pub use self::inventory::{
    INVENTORY, Inventory, InventoryValue, MAX_INVENTORY, MAX_VALUE, Source, inventory_key,
};
pub use self::prover::{BoundAk, KeyLine, Prover, no_ek};
pub use self::tpm::{AK, AkOwner, BROKER, EK, MAX_OTHER_EKS, Quarantine, Tpm, ak_key, ek_key, other_ek_key};
pub use self::waiting::{PENDING, Pending, TOKEN, Token, pending_key, token_key};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use policy::digest::Digest;
use policy::evidence::key_order::Turn;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::short;
use crate::store::record::Record;

/// Prefix of devices.
pub const DEVICE: &str = "device/";
/// Services that one device may offer.
pub const MAX_SERVICES: usize = 16;
/// Zones that one device may be in: a gateway joins a few, never many.
pub const MAX_ZONES: usize = 8;
/// Addresses of a device in one zone, a few interfaces with both families: every certificate that it holds there may
/// name them all, and their record has at most 4 KiB.
pub const MAX_ADDRESSES: usize = 6;
/// Addresses of a device in all its zones: its record has at most 4 KiB, too.
pub const MAX_ALL_ADDRESSES: usize = 24;

/// What an administrator decided about a device. Trust is not stored here: it is the last
/// attestation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// May attest.
    Admitted,
    /// Retired for good.
    Retired,
}

/// A device of the plant. Its name belongs to one EK.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// Its zones, in order.
    pub zones: Vec<ZoneName>,
    /// Digest of its EK; without a TPM that of its IDevID
    /// ([`box_digest`](policy::evidence::devid::DevIdCertificate::box_digest)), or [`no_ek`].
    #[serde(with = "short")]
    pub ek: Digest,
    /// What it proves itself with.
    #[serde(default, skip_serializing_if = "Prover::is_tpm")]
    pub prover: Prover,
    /// The attestation key, once it was activated.
    pub ak: Option<BoundAk>,
    /// May it attest at all.
    pub admission: Admission,
    /// Who or what admitted it.
    pub admitted_by: String,
    /// When.
    pub admitted_at: UnixTime,
    /// Attestations that were committed; a challenge is used once because this rises.
    pub counter: u64,
    /// Services it offers: name and port.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, u16>,
    /// Sequence of the trust set that it held at its last attestation.
    #[serde(default)]
    pub trust_sequence: u64,
    /// Raised by an administrator's "attest now".
    pub asked: u64,
    /// What `asked` was at the last attestation: while it is less, the device is told.
    pub answered: u64,
    /// Set when counters of the TPM may have gone back for a known reason: the next attestation sets
    /// them anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_excused: bool,
    /// Until then one fall of the TPM's reset count is the Clear that an administrator announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_expected: Option<UnixTime>,
    /// The zone that it leaves for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// IP addresses that its certificates may name, by zone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<ZoneName, BTreeSet<IpAddr>>,
}

/// Whose device it is, and who let it in.
#[derive(Debug)]
pub struct Admitted {
    /// Its name.
    pub name: DeviceName,
    /// Digest of its EK; [`no_ek`] without a TPM.
    pub ek: Digest,
    /// What it is to prove itself with.
    pub prover: Prover,
    /// Its zones.
    pub zones: Vec<ZoneName>,
    /// Who or what admitted it.
    pub by: String,
    /// When.
    pub at: UnixTime,
}

impl Device {
    /// A device that was just admitted, and did not prove itself yet.
    #[must_use]
    pub fn new(admitted: Admitted) -> Self {
        let Admitted { name, ek, prover, zones, by, at } = admitted;
        Self {
            name,
            zones,
            ek,
            prover,
            ak: None,
            admission: Admission::Admitted,
            admitted_by: by,
            admitted_at: at,
            counter: 0,
            services: BTreeMap::new(),
            trust_sequence: 0,
            asked: 0,
            answered: 0,
            clock_excused: false,
            clear_expected: None,
            leaving: None,
            addresses: BTreeMap::new(),
        }
    }

    /// Its keys, if it has no TPM.
    #[must_use]
    pub const fn key_line(&self) -> Option<KeyLine> {
        match self.prover {
            Prover::Tpm => None,
            Prover::Key(line) => Some(line),
        }
    }

    /// The turn of its current key, if it has no TPM.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let KeyLine { epoch, generation, .. } = self.key_line()?;
        Some(Turn { epoch, line: self.admitted_at, generation })
    }

    /// Whether the key with this digest is the one that it proves itself with now.
    #[must_use]
    pub fn has_key(&self, key: Digest) -> bool {
        self.ak.as_ref().is_some_and(|ak| *ak.name.0 == key.0)
    }
}

impl Device {
    /// Ends a move that is under way: the device is out of the zone that it was leaving, arrived or not. Who lets it in
    /// again puts it where it was to be.
    pub fn end_move(&mut self) {
        if let Some(leaving) = self.leaving.take() {
            self.zones.retain(|zone| *zone != leaving.from);
            self.addresses.remove(&leaving.from);
        }
    }
}

/// For how many seconds a device that moves gets new certificates of the zone that it leaves: within a week somebody
/// has seen that the new zone does not take it, and moves it back or mends it.
const MOST_MOVING: u64 = 7 * 86_400;

/// A move that is under way: the device is in both zones until it says that it delivered the certificates of the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The zone that it leaves.
    pub from: ZoneName,
    /// The zone that it goes to.
    pub to: ZoneName,
    /// Since when.
    pub since: UnixTime,
}

impl Leaving {
    /// The last moment at which the device gets new certificates of the zone that it leaves.
    #[must_use]
    pub const fn due(&self) -> UnixTime {
        self.since.plus(MOST_MOVING)
    }
}

impl Record for Device {
    const VERSION: u32 = 2;
    const KIND: &'static str = "device";

    fn upgrade(from: u32, data: Value) -> Option<Value> {
        short::long_digests(from, data)
    }
}

/// Key of a device.
#[must_use]
pub fn device_key(name: &DeviceName) -> String {
    format!("{DEVICE}{name}")
}
