//! Inspects a plant's zones and conduits for flat spots: places where segmentation is written down and does not hold.
//!
//! What [`Segmentation::new`] lets pass fits together; that does not make it good. What this module does not promise:
//! it refuses nothing and sees only what is declared, so a cable that nobody told of is not found.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::conduit::Conduit;
use super::function::Function;
use super::model::{IntraZone, Segmentation};
use super::reachable::groups;
use crate::id::{DeviceName, ServiceName, WorkloadName, ZoneName};
use crate::time::UnixTime;

/// A service is open to many when this many others may open it, and they are all there are: in a plant of three zones a
/// historian that both others write to is what it is for.
const OPEN_TO_MANY: usize = 3;

/// A device by where it stands and what it offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The device.
    pub device: DeviceName,
    /// Its zones.
    pub zones: BTreeSet<ZoneName>,
    /// The services it offers.
    pub offers: BTreeSet<ServiceName>,
    /// Workloads on it that one program is.
    pub two_sided: BTreeSet<TwoSided>,
}

/// Two workloads that one program may be, by the user and group it runs as: what it believes as one, it believes as the
/// other, because the SPIFFE Workload API knows no direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TwoSided {
    /// The one that opens connections.
    pub client: WorkloadName,
    /// The one that serves.
    pub server: WorkloadName,
}

/// What kind of flat spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpotKind {
    /// Zones that reach each other, directly or through others; or one zone with all devices, which open each other.
    AnyToAny,
    /// A service that every other zone may open.
    OpenToAll,
    /// A device in two zones whose functions must not share fate.
    SharedFate,
    /// A conduit into a zone for safety.
    IntoSafety,
    /// A conduit from outside the plant that is always open.
    StandingAccess,
    /// A conduit from a zone that observes into one that enforces.
    Observed,
    /// A conduit whose hours never come before it ends.
    NeverOpens,
    /// A conduit that has ended.
    Ended,
    /// A conduit to a service that no device of the zone offers.
    NobodyOffers,
    /// Several devices that may open everything of each other.
    OpenInside,
    /// A device in two zones that no conduit joins.
    Bridge,
    /// A program that opens connections and serves.
    BothRoles,
}

impl SpotKind {
    /// Its name, as written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnyToAny => "any-to-any",
            Self::OpenToAll => "open-to-all",
            Self::SharedFate => "shared-fate",
            Self::IntoSafety => "into-safety",
            Self::StandingAccess => "standing-access",
            Self::Observed => "observed",
            Self::NeverOpens => "never-opens",
            Self::Ended => "ended",
            Self::NobodyOffers => "nobody-offers",
            Self::OpenInside => "open-inside",
            Self::Bridge => "bridge",
            Self::BothRoles => "both-roles",
        }
    }

    /// Whether segmentation does not hold there; the others want a look.
    #[must_use]
    pub const fn is_serious(self) -> bool {
        matches!(
            self,
            Self::AnyToAny
                | Self::OpenToAll
                | Self::SharedFate
                | Self::IntoSafety
                | Self::StandingAccess
                | Self::NeverOpens
        )
    }
}

/// A flat spot, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spot {
    /// What kind.
    pub kind: SpotKind,
    /// The zones it is about.
    pub zones: BTreeSet<ZoneName>,
    /// The device or conduit it is about.
    pub about: Option<String>,
    /// What is wrong and what to do.
    pub sentence: String,
}

/// Every flat spot of a plant, serious ones first.
#[must_use]
pub fn inspect(plant: &Segmentation, members: &[Member], now: UnixTime) -> Vec<Spot> {
    let mut spots: Vec<Spot> = mutual(plant, now).chain(open_to_all(plant, now)).collect();
    let offered = offered(members);
    for conduit in plant.conduits() {
        spots.extend(of_conduit(plant, conduit, &offered, now));
    }
    spots.extend(plant.observed().map(|conduit| {
        let why = "leads from a zone that observes into one that enforces: an unappraised device passes; let the first enforce";
        about(SpotKind::Observed, conduit, why.to_owned())
    }));
    spots.extend(members.iter().flat_map(|member| of_member(plant, member, now)));
    spots.extend(members.iter().flat_map(both_roles));
    spots.extend(open_inside(plant, members));
    spots.sort_by_key(|spot| (!spot.kind.is_serious(), spot.kind));
    spots
}

