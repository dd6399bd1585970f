//! Changes that wait, as administrators see them.

use super::is_over;
use crate::admin::Actor;
use crate::plant::Plant;
use crate::record::change::{Basis, CHANGE, Change, change_key};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;

/// Bytes of the longest [`Basis`]: a plant has at most a thousand zones, and each is named twice.
const MAX_BASIS: usize = 1 << 18;
/// Characters of an id.
const ID: usize = 16;

/// A change that waits, with the zones that it touches.
#[derive(Debug)]
pub struct Waiting {
    /// The change.
    pub change: Change,
    /// What it touches and rests on.
    pub basis: Basis,
}

/// Every change that waits and that `actor` may see, the oldest first: those that touch a zone of theirs, and
/// their own.
pub async fn all(plant: &Plant, actor: &Actor) -> Result<Vec<Waiting>, Refusal> {
    let now = plant.now();
    let held: Vec<Held<Change>> = list(plant.store.as_ref(), CHANGE).await?;
    let mut all = Vec::new();
    for held in held.into_iter().filter(|held| !is_over(held.record.expires, now)) {
        let basis = basis(plant, &held.record).await?;
        if shown(actor, &held.record, &basis) {
            all.push(Waiting { change: held.record, basis });
        }
    }
    all.sort_by_key(|waiting| waiting.change.asked);
    Ok(all)
}

/// One change that waits.
pub async fn one(plant: &Plant, actor: &Actor, id: &str) -> Result<Waiting, Refusal> {
    let (held, basis) = found(plant, actor, id).await?;
    Ok(Waiting { change: held.record, basis })
}

/// The change `id`, if it waits and `actor` may see it.
pub(super) async fn found(plant: &Plant, actor: &Actor, id: &str) -> Result<(Held<Change>, Basis), Refusal> {
    let unknown = || {
        Refusal::NotFound(format!(
            "no change {id} waits{}; `touchstone change list` shows those that do, `touchstone audit list` what became of others",
            actor.scope().phrase()
        ))
    };
    if id.len() != ID || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Refusal::malformed(format!("a change is named by {ID} hex digits")));
    }
    let held: Held<Change> = fetch(plant.store.as_ref(), change_key(id)).await?.ok_or_else(unknown)?;
    let basis = basis(plant, &held.record).await?;
    if !shown(actor, &held.record, &basis) {
        return Err(unknown());
    }
    if is_over(held.record.expires, plant.now()) {
        return Err(Refusal::Conflict(format!(
            "change {id} waited until {}, which is past; ask for it again",
            held.record.expires
        )));
    }
    Ok((held, basis))
}

fn shown(actor: &Actor, change: &Change, basis: &Basis) -> bool {
    actor.scope().sees(&basis.zones) || change.by == actor.name()
}

async fn basis(plant: &Plant, change: &Change) -> Result<Basis, Refusal> {
    let bytes = plant.blobs.fetch(change.basis, MAX_BASIS).await.map_err(Refusal::internal)?;
    serde_json::from_slice(&bytes).map_err(Refusal::internal)
}
