//! Join tokens: convert, call, convert.

use policy::id::ZoneName;
use proto::v1;

use super::parse;
use crate::admin::Actor;
use crate::admin::token::{self, Open, TokenId};
use crate::plant::Plant;
use crate::session::Refusal;

pub(super) async fn create(
    plant: &Plant,
    actor: &Actor,
    request: v1::CreateTokenRequest,
) -> Result<v1::CreateTokenResponse, Refusal> {
    let ek = match request.ek_digest.as_slice() {
        [] => None,
        bytes => Some(parse::digest("EK digest", bytes)?),
    };
    let request = token::Request {
        zones: parse::texts("zone", &request.zones)?,
        ek,
        device: parse::optional("device", &request.device)?,
        lifetime: request.lifetime_seconds.into(),
        without_tpm: request.without_tpm,
    };
    let created = token::create(plant, actor, &request).await?;
    Ok(v1::CreateTokenResponse { token: created.text.to_string(), expires_at: created.expires.0 })
}

pub(super) async fn list(
    plant: &Plant,
    actor: &Actor,
    request: v1::ListTokensRequest,
) -> Result<v1::ListTokensResponse, Refusal> {
    let after: Option<TokenId> = parse::optional("after", &request.after)?;
    let (page, next) = token::page(plant, actor.scope(), after.as_ref()).await?;
    let next = next.map(|id| id.to_string()).unwrap_or_default();
    Ok(v1::ListTokensResponse { tokens: page.iter().map(wire).collect(), next })
}

pub(super) async fn revoke(
    plant: &Plant,
    actor: &Actor,
    request: v1::RevokeTokenRequest,
) -> Result<v1::RevokeTokenResponse, Refusal> {
    let id = parse::text("token", &request.id)?;
    let revoked = token::revoke(plant, actor, &id, request.dry_run).await?;
    Ok(v1::RevokeTokenResponse { token: Some(wire(&revoked)) })
}

fn wire(Open { id, token }: &Open) -> v1::JoinToken {
    let second = token.people.get(1);
    v1::JoinToken {
        id: id.to_string(),
        zones: token.zones.iter().map(ZoneName::to_string).collect(),
        ek_digest: token.ek.map(|ek| ek.0.to_vec()).unwrap_or_default(),
        device: token.device.as_ref().map(ToString::to_string).unwrap_or_default(),
        without_tpm: token.without_tpm,
        by: token.by.clone(),
        approved_by: second.map(|person| person.name.clone()).unwrap_or_default(),
        made_at: token.made.0,
        expires_at: token.expires.0,
    }
}
