//! Administrators: convert, call, convert.

use std::collections::BTreeSet;

use policy::id::ZoneName;
use proto::v1;

use super::parse;
use crate::admin::Actor;
use crate::admin::people::{self, Known, Wanted};
use crate::plant::Plant;
use crate::record::plant::AdminRole;
use crate::session::Refusal;

pub(super) async fn list(
    plant: &Plant,
    _: &Actor,
    _: v1::ListAdministratorsRequest,
) -> Result<v1::ListAdministratorsResponse, Refusal> {
    let all = people::all(plant).await?;
    Ok(v1::ListAdministratorsResponse { administrators: all.into_iter().map(wire).collect() })
}

pub(super) async fn invite(
    plant: &Plant,
    actor: &Actor,
    request: v1::InviteAdministratorRequest,
) -> Result<v1::InviteAdministratorResponse, Refusal> {
    let wanted = Wanted {
        role: role(&request.role)?,
        zones: parse::texts("zone", &request.zones)?,
        name: request.name,
        lifetime: request.lifetime_seconds.into(),
    };
    let invited = people::invite(plant, actor, &wanted, request.dry_run).await?;
    Ok(v1::InviteAdministratorResponse { code: invited.code.to_string(), expires_at: invited.expires.0 })
}

pub(super) async fn remove(
    plant: &Plant,
    actor: &Actor,
    request: v1::RemoveAdministratorRequest,
) -> Result<v1::RemoveAdministratorResponse, Refusal> {
    let removed = people::remove(plant, actor, &request.name, request.dry_run).await?;
    Ok(v1::RemoveAdministratorResponse { administrator: Some(wire(removed.into())) })
}

pub(super) async fn set(
    plant: &Plant,
    actor: &Actor,
    request: v1::SetAdministratorRequest,
) -> Result<v1::SetAdministratorResponse, Refusal> {
    let zones: Vec<ZoneName> = parse::texts("zone", &request.zones)?;
    let wanted = (role(&request.role)?, zones.as_slice());
    let changed = people::set(plant, actor, &request.name, wanted, request.dry_run).await?;
    Ok(v1::SetAdministratorResponse { administrator: Some(wire(changed.into())) })
}

pub(super) async fn renew(
    plant: &Plant,
    actor: &Actor,
    request: v1::RenewAdministratorRequest,
) -> Result<v1::RenewAdministratorResponse, Refusal> {
    let (chain, not_after) = people::renew(plant, actor, &request.public_key).await?;
    Ok(v1::RenewAdministratorResponse { chain, not_after: not_after.0 })
}

fn role(word: &str) -> Result<AdminRole, Refusal> {
    AdminRole::ALL.into_iter().find(|role| role.name() == word).ok_or_else(|| {
        let names = AdminRole::ALL.map(AdminRole::name).join(", ");
        Refusal::malformed(format!("role: write one of {names}"))
    })
}

pub(crate) fn zones(zones: Option<&BTreeSet<ZoneName>>) -> Vec<String> {
    zones.into_iter().flatten().map(ToString::to_string).collect()
}

fn wire(known: Known) -> v1::Administrator {
    v1::Administrator {
        role: known.role.name().to_owned(),
        zones: zones(known.zones.as_ref()),
        limited: known.zones.is_some(),
        created_at: known.created.0,
        not_after: known.not_after.0,
        invited: known.invited_by.is_some(),
        invited_by: known.invited_by.unwrap_or_default(),
        let_in_by: known.let_in_by.unwrap_or_default(),
        name: known.name,
    }
}
