//! Authorizes one connection: may a device of this zone open that service of a device of the other?
//!
//! The same rule is compiled into trust files by [`compile`](super::trust::compile); a property test
//! holds the two together.

use serde::{Deserialize, Serialize};

use super::conduit::Conduit;
use super::hours::Hours;
use super::model::{IntraZone, Segmentation};
use crate::id::{ServiceName, ZoneName};
use crate::time::UnixTime;

/// What allows a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    /// Both are in one zone, which allows traffic among its devices.
    IntraZone(ZoneName),
    /// A conduit that is open now.
    Conduit(Conduit),
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// A zone that the plant does not have.
    #[error("there is no zone {0}")]
    UnknownZone(ZoneName),
    /// One zone, which keeps its devices apart.
    #[error("zone {0} denies traffic among its own devices")]
    IntraZone(ZoneName),
    /// Nobody allowed it.
    #[error("no conduit opens {service} of zone {to} to zone {from}")]
    NoConduit {
        /// The zone of the caller.
        from: ZoneName,
        /// The zone of the listener.
        to: ZoneName,
        /// The service.
        service: ServiceName,
    },
    /// It was allowed until a date.
    #[error("the conduit {from} -> {to} {service} ended {at}")]
    Expired {
        /// The zone of the caller.
        from: ZoneName,
        /// The zone of the listener.
        to: ZoneName,
        /// The service.
        service: ServiceName,
        /// Since when it is closed.
        at: UnixTime,
        /// Its hours, as text.
        hours: Option<String>,
    },
    /// It is open at other hours.
    #[error("the conduit {from} -> {to} {service} is closed now: its hours are {hours}{}", opens.map_or_else(String::new, |at| format!("; it opens {at}")))]
    Closed {
        /// The zone of the caller.
        from: ZoneName,
        /// The zone of the listener.
        to: ZoneName,
        /// The service.
        service: ServiceName,
        /// Its hours, as text.
        hours: String,
        /// When it opens next, if it does before it ends.
        opens: Option<UnixTime>,
    },
}

/// Authorizes a device of zone `from` to open `service` of a device of zone `to` at `now`.
pub fn authorize(
    plant: &Segmentation,
    from: &ZoneName,
    to: &ZoneName,
    service: &ServiceName,
    now: UnixTime,
) -> Result<Allowed, Refusal> {
    let unknown = |name: &ZoneName| Refusal::UnknownZone(name.clone());
    let caller = plant.zone(from).ok_or_else(|| unknown(from))?;
    plant.zone(to).ok_or_else(|| unknown(to))?;
    if from == to {
        return match caller.intra_zone {
            IntraZone::Allow => Ok(Allowed::IntraZone(from.clone())),
            IntraZone::Deny => Err(Refusal::IntraZone(from.clone())),
        };
    }
    let conduit = plant.conduit(from, to, service).ok_or_else(|| Refusal::NoConduit {
        from: from.clone(),
        to: to.clone(),
        service: service.clone(),
    })?;
    through(from, to, service, conduit.hours(), now).map(|()| Allowed::Conduit(conduit.clone()))
}

/// Passes what is open at `now`.
pub(super) fn through(
    from: &ZoneName,
    to: &ZoneName,
    service: &ServiceName,
    hours: Hours<'_>,
    now: UnixTime,
) -> Result<(), Refusal> {
    if hours.is_open(now) {
        return Ok(());
    }
    let (from, to, service) = (from.clone(), to.clone(), service.clone());
    Err(match hours.schedule {
        Some(schedule) if !hours.has_ended(now) => {
            Refusal::Closed { from, to, service, hours: schedule.to_string(), opens: hours.next_opening(now) }
        }
        schedule => {
            let (at, hours) = (hours.expires.unwrap_or_default(), schedule.map(ToString::to_string));
            Refusal::Expired { from, to, service, at, hours }
        }
    })
}

impl Refusal {
    /// The reason in one word, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownZone(_) => "unknown-zone",
            Self::IntraZone(_) => "intra-zone",
            Self::NoConduit { .. } => "no-conduit",
            Self::Expired { .. } => "conduit-ended",
            Self::Closed { .. } => "conduit-closed",
        }
    }

    /// What to do about it, if the connection is wanted.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::UnknownZone(zone) => format!("touchstone zone create {zone}"),
            Self::IntraZone(zone) => {
                format!(
                    "let zone {zone} allow traffic among its devices (intra_zone), with touchstone zone apply"
                )
            }
            Self::NoConduit { from, to, service } => {
                format!("touchstone conduit allow --from {from} --to {to} --service {service}")
            }
            Self::Expired { from, to, service, hours, .. } => {
                let hours = hours.as_ref().map_or_else(String::new, |hours| format!(" --schedule '{hours}'"));
                format!(
                    "touchstone conduit allow --from {from} --to {to} --service {service}{hours} --until TIME"
                )
            }
            Self::Closed { opens: Some(at), .. } => {
                format!("wait until {at}, or give the conduit other hours")
            }
            Self::Closed { from, to, service, opens: None, .. } => {
                format!(
                    "touchstone conduit allow --from {from} --to {to} --service {service} --schedule HOURS --until TIME"
                )
            }
        }
    }
}
