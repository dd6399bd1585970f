//! Authorities: convert, call, convert.

use policy::zone::Role;
use proto::v1;

use super::parse;
use crate::admin::Actor;
use crate::admin::authority::{Distrust, Turned, activate, distrust, rotate};
use crate::plant::Plant;
use crate::session::Refusal;

/// Devices that one answer names.
const MAX_TOLD: usize = 1000;

fn role(sent: v1::Role) -> Option<Role> {
    match sent {
        v1::Role::Caller => Some(Role::Caller),
        v1::Role::Listener => Some(Role::Listener),
        v1::Role::Unspecified => None,
    }
}

fn needed(sent: v1::Role) -> Result<Role, Refusal> {
    role(sent).ok_or_else(|| Refusal::malformed("say which authority: caller or listener".to_owned()))
}

fn answer(turned: Turned) -> v1::AuthorityChange {
    let devices = turned.stragglers.iter();
    v1::AuthorityChange {
        authorities: turned.what,
        stragglers: devices.take(MAX_TOLD).map(ToString::to_string).collect(),
        stragglers_count: parse::count(turned.stragglers_count),
    }
}

pub(super) async fn next(
    plant: &Plant,
    actor: &Actor,
    request: v1::RotateAuthorityRequest,
) -> Result<v1::RotateAuthorityResponse, Refusal> {
    let zone = parse::text("zone", &request.zone)?;
    let turned = rotate(plant, actor, &zone, role(request.role()), request.dry_run).await?;
    Ok(v1::RotateAuthorityResponse { change: Some(answer(turned)) })
}

pub(super) async fn sign(
    plant: &Plant,
    actor: &Actor,
    request: v1::ActivateAuthorityRequest,
) -> Result<v1::ActivateAuthorityResponse, Refusal> {
    let zone = parse::text("zone", &request.zone)?;
    let turned = activate(plant, actor, &zone, needed(request.role())?, request.dry_run).await?;
    Ok(v1::ActivateAuthorityResponse { change: Some(answer(turned)) })
}

pub(super) async fn bar(
    plant: &Plant,
    actor: &Actor,
    request: v1::DistrustAuthorityRequest,
) -> Result<v1::DistrustAuthorityResponse, Refusal> {
    let wanted = Distrust {
        zone: parse::text("zone", &request.zone)?,
        role: needed(request.role())?,
        generation: request.generation,
        reason: request.reason,
    };
    let turned = distrust(plant, actor, &wanted, request.dry_run).await?;
    Ok(v1::DistrustAuthorityResponse { change: Some(answer(turned)) })
}
