//! Why a device may or may not open a service: the question of a person, who has no certificate at hand.

use policy::access::Reason;
use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Direction, Role, Ways};

use super::{ends, shown};
use crate::admin::device::view::{DeviceView, device};
use crate::admin::reach::Scope;
use crate::admin::zone::in_sight;
use crate::plant::Plant;
use crate::record::device::HeldCertificate;
use crate::session::Refusal;
use crate::trust::{self, View};

/// The answer for one of the device's zones.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The zone that the device would open it from.
    pub from: ZoneName,
    /// Until when it may; or why it may not, never empty.
    pub outcome: Result<UnixTime, Vec<Reason>>,
}

/// What holds for the device `name` in each of its zones. Of a service that several devices of `to` offer the answer is
/// the same.
pub async fn why(
    plant: &Plant,
    scope: &Scope,
    name: &DeviceName,
    to: &ZoneName,
    service: &ServiceName,
) -> Result<Vec<Answer>, Refusal> {
    let seen = device(plant, scope, name).await?;
    let view = trust::view(plant).await.map_err(Refusal::internal)?;
    // Whoever sees a conduit knows of the zones at both of its ends; another zone is as one that is not there.
    if !view.zones().conduits().iter().any(|conduit| shown(scope, conduit) && ends(conduit).contains(to)) {
        in_sight(view.zones(), scope, to)?;
    }
    let ways = Ways::of(view.zones(), to, service, Direction::Inbound).map_err(Refusal::internal)?;
    let now = plant.now();
    let answer =
        |from: &ZoneName| Answer { from: from.clone(), outcome: outcome(&view, &ways, &seen, from, now) };
    Ok(seen.device.zones.iter().map(answer).collect())
}

/// Everything that is in the way, the graph first.
fn outcome(
    view: &View,
    ways: &Ways,
    seen: &DeviceView,
    from: &ZoneName,
    now: UnixTime,
) -> Result<UnixTime, Vec<Reason>> {
    let way = ways.open(from, now);
    let offered = view.is_offered(ways.own(), ways.service());
    let end = certified_until(view, seen, from, now);
    if let (Ok(way), Some(end), true) = (&way, end, offered) {
        return Ok(way.hours().next_edge(now).map_or(end, |edge| edge.min(end)));
    }
    let (zone, service) = (ways.own().clone(), ways.service().clone());
    let no_way = way.err().map(Reason::from);
    let nobody = (!offered).then_some(Reason::NobodyOffers { zone, service });
    let device = seen.device.name.clone();
    let no_certificate = end.is_none().then(|| Reason::NoCertificate { device, zone: from.clone() });
    Err(no_way.into_iter().chain(nobody).chain(no_certificate).collect())
}

/// The first second at which the device has no certificate of `zone` to open connections with, if it has one: what is
/// revoked it does not hold any more, and of an authority that is distrusted nobody believes it.
fn certified_until(view: &View, seen: &DeviceView, zone: &ZoneName, now: UnixTime) -> Option<UnixTime> {
    let believed = |held: &HeldCertificate| view.believes(zone, Role::Caller, held.generation);
    let of_zone = seen.certificates.iter().filter(|(of, held)| of == zone && held.role == Role::Caller);
    let of_zone = of_zone.filter(|(_, held)| believed(held));
    let valid = of_zone.filter(|(_, held)| held.validity.not_before <= now && now <= held.validity.not_after);
    valid.map(|(_, held)| held.validity.not_after.plus(1)).max()
}
