//! Changes that wait: convert, call, convert; and the one place that carries a kept request out.

use prost::Message;
use proto::v1;

use super::people;
use super::{
    authority, day_two, device, golden, graph, import, overriding, release_key, rollout, token, vouch, zone,
};
use crate::admin::second::{self, Approval, Waiting};
use crate::admin::{Act, Actor};
use crate::plant::Plant;
use crate::record::change::{Basis, Change};
use crate::session::Refusal;

pub(super) async fn list(
    plant: &Plant,
    actor: &Actor,
    _: v1::ListChangesRequest,
) -> Result<v1::ListChangesResponse, Refusal> {
    let all = second::all(plant, actor).await?;
    let mut changes = Vec::new();
    for waiting in &all {
        changes.push(wire(plant, waiting, actor).await?);
    }
    Ok(v1::ListChangesResponse { changes })
}

pub(super) async fn one(
    plant: &Plant,
    actor: &Actor,
    request: v1::GetChangeRequest,
) -> Result<v1::GetChangeResponse, Refusal> {
    let waiting = second::one(plant, actor, &request.id).await?;
    Ok(v1::GetChangeResponse { change: Some(wire(plant, &waiting, actor).await?) })
}

pub(super) async fn approve(
    plant: &Plant,
    actor: &Actor,
    request: v1::ApproveChangeRequest,
) -> Result<v1::ApproveChangeResponse, Refusal> {
    let waiting = second::one(plant, actor, &request.id).await?;
    let change = wire(plant, &waiting, actor).await?;
    let approval = second::approve(plant, actor, &request.id, request.dry_run).await?;
    let answer = carry_out(plant, &approval).await?;
    second::finish(plant, &approval).await?;
    Ok(v1::ApproveChangeResponse {
        change: Some(change),
        answer: if request.dry_run { Vec::new() } else { answer },
    })
}

pub(super) async fn reject(
    plant: &Plant,
    actor: &Actor,
    request: v1::RejectChangeRequest,
) -> Result<v1::RejectChangeResponse, Refusal> {
    let change = second::reject(plant, actor, &request.id, &request.reason).await?;
    let waiting = Waiting { change, basis: Basis::default() };
    Ok(v1::RejectChangeResponse { change: Some(wire(plant, &waiting, actor).await?) })
}

async fn wire(
    plant: &Plant,
    Waiting { change, basis }: &Waiting,
    actor: &Actor,
) -> Result<v1::Change, Refusal> {
    let Change { id, act, subject, text, by, role, asked, expires, .. } = change.clone();
    Ok(v1::Change {
        approved_by: Act::named(&act).map_or("", |act| act.approved_by().name()).to_owned(),
        yours_to_approve: second::may_approve(plant, change, basis, actor).await?,
        id,
        act,
        subject,
        text,
        by,
        role: role.name().to_owned(),
        asked_at: asked.0,
        expires_at: expires.0,
        zones: basis.zones.iter().map(ToString::to_string).collect(),
    })
}

/// Decides the kept request anew and carries it out, in the name of both. An act that may wait has its line
/// here: which function takes its request.
async fn carry_out(plant: &Plant, approval: &Approval) -> Result<Vec<u8>, Refusal> {
    let (actor, request) = (&approval.actor, approval.request.as_slice());
    macro_rules! with {
        ($work:path) => {
            $work(plant, actor, kept(request)?).await?.encode_to_vec()
        };
    }
    Ok(match actor.act() {
        Act::ImportDevices => with!(import::whole_list),
        Act::AdmitDevice => with!(device::admit),
        Act::ReadmitDevice => with!(device::readmit),
        Act::MoveDevice => with!(day_two::move_device),
        Act::ReplaceDevice => with!(day_two::replace),
        Act::RetireDevice => with!(day_two::retire),
        Act::ChangeAddresses => with!(day_two::addresses),
        Act::SettleVouched => with!(vouch::settle),
        Act::ExpectClear => with!(device::expect_clear),
        Act::Override => with!(overriding::accept),
        Act::CreateToken => with!(token::create),
        Act::ApplyRelease => with!(golden::apply),
        Act::SetReleaseState => with!(golden::set_state),
        Act::WantRelease => with!(golden::want),
        Act::AddReleaseKey => with!(release_key::add),
        Act::RotateReleaseKey => with!(release_key::rotate),
        Act::RemoveReleaseKey => with!(release_key::remove),
        Act::SetReleaseThreshold => with!(release_key::set_threshold),
        Act::StartRollout => with!(rollout::start),
        Act::ResumeRollout => with!(rollout::resume),
        Act::Rollback => with!(rollout::rollback),
        Act::CreateZone => with!(zone::create),
        Act::SetZone => with!(zone::set),
        Act::ApplyGraph => with!(graph::applied),
        Act::RotateAuthority => with!(authority::next),
        Act::ActivateAuthority => with!(authority::sign),
        Act::AllowConduit => with!(zone::allow),
        Act::CloseConduit => with!(zone::close),
        Act::InviteAdministrator => with!(people::invite),
        Act::RemoveAdministrator => with!(people::remove),
        Act::SetAdministrator => with!(people::set),
        Act::ReadStatus
        | Act::ReadDevices
        | Act::ReadReleases
        | Act::ReadZones
        | Act::ReadAudit
        | Act::ReadChanges
        | Act::LearnRelease
        | Act::HaltRollout
        | Act::QuarantineDevice
        | Act::AttestDevice
        | Act::RevokeToken
        | Act::AddSbom
        | Act::RemoveSbom
        | Act::EndOverride
        | Act::DistrustAuthority
        | Act::ApproveChange
        | Act::RejectChange
        | Act::ReadAdministrators
        | Act::RenewCertificate
        | Act::Backup
        | Act::Restore => {
            return Err(Refusal::internal(format!("{} never waits", actor.act().name())));
        }
    })
}

fn kept<M: Message + Default>(request: &[u8]) -> Result<M, Refusal> {
    M::decode(request).map_err(Refusal::internal)
}
