//! Authorizes one connection: may a device of this zone open that service of a device of the other?
//!
//! The same rule is compiled into trust files by [`compile`](super::trust::compile); a property test
//! holds the two together.

use serde::{Deserialize, Serialize};

use super::conduit::Conduit;
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
    #[error(
        "no conduit opens {service} of zone {to} to zone {from}; allow it with `touchstone conduit allow`"
    )]
    NoConduit {
        /// The zone of the caller.
        from: ZoneName,
        /// The zone of the listener.
        to: ZoneName,
        /// The service.
        service: ServiceName,
    },
    /// It was allowed until a date.
    #[error("the conduit {from} -> {to} {service} ended {at}; allow it again")]
    Expired {
        /// The zone of the caller.
        from: ZoneName,
        /// The zone of the listener.
        to: ZoneName,
        /// The service.
        service: ServiceName,
        /// Since when it is closed.
        at: UnixTime,
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
    match plant.conduit(from, to, service) {
        None => Err(Refusal::NoConduit { from: from.clone(), to: to.clone(), service: service.clone() }),
        Some(conduit) if conduit.is_open(now) => Ok(Allowed::Conduit(conduit.clone())),
        Some(conduit) => Err(closed(conduit, now)),
    }
}

fn closed(conduit: &Conduit, now: UnixTime) -> Refusal {
    let (from, to, service) = (conduit.from.clone(), conduit.to.clone(), conduit.service.clone());
    match &conduit.schedule {
        Some(schedule) if !conduit.has_ended(now) => {
            let opens = conduit.hours().next_opening(now);
            Refusal::Closed { from, to, service, hours: schedule.to_string(), opens }
        }
        _ => Refusal::Expired { from, to, service, at: conduit.expires.unwrap_or_default() },
    }
}
