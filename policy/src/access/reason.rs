//! Why a peer may not open a service, and what to do about it.

use crate::id::{DeviceName, ServiceName, SpiffeId, ZoneName};
use crate::time::UnixTime;
use crate::zone::Role;
use crate::zone::authorize::Refusal;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The certificate cannot be read.
    #[error("the peer's certificate cannot be read: {0}")]
    Malformed(String),
    /// It is no certificate of a device of this plant, or of a workload on one.
    #[error("the peer's certificate names no device of this plant: {0}")]
    Foreign(String),
    /// The device that is asked about its own service does not offer it.
    #[error("this device offers no {service} in zone {zone}")]
    NotOffered {
        /// Its zone.
        zone: ZoneName,
        /// The service.
        service: ServiceName,
    },
    /// No device of the zone offers the service, and no conduit leads to it.
    #[error("zone {zone} neither offers nor reaches a service {service}")]
    NotReached {
        /// The zone of the device that asks.
        zone: ZoneName,
        /// The service.
        service: ServiceName,
    },
    /// Zones and conduits do not allow it.
    #[error(transparent)]
    NoWay(#[from] Refusal),
    /// No authority that is believed signed the certificate.
    #[error("no {} authority of zone {zone} that is believed here signed the certificate of {peer}", name(*.role))]
    UnknownAuthority {
        /// The zone that the certificate names.
        zone: ZoneName,
        /// Which of its authorities should have signed.
        role: Role,
        /// Whom it names.
        peer: SpiffeId,
    },
    /// The certificate begins later.
    #[error("the certificate of {peer} begins at {at}")]
    NotYet {
        /// Whose it is.
        peer: SpiffeId,
        /// When it begins.
        at: UnixTime,
    },
    /// The certificate is over.
    #[error("the certificate of {peer} ended at {at}")]
    Ended {
        /// Whose it is.
        peer: SpiffeId,
        /// Its last second.
        at: UnixTime,
    },
    /// The certificate was revoked.
    #[error("the certificate of {peer} with serial {serial} is revoked")]
    Revoked {
        /// Whose it is.
        peer: SpiffeId,
        /// Its serial, hex.
        serial: String,
    },
    /// The device has no certificate with which it could open anything. Only where no certificate is asked about.
    #[error("{device} holds no certificate to open connections with in zone {zone}")]
    NoCertificate {
        /// The device.
        device: DeviceName,
        /// Its zone.
        zone: ZoneName,
    },
    /// Nobody offers the service. Only where no device is asked that would.
    #[error("no device of zone {zone} offers {service}")]
    NobodyOffers {
        /// The zone.
        zone: ZoneName,
        /// The service.
        service: ServiceName,
    },
}

const fn name(role: Role) -> &'static str {
    match role {
        Role::Caller => "caller",
        Role::Listener => "listener",
    }
}

impl Reason {
    /// The reason in one word, for programs. It never changes its meaning.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Foreign(_) => "foreign",
            Self::NotOffered { .. } => "not-offered",
            Self::NotReached { .. } => "not-reached",
            Self::NoWay(refusal) => refusal.code(),
            Self::UnknownAuthority { .. } => "unknown-authority",
            Self::NotYet { .. } => "not-yet-valid",
            Self::Ended { .. } => "ended",
            Self::Revoked { .. } => "revoked",
            Self::NoCertificate { .. } => "no-certificate",
            Self::NobodyOffers { .. } => "nobody-offers",
        }
    }

    /// What to do about it: a command where one helps.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Malformed(_) => {
                "pass the certificate that the peer showed, alone, as PEM or DER".to_owned()
            }
            Self::Foreign(_) => {
                "let the peer show the certificate that its attestor delivers (caller.pem), or that of its Workload API"
                    .to_owned()
            }
            Self::NotOffered { service, .. } | Self::NobodyOffers { service, .. } => {
                format!(
                    "name the service {service} in a [[service]] of attestor.toml on the device that offers it"
                )
            }
            Self::NotReached { zone, service } => {
                format!("touchstone conduit allow --from {zone} --to ZONE --service {service}")
            }
            Self::NoWay(refusal) => refusal.remedy(),
            Self::UnknownAuthority { peer, .. } if peer.workload().is_some() => {
                "let the peer show what its Workload API says now; who serves cannot open with that, nor the other way"
                    .to_owned()
            }
            Self::UnknownAuthority { role: Role::Caller, .. } => {
                "let the peer show its newest caller.pem; a server's certificate opens nothing".to_owned()
            }
            Self::UnknownAuthority { role: Role::Listener, .. } => {
                "let the server show its newest listener.pem; a caller's certificate serves nothing"
                    .to_owned()
            }
            Self::NotYet { .. } => "compare the clocks of this host, the peer and the broker".to_owned(),
            Self::Ended { peer, .. } | Self::Revoked { peer, .. } => {
                format!("touchstone device why {}", peer.device())
            }
            Self::NoCertificate { device, .. } => format!("touchstone device why {device}"),
        }
    }
}
