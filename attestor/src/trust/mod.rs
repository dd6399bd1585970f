//! The trust set: which authorities each service of this device believes, signed under the plant root.
//!
//! Promises: a [`TrustSet`] was signed by an issuing certificate of the pinned plant that no newer one has replaced, is
//! for this device, is not older than the last one, and every index, name and certificate in it can be used.
//! Does not promise: that it is the newest there is. Only the broker knows, and says so through Watch.

mod content;
mod judge;
mod signature;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::access::KnownAuthority;
use policy::id::{DeviceName, PlantDomain, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{self, GateRules, Hours, Schedule, Way};
use prost::Message;
use proto::v1::SignedTrustSet;
use serde::{Deserialize, Serialize};

use crate::plant::PlantRoot;
use crate::role::Role;
use crate::state::State;

pub use judge::{About, Judge};
pub use signature::{SignatureFault, verify_heartbeat};

/// Longest trust set in bytes: some hundred authorities with CRLs of a few thousand entries. It travels in one
/// message, see [`crate::client::MAX_MESSAGE`].
pub const MAX_TRUST_SET: usize = 12 * 1024 * 1024;

/// A verified trust set.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustSet {
    signed: SignedTrustSet,
    issuing_number: u32,
    sequence: u64,
    issued_at: UnixTime,
    authorities: Vec<Believed>,
    files: Vec<TrustFile>,
    nobody: Authority,
    reattest_every: BTreeMap<ZoneName, Duration>,
    gates: BTreeMap<ZoneName, GateRules>,
    /// JWK Set.
    grant_keys: String,
}

/// An authority of a zone, with the serial numbers of what it revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Believed {
    authority: Authority,
    zone: ZoneName,
    role: Role,
    revoked: BTreeSet<Vec<u8>>,
}

/// An authority with its CRL, DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The authority's certificate.
    pub certificate: Vec<u8>,
    /// Its CRL.
    pub crl: Vec<u8>,
}

/// Who may be at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Others open connections to the service of this device.
    Inbound,
    /// This device opens connections to the service of others.
    Outbound,
}

impl Direction {
    /// The direction in lower case, as files are named.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// The direction as decisions know it.
    #[must_use]
    pub const fn to_policy(self) -> zone::Direction {
        match self {
            Self::Inbound => zone::Direction::Inbound,
            Self::Outbound => zone::Direction::Outbound,
        }
    }
}

/// Which trust file it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The device's zone that the file is for.
    pub zone: ZoneName,
    /// The service.
    pub service: ServiceName,
    /// The direction.
    pub direction: Direction,
}

/// The authorities that one direction of one service believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFile {
    /// The device's zone that the file is for.
    pub zone: ZoneName,
    /// The service.
    pub service: ServiceName,
    /// The direction.
    pub direction: Direction,
    /// Indices into the set's authorities, all of them valid.
    authorities: Vec<usize>,
    /// Authorities that are believed in certain hours only; none of them is in the list above.
    openings: Vec<Opening>,
    /// Every zone at the other end, open or not.
    ways: Vec<Way>,
}

/// An authority that is believed in certain hours only.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Opening {
    authority: usize,
    schedule: Option<Schedule>,
    expires: Option<UnixTime>,
}

impl Opening {
    const fn hours(&self) -> Hours<'_> {
        Hours { schedule: self.schedule.as_ref(), expires: self.expires }
    }
}

impl TrustFile {
    /// Which file it is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { zone: self.zone.clone(), service: self.service.clone(), direction: self.direction }
    }

    /// The authorities that it believes at `now`.
    fn believed(&self, now: UnixTime) -> impl Iterator<Item = usize> {
        let open = self.openings.iter().filter(move |opening| opening.hours().is_open(now));
        self.authorities.iter().copied().chain(open.map(|opening| opening.authority))
    }
}

