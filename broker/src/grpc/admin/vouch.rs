//! Machines behind gateways: convert, call, convert.

use policy::id::ZoneName;
use proto::v1;

use super::parse;
use crate::admin::Actor;
use crate::admin::device::vouch;
use crate::plant::Plant;
use crate::record::vouched::{About, Machine};
use crate::session::Refusal;

pub(super) async fn list(
    plant: &Plant,
    actor: &Actor,
    _: v1::ListVouchedRequest,
) -> Result<v1::ListVouchedResponse, Refusal> {
    Ok(v1::ListVouchedResponse { machines: of(plant, actor, None, "").await? })
}

/// Those in `zone` whose state has the name `state`, where these are asked for.
pub(super) async fn of(
    plant: &Plant,
    actor: &Actor,
    zone: Option<&ZoneName>,
    state: &str,
) -> Result<Vec<v1::Vouched>, Refusal> {
    let all = vouch::all(plant, actor.scope()).await?;
    let wanted = |seen: &vouch::Seen| {
        zone.is_none_or(|zone| seen.zones.contains(zone))
            && (state.is_empty() || seen.standing.name() == state)
    };
    let wire = |seen: vouch::Seen| v1::Vouched {
        gateway: seen.machine.gateway.to_string(),
        state: seen.standing.name().to_owned(),
        zones: seen.zones.iter().map(ToString::to_string).collect(),
        stated_since: seen.machine.stated.map_or(0, |at| at.0),
        accepted_by: seen.machine.accepted.as_ref().map(|one| one.by.clone()).unwrap_or_default(),
        accepted_at: seen.machine.accepted.as_ref().map_or(0, |one| one.at.0),
        machine: Some(machine(seen.machine)),
    };
    Ok(all.into_iter().filter(wanted).map(wire).collect())
}

pub(super) async fn settle(
    plant: &Plant,
    actor: &Actor,
    request: v1::SettleVouchedRequest,
) -> Result<v1::SettleVouchedResponse, Refusal> {
    let sent = request.machine.unwrap_or_default();
    let v1::VouchedMachine { name, kind, address, serial } = sent;
    let stated = !kind.is_empty() || !address.is_empty() || !serial.is_empty();
    let wanted = vouch::Request {
        gateway: parse::text("gateway", &request.gateway)?,
        machine: parse::text("machine", &name)?,
        about: stated.then_some(About { kind, address, serial }),
        accept: request.accept,
    };
    let done = vouch::settle(plant, actor, &wanted, request.dry_run).await?;
    Ok(v1::SettleVouchedResponse { machine: done.map(machine) })
}

fn machine(machine: Machine) -> v1::VouchedMachine {
    let About { kind, address, serial } = machine.about;
    v1::VouchedMachine { name: machine.name.to_string(), kind, address, serial }
}
