//! Who owns the plant after a change.
//!
//! An owner may step down. That another one goes is asked for by one owner and approved by a second, never by whom it is
//! about: otherwise whoever of two is faster, with a stolen key for one, has the plant alone.

use crate::admin::Actor;
use crate::plant::Plant;
use crate::record::plant::{ADMIN, AdminRole, Administrator};
use crate::record::{Held, list};
use crate::session::Refusal;
use crate::store::Txn;

/// The owners whose certificates have not ended.
async fn owners(plant: &Plant) -> Result<Vec<Held<Administrator>>, Refusal> {
    let (all, now): (Vec<Held<Administrator>>, _) = (list(plant.store.as_ref(), ADMIN).await?, plant.now());
    let owns =
        |held: &Held<Administrator>| held.record.role == AdminRole::Owner && held.record.not_after > now;
    Ok(all.into_iter().filter(owns).collect())
}

/// The transaction, if an owner is left without `leaving`; it expects that this one still is.
pub(super) async fn owner_left(plant: &Plant, leaving: &Administrator, txn: Txn) -> Result<Txn, Refusal> {
    if leaving.role != AdminRole::Owner {
        return Ok(txn);
    }
    let other = owners(plant).await?.into_iter().find(|held| held.record.name != leaving.name);
    let other = other.ok_or_else(|| {
        Refusal::Conflict(format!(
            "{} is the last owner; invite another one first, so that somebody can administer the plant",
            leaving.name
        ))
    })?;
    Ok(txn.unchanged(other.key, other.version))
}

/// Whether `leaving` is another owner, who goes with the word of two. Refused if there is no second who could say so.
pub(super) async fn loses_a_right(
    plant: &Plant,
    actor: &Actor,
    leaving: &Administrator,
) -> Result<bool, Refusal> {
    let ended = leaving.not_after <= plant.now();
    if leaving.role != AdminRole::Owner || ended || leaving.name == actor.name() {
        return Ok(false);
    }
    if actor.includes(&leaving.name) {
        return Err(Refusal::NotPermitted(format!(
            "it is about {0}; another owner approves it, or {0} steps down with `touchstone admin remove {0}`",
            leaving.name
        )));
    }
    let another =
        |held: &Held<Administrator>| ![actor.name(), &leaving.name].contains(&held.record.name.as_str());
    if actor.second().is_none() && !owners(plant).await?.iter().any(another) {
        return Err(Refusal::NotPermitted(format!(
            "{0} and {1} are the only owners, and neither takes the plant from the other: {1} steps down with \
             `touchstone admin remove {1}`; if the key of {1} is lost or stolen, `touchstone-broker recover --owner {1}` on \
             the broker's host makes another, and that one steps down",
            actor.name(),
            leaving.name
        )));
    }
    Ok(true)
}