impl Believed {
    fn known(&self) -> KnownAuthority<'_> {
        KnownAuthority {
            zone: &self.zone,
            role: match self.role {
                Role::Caller => zone::Role::Caller,
                Role::Listener => zone::Role::Listener,
            },
            certificate: &self.authority.certificate,
            revoked: &self.revoked,
        }
    }
}

/// A trust set is refused.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It exceeds its bound.
    #[error(
        "the trust set has {length} bytes; at most {MAX_TRUST_SET} are read: the plant has too many conduits"
    )]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// It is not signed under the plant root.
    #[error(
        "the trust set is not the plant's: {0}; the broker may not be the plant's, tell its administrator"
    )]
    NotSigned(SignatureFault),
    /// It cannot be read.
    #[error("the trust set is malformed: {0}; the broker is newer than this attestor or faulty")]
    Malformed(String),
    /// The key that signed it was replaced.
    #[error(
        "the trust set is signed by issuing key {number} of the plant, and {seen} has taken its place; a thief or an \
         old backup is at work: tell the broker's administrator, who makes a new key with `touchstone-broker recover \
         --issuing-key`"
    )]
    Replaced {
        /// The number of the key.
        number: u32,
        /// The highest number seen.
        seen: u32,
    },
    /// It was made for another device.
    #[error("the trust set is for device `{named}`, and this is `{device}`; tell the broker's administrator")]
    OtherDevice {
        /// Whom it is for.
        named: String,
        /// Who this is.
        device: DeviceName,
    },
    /// It is older than the last one.
    #[error(
        "the trust set has sequence {sequence}, and {floor} was seen before; an old broker or backup runs: \
         restore it with a new plant epoch"
    )]
    Older {
        /// Its sequence.
        sequence: u64,
        /// The highest seen.
        floor: u64,
    },
}

/// What a trust set is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The pinned root.
    pub root: &'a PlantRoot,
    /// The plant's domain, which authorities' zones belong to.
    pub plant: &'a PlantDomain,
    /// This device.
    pub device: &'a DeviceName,
    /// The newest that was seen.
    pub seen: Seen,
}

/// The newest of the plant that a device saw: what is older is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The highest sequence of a trust set.
    pub sequence: u64,
    /// The highest number of an issuing key.
    pub issuing_number: u32,
}

impl Seen {
    /// The newest that a device with this state saw.
    #[must_use]
    pub const fn of(state: &State) -> Self {
        Self { sequence: state.trust_sequence, issuing_number: state.issuing_number }
    }
}

impl TrustSet {
    /// Verifies a trust set that the broker sent.
    pub fn verify(
        signed: SignedTrustSet,
        expected: &Expected<'_>,
        now: UnixTime,
    ) -> Result<Self, TrustError> {
        let set = Self::open(signed, expected, Some(now))?;
        let (number, seen) = (set.issuing_number, expected.seen);
        if number < seen.issuing_number {
            return Err(TrustError::Replaced { number, seen: seen.issuing_number });
        }
        match set.sequence < seen.sequence {
            true => Err(TrustError::Older { sequence: set.sequence, floor: seen.sequence }),
            false => Ok(set),
        }
    }

    /// Verifies the device's own stored trust set, whose issuing certificate may have ended since.
    pub fn recall(bytes: &[u8], expected: &Expected<'_>) -> Result<Self, TrustError> {
        let signed =
            SignedTrustSet::decode(bytes).map_err(|error| TrustError::Malformed(error.to_string()))?;
        Self::open(signed, expected, None)
    }

    fn open(
        signed: SignedTrustSet,
        expected: &Expected<'_>,
        now: Option<UnixTime>,
    ) -> Result<Self, TrustError> {
        let length = signed.encoded_len();
        if length > MAX_TRUST_SET {
            return Err(TrustError::TooLong { length });
        }
        let issuer =
            signature::verify(&signed, expected.root, expected.plant).map_err(TrustError::NotSigned)?;
        let set = content::parse(signed, expected, issuer.number)?;
        if let Some(now) = now {
            // A device without a clock of its own learns the time from what it verifies.
            issuer.holds_at(now.max(set.issued_at)).map_err(TrustError::NotSigned)?;
        }
        Ok(set)
    }

