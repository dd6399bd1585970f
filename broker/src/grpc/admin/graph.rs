//! Zones and conduits as a whole: convert, call, convert.

use std::collections::{BTreeMap, BTreeSet};

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::difference::{PeerChanges, Reachable};
use policy::zone::{Conduit, Member, Spot};
use proto::{convert, v1};

use super::parse;
use crate::admin::Actor;
use crate::admin::conduit::Unoffered;
use crate::admin::graph::{Planned, apply, plan, view};
use crate::plant::Plant;
use crate::session::Refusal;

/// Services that one answer names in each direction, and devices.
const MAX_TOLD: usize = 1000;
/// Devices of a zone that one answer names as the other side.
const MAX_CALLERS: usize = 100;

pub(super) async fn one(
    plant: &Plant,
    actor: &Actor,
    _: v1::GetGraphRequest,
) -> Result<v1::GetGraphResponse, Refusal> {
    let view = view(plant, actor.scope()).await?;
    let shown: BTreeSet<&ZoneName> = view.zones.iter().map(|zone| &zone.name).collect();
    Ok(v1::GetGraphResponse {
        zones: view.zones.iter().map(convert::zone_to_wire).collect(),
        conduits: conduits(&view.conduits),
        members: members(&view.members, &shown),
        spots: view.spots.iter().map(spot).collect(),
        document: view.document,
    })
}

fn members(all: &[Member], shown: &BTreeSet<&ZoneName>) -> Vec<v1::ZoneMembers> {
    let mut zones: BTreeMap<&ZoneName, (usize, BTreeSet<String>)> = BTreeMap::new();
    for member in all {
        for zone in member.zones.iter().filter(|zone| shown.contains(zone)) {
            let (devices, services) = zones.entry(zone).or_default();
            *devices += 1;
            services.extend(member.offers.iter().map(ToString::to_string));
        }
    }
    let wire = |(zone, (devices, services)): (&ZoneName, (usize, BTreeSet<String>))| v1::ZoneMembers {
        zone: zone.to_string(),
        devices: parse::count(devices),
        services: services.into_iter().collect(),
    };
    zones.into_iter().map(wire).collect()
}

fn spot(spot: &Spot) -> v1::FlatSpot {
    v1::FlatSpot {
        kind: spot.kind.name().to_owned(),
        serious: spot.kind.is_serious(),
        zones: names(spot.zones.iter()),
        about: spot.about.clone().unwrap_or_default(),
        sentence: spot.sentence.clone(),
    }
}

pub(super) async fn planned(
    plant: &Plant,
    actor: &Actor,
    request: v1::PlanGraphRequest,
) -> Result<v1::PlanGraphResponse, Refusal> {
    let planned = plan(plant, actor.scope(), &request.document).await?;
    Ok(v1::PlanGraphResponse { change: Some(change(planned)) })
}

pub(super) async fn applied(
    plant: &Plant,
    actor: &Actor,
    request: v1::ApplyGraphRequest,
) -> Result<v1::ApplyGraphResponse, Refusal> {
    let unoffered = if request.unoffered { Unoffered::Accept } else { Unoffered::Refuse };
    let (document, before) = (&request.document, &request.before);
    let planned = apply(plant, actor, document, before, unoffered, request.dry_run).await?;
    Ok(v1::ApplyGraphResponse { change: Some(change(planned)) })
}

fn change(planned: Planned) -> v1::GraphChange {
    let Planned { before, difference, peers, later, callers, .. } = &planned;
    let Planned { spots, loses, unoffered, fields, longer, outside, steps, .. } = &planned;
    v1::GraphChange {
        before: before.clone(),
        zones_made: names(difference.zones_made.iter()),
        zones_changed: names(difference.zones_changed.iter()),
        zones_removed: names(difference.zones_removed.iter()),
        conduits_made: conduits(&difference.conduits_made),
        conduits_changed: conduits(&difference.conduits_changed),
        conduits_removed: conduits(&difference.conduits_removed),
        gained: peers.gained.iter().take(MAX_TOLD).map(reachable).collect(),
        gained_left_out: parse::count(peers.gained.len().saturating_sub(MAX_TOLD)),
        lost: peers.lost.iter().take(MAX_TOLD).map(reachable).collect(),
        lost_left_out: parse::count(peers.lost.len().saturating_sub(MAX_TOLD)),
        later: later.told.iter().map(later_peers).collect(),
        later_left_out: parse::count(later.left_out),
        callers: callers.iter().map(devices).collect(),
        spots: spots.iter().map(spot).collect(),
        loses: loses.iter().take(MAX_TOLD).map(super::zone::loses).collect(),
        loses_left_out: parse::count(loses.len().saturating_sub(MAX_TOLD)),
        unoffered_left_out: parse::count(unoffered.len().saturating_sub(MAX_TOLD)),
        unoffered: unoffered.iter().take(MAX_TOLD).cloned().collect(),
        fields: fields
            .iter()
            .map(|(zone, fields)| v1::ZoneFields { zone: zone.to_string(), fields: fields.clone() })
            .collect(),
        longer: longer.iter().map(super::zone::longer).collect(),
        steps: parse::count(*steps),
        outside: outside.iter().take(MAX_TOLD).map(super::zone::stranger).collect(),
        outside_left_out: parse::count(outside.len().saturating_sub(MAX_TOLD)),
    }
}

fn later_peers((at, peers): &(UnixTime, PeerChanges)) -> v1::LaterPeers {
    v1::LaterPeers {
        at: at.0,
        gained: peers.gained.iter().take(MAX_TOLD).map(reachable).collect(),
        gained_left_out: parse::count(peers.gained.len().saturating_sub(MAX_TOLD)),
        lost: peers.lost.iter().take(MAX_TOLD).map(reachable).collect(),
        lost_left_out: parse::count(peers.lost.len().saturating_sub(MAX_TOLD)),
    }
}

fn devices((zone, devices): (&ZoneName, &BTreeSet<DeviceName>)) -> v1::Callers {
    v1::Callers {
        zone: zone.to_string(),
        devices: devices.iter().take(MAX_CALLERS).map(ToString::to_string).collect(),
        left_out: parse::count(devices.len().saturating_sub(MAX_CALLERS)),
    }
}

fn names<'a>(zones: impl Iterator<Item = &'a ZoneName>) -> Vec<String> {
    zones.map(ToString::to_string).collect()
}

fn conduits(all: &[Conduit]) -> Vec<v1::Conduit> {
    all.iter().map(convert::conduit_to_wire).collect()
}

pub(super) fn reachable(one: &Reachable) -> v1::Reachable {
    v1::Reachable {
        device: one.device.to_string(),
        zone: one.zone.to_string(),
        service: one.service.to_string(),
        from: one.from.to_string(),
    }
}