/// The spot that a conduit is to a service that no device of its zone offers; `others` are what they do offer.
#[must_use]
pub fn nobody_offers<'a>(conduit: &Conduit, others: impl Iterator<Item = &'a ServiceName>) -> Spot {
    let Conduit { to, service, .. } = conduit;
    let others: Vec<&str> = others.map(ServiceName::as_str).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(" (they offer {})", others.join(", ")),
    };
    let why = format!(
        "opens nothing: no device of zone {to} offers {service}{others}; start it there, or close the conduit"
    );
    about(SpotKind::NobodyOffers, conduit, why)
}

fn about(kind: SpotKind, conduit: &Conduit, why: String) -> Spot {
    let zones = [conduit.from.clone(), conduit.to.clone()].into();
    Spot { kind, zones, about: Some(conduit.to_string()), sentence: format!("conduit {conduit} {why}") }
}

fn standing(plant: &Segmentation, now: UnixTime) -> impl Iterator<Item = &Conduit> {
    plant.conduits().iter().filter(move |conduit| !conduit.has_ended(now))
}

fn mutual(plant: &Segmentation, now: UnixTime) -> impl Iterator<Item = Spot> {
    let edges = standing(plant, now).map(|conduit| (&conduit.from, &conduit.to));
    groups(edges).into_iter().map(|zones| {
        let names = words(&zones);
        let sentence = format!(
            "zones {names} reach each other through conduits: whoever takes a device of one can go on to all; close a direction"
        );
        Spot { kind: SpotKind::AnyToAny, zones, about: None, sentence }
    })
}

fn open_to_all(plant: &Segmentation, now: UnixTime) -> impl Iterator<Item = Spot> {
    let mut callers: BTreeMap<(&ZoneName, &ServiceName), BTreeSet<&ZoneName>> = BTreeMap::new();
    for conduit in standing(plant, now) {
        callers.entry((&conduit.to, &conduit.service)).or_default().insert(&conduit.from);
    }
    let others = plant.zones().count().saturating_sub(1);
    let all = callers.into_iter().filter(move |(_, from)| from.len() >= OPEN_TO_MANY && from.len() == others);
    all.map(|((to, service), from)| Spot {
        kind: SpotKind::OpenToAll,
        zones: from.into_iter().chain([to]).cloned().collect(),
        about: Some(format!("{to} {service}")),
        sentence: format!(
            "every other zone may open {service} of zone {to}: close the conduits of those that need it not, or make a smaller zone for what all need"
        ),
    })
}

fn offered(members: &[Member]) -> BTreeSet<(&ZoneName, &ServiceName)> {
    let mut offered = BTreeSet::new();
    for Member { zones, offers, .. } in members {
        offered.extend(zones.iter().flat_map(|zone| offers.iter().map(move |service| (zone, service))));
    }
    offered
}

fn of_conduit(
    plant: &Segmentation,
    conduit: &Conduit,
    offered: &BTreeSet<(&ZoneName, &ServiceName)>,
    now: UnixTime,
) -> Vec<Spot> {
    let spot = |kind, why: String| about(kind, conduit, why);
    let Conduit { from, to, service, .. } = conduit;
    if let Some(end) = conduit.expires.filter(|_| conduit.has_ended(now)) {
        let why = format!(
            "ended {end}; remove it with `touchstone conduit close --from {from} --to {to} --service {service}`"
        );
        return vec![spot(SpotKind::Ended, why)];
    }
    let mut spots = Vec::new();
    if conduit.hours().next_opening(now).is_none() {
        let hours = conduit.schedule.as_ref().map(ToString::to_string).unwrap_or_default();
        let end = conduit.expires.unwrap_or_default();
        let why = format!(
            "never opens: its hours, {hours}, do not come before it ends {end}; give it other hours or a later end"
        );
        spots.push(spot(SpotKind::NeverOpens, why));
    }
    if !offered.contains(&(to, service)) {
        let others = offered.iter().filter(|(zone, _)| *zone == to).map(|(_, other)| *other);
        spots.push(nobody_offers(conduit, others));
    }
    let function = |zone| plant.zone(zone).and_then(|zone| zone.function);
    let (caller, listener) = (function(from), function(to));
    if listener == Some(Function::Safety) && caller != Some(Function::Safety) {
        let why = match caller {
            Some(other) => {
                format!("leads into the safety zone {to} from one for {other}; let safety call out instead")
            }
            None => format!(
                "leads into the safety zone {to} from {from}, of which nobody said what it is for: say so if it is for safety (`touchstone zone set {from} --function safety`), otherwise let safety call out instead"
            ),
        };
        spots.push(spot(SpotKind::IntoSafety, why));
    }
    let inward = caller.is_some_and(Function::is_outside) && listener.is_some_and(|one| !one.is_outside());
    if inward && conduit.hours().is_open(now) && conduit.hours().next_edge(now).is_none() {
        let why =
            "comes from outside and never closes; give it hours (--schedule) or an end (--until)".to_owned();
        spots.push(spot(SpotKind::StandingAccess, why));
    }
    spots
}