    /// Plant epoch and number; higher is newer.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Number of the issuing key that signed it.
    #[must_use]
    pub const fn issuing_number(&self) -> u32 {
        self.issuing_number
    }

    /// When the broker signed it.
    #[must_use]
    pub const fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// The bytes to keep; [`TrustSet::recall`] reads them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.signed.encode_to_vec()
    }

    /// The shortest interval at which one of these zones wants proof; None if none of them says so.
    #[must_use]
    pub fn reattest_every(&self, zones: &[ZoneName]) -> Option<Duration> {
        zones.iter().filter_map(|zone| self.reattest_every.get(zone)).min().copied()
    }

    /// What gates of `zone` do when trust is lost, and while the broker is not heard.
    #[must_use]
    pub fn gate_rules(&self, zone: &ZoneName) -> GateRules {
        self.gates.get(zone).copied().unwrap_or_default()
    }

    /// The first second after `now` at which a file believes others, without any word from the broker.
    #[must_use]
    pub fn next_edge(&self, now: UnixTime) -> Option<UnixTime> {
        let openings = self.files.iter().flat_map(|file| &file.openings).map(Opening::hours);
        // An ACL goes by the way itself, whoever signs for its zone.
        let ways = self.files.iter().flat_map(|file| &file.ways).map(Way::hours);
        openings.chain(ways).filter_map(|hours| hours.next_edge(now)).min()
    }

    /// Which trust files there are.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.files.iter().map(TrustFile::place)
    }

    /// The authority that nobody holds the key of.
    #[must_use]
    pub const fn nobody(&self) -> &Authority {
        &self.nobody
    }

    /// The zones of this device that have a trust file for `service`.
    pub fn listing(&self, service: &ServiceName, direction: Direction) -> impl Iterator<Item = &ZoneName> {
        let of = move |file: &&TrustFile| file.service == *service && file.direction == direction;
        self.files.iter().filter(of).map(|file| &file.zone)
    }

    /// Whether a conduit, or the zone itself, lets devices of `from` into `service` of this device in `zone` at `now`.
    #[must_use]
    pub fn lets_in(&self, zone: &ZoneName, service: &ServiceName, from: &ZoneName, now: UnixTime) -> bool {
        let of = |file: &&TrustFile| {
            (&file.zone, &file.service, file.direction) == (zone, service, Direction::Inbound)
        };
        let mut ways = self.files.iter().filter(of).flat_map(|file| &file.ways);
        ways.any(|way| way.zone == *from && way.hours().is_open(now))
    }

    /// The public keys that sign grants, as a JWK Set; empty if there is none yet.
    #[must_use]
    pub fn grant_keys(&self) -> &str {
        &self.grant_keys
    }

    /// The authorities that the file at `place` believes at `now`, with the zones that they are of; none if there is no
    /// such file.
    pub fn believed(&self, place: &Place, now: UnixTime) -> impl Iterator<Item = (&ZoneName, &Authority)> {
        let file = self.files.iter().find(move |file| file.place() == *place);
        let indices = file.into_iter().flat_map(move |file| file.believed(now));
        indices.filter_map(|index| self.authorities.get(index)).map(|one| (&one.zone, &one.authority))
    }

    /// The trust files at `now`, each with the authorities it believes: at least one, the authority that nobody holds
    /// the key of if there is no other. An empty file would make some software not start, or not check.
    pub fn files(&self, now: UnixTime) -> impl Iterator<Item = (&TrustFile, Vec<&Authority>)> {
        self.files.iter().map(move |file| {
            let mut authorities: Vec<&Authority> = file
                .believed(now)
                .filter_map(|index| self.authorities.get(index))
                .map(|one| &one.authority)
                .collect();
            if authorities.is_empty() {
                authorities.push(&self.nobody);
            }
            (file, authorities)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
