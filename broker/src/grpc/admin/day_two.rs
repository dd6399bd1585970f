//! Moving, replacing and retiring devices: convert, call, convert.

use std::net::IpAddr;

use policy::id::ZoneName;
use policy::zone::{Peers, Schedule};
use proto::v1;

use super::parse;
use crate::admin::Actor;
use crate::admin::device::view::DeviceView;
use crate::admin::device::{address, moving, replace as replacing, retire as retiring};
use crate::plant::Plant;
use crate::record::device::Leaving;
use crate::session::Refusal;

/// Lines about peers that are told; a plant has as many zones at most, and more is read by nobody.
const MAX_PEERS: usize = 1000;

pub(super) async fn move_device(
    plant: &Plant,
    actor: &Actor,
    request: v1::MoveDeviceRequest,
) -> Result<v1::MoveDeviceResponse, Refusal> {
    let name = parse::text("device", &request.name)?;
    if request.cancel {
        let planned = moving::cancel(plant, actor, &name, request.dry_run).await?;
        let (from, to) = (planned.from.to_string(), planned.to.to_string());
        return Ok(v1::MoveDeviceResponse { from, to, ..Default::default() });
    }
    let window: Option<Schedule> = match request.window.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| Refusal::malformed(format!("window: {error}")))?),
    };
    let wanted = moving::Request {
        name,
        to: parse::text("to", &request.to)?,
        from: parse::optional("from", &request.from)?,
        window,
        reason: request.reason,
        seen: parse::seen(request.seen)?,
    };
    let moved = moving::begin(plant, actor, &wanted, request.dry_run).await?;
    Ok(v1::MoveDeviceResponse {
        from: moved.from.to_string(),
        to: moved.to.to_string(),
        begins_at: moved.begins.map_or(0, |at| at.0),
        peers: changes(&moved.before, &moved.after),
        seen: Some(parse::to_wire(moved.seen)),
    })
}

/// What only one of the two has.
fn changes(before: &Peers, after: &Peers) -> Vec<v1::PeerChange> {
    let mut changes = Vec::new();
    for (gained, has, other) in [(false, before, after), (true, after, before)] {
        let opens = has.opens.iter().filter(|(place, _)| !other.opens.contains_key(*place));
        changes.extend(opens.map(|((zone, service), devices)| v1::PeerChange {
            gained,
            opens: true,
            zone: zone.to_string(),
            service: service.to_string(),
            devices: parse::count(*devices),
        }));
        changes.extend(has.opened_by.difference(&other.opened_by).map(|(zone, service)| v1::PeerChange {
            gained,
            opens: false,
            zone: zone.to_string(),
            service: service.to_string(),
            devices: 0,
        }));
    }
    changes.truncate(MAX_PEERS);
    changes
}

pub(super) async fn replace(
    plant: &Plant,
    actor: &Actor,
    request: v1::ReplaceDeviceRequest,
) -> Result<v1::ReplaceDeviceResponse, Refusal> {
    let name = parse::text("device", &request.name)?;
    let ek = parse::digest("EK digest", &request.ek_digest)?;
    let done = replacing::replace(plant, actor, (&name, &ek), &request.reason, request.dry_run).await?;
    let revoked = parse::count(done.revoked);
    Ok(v1::ReplaceDeviceResponse { ek_digest: done.former.0.to_vec(), revoked })
}

pub(super) async fn retire(
    plant: &Plant,
    actor: &Actor,
    request: v1::RetireDeviceRequest,
) -> Result<v1::RetireDeviceResponse, Refusal> {
    let name = parse::text("device", &request.name)?;
    let revoked = retiring::retire(plant, actor, &name, &request.reason, request.dry_run).await?;
    Ok(v1::RetireDeviceResponse { revoked: parse::count(revoked) })
}

pub(super) async fn addresses(
    plant: &Plant,
    actor: &Actor,
    request: v1::ChangeAddressesRequest,
) -> Result<v1::ChangeAddressesResponse, Refusal> {
    let all = |field, texts: &[String]| parse::texts(field, texts).map(|all| all.into_iter().collect());
    let wanted = address::Request {
        name: parse::text("device", &request.name)?,
        zone: parse::optional("zone", &request.zone)?,
        add: all("add", &request.add)?,
        remove: all("remove", &request.remove)?,
    };
    let done = address::change(plant, actor, &wanted, request.dry_run).await?;
    Ok(v1::ChangeAddressesResponse {
        zone: done.zone.to_string(),
        addresses: done.addresses.iter().map(ToString::to_string).collect(),
        revoked: parse::count(done.revoked),
    })
}

/// The addresses of a device, by zone.
pub(super) fn addresses_of(view: &DeviceView) -> Vec<v1::DeviceAddress> {
    let of_zone = view.device.addresses.iter().flat_map(|(zone, all)| all.iter().map(move |one| (zone, one)));
    let wire = |(zone, address): (&ZoneName, &IpAddr)| v1::DeviceAddress {
        zone: zone.to_string(),
        address: address.to_string(),
    };
    of_zone.map(wire).collect()
}

/// The move of a device that goes somewhere, or will.
pub(super) fn move_of(view: &DeviceView) -> Option<v1::DeviceMove> {
    let under_way = view.device.leaving.as_ref().map(|Leaving { from, to, since }| v1::DeviceMove {
        from: from.to_string(),
        to: to.to_string(),
        since: since.0,
        ..Default::default()
    });
    under_way.or_else(|| {
        let planned = view.planned.as_ref()?;
        Some(v1::DeviceMove {
            from: planned.from.to_string(),
            to: planned.to.to_string(),
            since: 0,
            window: planned.window.to_string(),
            begins_at: view.begins.map_or(0, |at| at.0),
        })
    })
}
