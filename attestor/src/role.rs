//! The two sides of a connection, and the certificates a device has for them.

use std::fmt;

use policy::id::ZoneName;
use serde::{Deserialize, Serialize};

use crate::trust::Direction;

/// Which of a zone's two authorities a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Opens connections: client certificates.
    Caller,
    /// Accepts connections: server certificates.
    Listener,
}

impl Role {
    /// Both roles; a device has a key and a certificate for each in every zone.
    pub const ALL: [Self; 2] = [Self::Caller, Self::Listener];

    /// The role in lower case, as files are named.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Listener => "listener",
        }
    }

    /// The role of a wire message; None if it states none.
    #[must_use]
    pub const fn from_wire(role: proto::v1::Role) -> Option<Self> {
        match role {
            proto::v1::Role::Caller => Some(Self::Caller),
            proto::v1::Role::Listener => Some(Self::Listener),
            proto::v1::Role::Unspecified => None,
        }
    }

    /// The direction of connections that this side sees.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::Caller => Direction::Outbound,
            Self::Listener => Direction::Inbound,
        }
    }

    /// The role on the wire.
    #[must_use]
    pub const fn to_wire(self) -> proto::v1::Role {
        match self {
            Self::Caller => proto::v1::Role::Caller,
            Self::Listener => proto::v1::Role::Listener,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a key and its certificate belong: one zone and one role. No key serves two of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat {
    /// The zone.
    pub zone: ZoneName,
    /// The role.
    pub role: Role,
}

impl Seat {
    /// All seats of these zones, in a stable order.
    pub fn of_zones(zones: &[ZoneName]) -> impl Iterator<Item = Self> {
        zones.iter().flat_map(|zone| Role::ALL.map(|role| Self { zone: zone.clone(), role }))
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in zone {}", self.role, self.zone)
    }
}