fn of_member(plant: &Segmentation, member: &Member, now: UnixTime) -> Vec<Spot> {
    let zones: Vec<&ZoneName> = member.zones.iter().collect();
    let mut spots = Vec::new();
    for (at, first) in zones.iter().enumerate() {
        for second in zones.iter().skip(at + 1) {
            spots.extend(joined(plant, &member.device, first, second, now));
        }
    }
    spots
}

/// What one device in two zones means.
fn joined(
    plant: &Segmentation,
    device: &DeviceName,
    first: &ZoneName,
    second: &ZoneName,
    now: UnixTime,
) -> Option<Spot> {
    let function = |zone| plant.zone(zone).and_then(|zone| zone.function);
    let apart = function(first).zip(function(second)).filter(|(a, b)| !a.may_share_fate(*b));
    let spot = |kind, sentence| Spot {
        kind,
        zones: [first.clone(), second.clone()].into(),
        about: Some(device.to_string()),
        sentence,
    };
    if let Some((a, b)) = apart {
        let sentence = format!(
            "device {device} stands in zone {first} ({a}) and in zone {second} ({b}), which must not share fate: who takes it has both; give each its own device"
        );
        return Some(spot(SpotKind::SharedFate, sentence));
    }
    let unsaid = match (function(first), function(second)) {
        (Some(Function::Safety), None) => Some((first, second)),
        (None, Some(Function::Safety)) => Some((second, first)),
        _ => None,
    };
    if let Some((safety, unsaid)) = unsaid {
        let sentence = format!(
            "device {device} stands in the safety zone {safety} and in zone {unsaid}, of which nobody said what it is for: unless that is for safety too (`touchstone zone set {unsaid} --function safety`), give each its own device"
        );
        return Some(spot(SpotKind::SharedFate, sentence));
    }
    let joins = |conduit: &Conduit| {
        (&conduit.from, &conduit.to) == (first, second) || (&conduit.from, &conduit.to) == (second, first)
    };
    if standing(plant, now).any(joins) {
        return None;
    }
    let sentence = format!(
        "device {device} stands in zones {first} and {second}, which no conduit joins, and can carry anything between them; see that it is a gateway and does not"
    );
    Some(spot(SpotKind::Bridge, sentence))
}

/// Programs that get certificates of both sides.
fn both_roles(member: &Member) -> impl Iterator<Item = Spot> {
    member.two_sided.iter().map(|TwoSided { client, server }| Spot {
        kind: SpotKind::BothRoles,
        zones: member.zones.clone(),
        about: Some(member.device.to_string()),
        sentence: format!(
            "workloads {client} (client) and {server} (server) of device {} are one program by their user and group: unless \
             it picks by hint, it shows either certificate to anybody, and where other zones are at the other end of each \
             only the one listed first is served; run two programs under users of their own",
            member.device
        ),
    })
}

fn open_inside(plant: &Segmentation, members: &[Member]) -> Vec<Spot> {
    let mut spots = Vec::new();
    for zone in plant.zones().filter(|zone| zone.intra_zone == IntraZone::Allow) {
        let name = &zone.name;
        let count = members.iter().filter(|member| member.zones.contains(name)).count();
        if count > 1 {
            let (kind, which) = match count == members.len() {
                true => {
                    (SpotKind::AnyToAny, format!("all {count} devices of the plant stand in zone {name} and"))
                }
                false => (SpotKind::OpenInside, format!("the {count} devices of zone {name}")),
            };
            let sentence = format!(
                "{which} may open everything of each other; deny it (intra-zone) and make smaller zones with conduits"
            );
            spots.push(Spot { kind, zones: [name.clone()].into(), about: None, sentence });
        }
    }
    spots
}

fn words(zones: &BTreeSet<ZoneName>) -> String {
    zones.iter().map(ZoneName::as_str).collect::<Vec<_>>().join(", ")
}
