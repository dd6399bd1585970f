//! Approves a change that waits, or rejects it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::join::Second;
use super::view::found;
use crate::admin::actor::{Act, Actor, permitted};
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::people::Hands;
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::change::{Basis, Change};
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::store::{Txn, TxnError};

/// A change that may be carried out now.
#[derive(Debug)]
pub struct Approval {
    /// Both people.
    pub actor: Actor,
    /// The request, as it came.
    pub request: Vec<u8>,
    /// The change.
    pub change: Change,
}

/// Lets `approver` join the change `id`. Nothing is carried out yet: the request is to be decided anew with the
/// [`Approval`]'s actor.
pub async fn approve(plant: &Plant, approver: &Actor, id: &str, dry_run: bool) -> Result<Approval, Refusal> {
    let (held, basis) = found(plant, approver, id).await?;
    let change = held.record.clone();
    let act = Act::named(&change.act).ok_or_else(|| {
        Refusal::malformed(format!("this broker does not know {}; reject the change", change.act))
    })?;
    if change.by == approver.name() {
        return Err(Refusal::NotPermitted(format!(
            "{} asked for change {id}; nobody approves their own",
            change.by
        )));
    }
    permitted(approver.name(), approver.role(), act, act.approved_by())?;
    let asked = requester(plant, &change).await?;
    different_roles(act, asked.role, approver.role())?;
    Hands::read(plant).await?.apart(&change.by, approver.name())?;
    let request = plant.blobs.fetch(change.request, proto::MAX_ADMIN_REQUEST).await;
    let request = request.map_err(Refusal::internal)?;
    let second = Second {
        name: approver.name().to_owned(),
        scope: approver.scope().clone(),
        change: Arc::new(held),
        basis: Arc::new(basis),
        dry_run,
        joined: Arc::new(AtomicBool::new(false)),
    };
    Ok(Approval { actor: Actor::with(&asked, act, second)?, request, change })
}

/// Whether `actor` may approve the change, as far as can be told before it is decided anew.
pub async fn may_approve(
    plant: &Plant,
    change: &Change,
    basis: &Basis,
    actor: &Actor,
) -> Result<bool, Refusal> {
    let allowed = |act: Act| {
        permitted(actor.name(), actor.role(), act, act.approved_by()).is_ok()
            && different_roles(act, change.role, actor.role()).is_ok()
    };
    let may = change.by != actor.name()
        && actor.scope().covers(&basis.zones)
        && Act::named(&change.act).is_some_and(allowed);
    Ok(may && Hands::read(plant).await?.apart(&change.by, actor.name()).is_ok())
}

/// Whoever asked for the change, as of today.
async fn requester(plant: &Plant, change: &Change) -> Result<Administrator, Refusal> {
    let held: Option<Held<Administrator>> = fetch(plant.store.as_ref(), admin_key(&change.by)).await?;
    let same = held.map(|held| held.record).filter(|record| record.created == change.since);
    same.ok_or_else(|| {
        Refusal::Conflict(format!(
            "{}, who asked for change {}, is no administrator any more; reject it, and ask for it yourself if it is right",
            change.by, change.id
        ))
    })
}

fn different_roles(act: Act, one: AdminRole, other: AdminRole) -> Result<(), Refusal> {
    if act.demand().needs_two_roles() && one == other {
        return Err(Refusal::NotPermitted(format!(
            "{} needs two people of different roles; both have the role {}",
            act.name(),
            one.name()
        )));
    }
    Ok(())
}

/// Ends a change that was carried out and had nothing left to do.
pub async fn finish(plant: &Plant, approval: &Approval) -> Result<(), Refusal> {
    let Some(second) = approval.actor.second() else { return Ok(()) };
    if second.dry_run || second.has_joined() {
        return Ok(());
    }
    let what = format!("{} {}: it was so already", approval.change.act, approval.change.subject);
    remove(plant, &second.change, second.name(), "change.approve", &what).await
}

/// Drops the change `id`. Whoever asked for it may, and whoever could approve it.
pub async fn reject(plant: &Plant, actor: &Actor, id: &str, reason: &str) -> Result<Change, Refusal> {
    let (held, basis) = found(plant, actor, id).await?;
    let change = held.record.clone();
    if change.by != actor.name() {
        not_about(&change, actor.name())?;
        if let Some(act) = Act::named(&change.act) {
            permitted(actor.name(), actor.role(), act, act.approved_by())?;
        }
        if !actor.scope().covers(&basis.zones) {
            return Err(Refusal::NotPermitted(format!(
                "change {id} touches zones that are not{}",
                actor.scope().phrase()
            )));
        }
    }
    let reason = match reason {
        "" => "no reason given",
        reason => printable("reason", reason, MAX_REASON)?,
    };
    let text = format!("{} {}, asked for by {}: {reason}", change.act, change.subject, change.by);
    remove(plant, &held, actor.name(), "change.reject", &text).await?;
    Ok(change)
}

/// Whoever is to be removed, or to get another role, would drop it for as long as they are there.
fn not_about(change: &Change, name: &str) -> Result<(), Refusal> {
    let of_a_person =
        matches!(Act::named(&change.act), Some(Act::RemoveAdministrator | Act::SetAdministrator));
    if of_a_person && change.subject == name {
        return Err(Refusal::NotPermitted(format!(
            "change {} is about {name}; {}, who asked for it, or another owner may drop it",
            change.id, change.by
        )));
    }
    Ok(())
}

async fn remove(
    plant: &Plant,
    held: &Held<Change>,
    by: &str,
    action: &str,
    text: &str,
) -> Result<(), Refusal> {
    let event = Event::new(plant.now(), by, action, &held.record.id, text);
    let txn = Txn::new().unchanged(held.key.clone(), held.version).delete(held.key.clone());
    match plant.store.transact(txn.audit(event.entry())).await {
        Ok(_) => Ok(()),
        Err(TxnError::Conflict { .. }) => Err(Refusal::Conflict(format!(
            "change {} was approved or rejected by somebody else meanwhile",
            held.record.id
        ))),
        Err(error) => Err(Refusal::internal(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_one_role_are_not_two_roles() {
        let same = different_roles(Act::Override, AdminRole::Owner, AdminRole::Owner).unwrap_err();
        assert_eq!(
            same.to_string(),
            "device.override needs two people of different roles; both have the role owner"
        );
        different_roles(Act::Override, AdminRole::Operator, AdminRole::Security).unwrap();
        different_roles(Act::SetZone, AdminRole::Security, AdminRole::Security).unwrap();
        assert_eq!(Act::Override.approved_by(), AdminRole::Security);
        assert_eq!(Act::SetZone.approved_by(), Act::SetZone.needs());
    }
}
