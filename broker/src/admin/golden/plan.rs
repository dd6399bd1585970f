//! Plans: what a change of golden values would do to the fleet, asked before it is done. Nothing is written.

use policy::reference::ReferenceValues;
use policy::reference::dsse::Envelope;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;

use super::apply::{changed, count};
use super::forecast::{Line, fleet_at};
use super::state::changed as with_state;
use super::{envelope_refusal, known, refusal};
use crate::admin::Actor;
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::{ReleaseRecord, release_key};
use crate::record::{Held, fetch};
use crate::release_keys::KeyRing;
use crate::session::Refusal;
use crate::store::Txn;

/// What is planned.
#[derive(Debug)]
pub enum Subject {
    /// A release that somebody has signed.
    Envelope {
        /// DSSE, JSON.
        envelope: Vec<u8>,
        /// A release whose counter need not rise.
        allow_rollback: Option<ReleaseId>,
    },
    /// A release that the broker has.
    Known(ReleaseId),
}

/// The plan.
#[derive(Debug)]
pub struct Plan {
    /// The release.
    pub release: ReleaseId,
    /// The state that it would have.
    pub state: ReleaseState,
    /// What that means for devices.
    pub lines: Vec<Line>,
    /// Revision of the golden values that it was made on.
    pub base: u64,
}

/// Says what it would mean if `subject` had the state `to` at the time `at`.
pub async fn plan(
    plant: &Plant,
    actor: &Actor,
    subject: &Subject,
    to: Option<ReleaseState>,
    at: Option<UnixTime>,
) -> Result<Plan, Refusal> {
    let golden = golden::current(plant).await.map_err(refusal)?;
    let (release, state, after) = match subject {
        Subject::Envelope { envelope, allow_rollback } => {
            let to = to.unwrap_or(ReleaseState::Active);
            let (release, after) =
                of_envelope(plant, &golden.values, envelope, allow_rollback.as_ref(), to).await?;
            (release, to, after)
        }
        Subject::Known(release) => {
            let held = known(plant, release).await?;
            let to = to.unwrap_or(held.record.state);
            if let Err(error) = held.record.state.change_to(to)
                && to != held.record.state
            {
                return Err(Refusal::Conflict(format!("{release}: {error}")));
            }
            (release.clone(), to, with_state(&golden.values, release, to))
        }
    };
    let at = at.unwrap_or_else(|| plant.now());
    let lines = fleet_at(plant, actor.scope(), &release.product, &golden.values, &after, at).await?;
    Ok(Plan { release, state, lines, base: golden.n })
}

/// The golden values with a signed release, held to everything that applying it is held to.
async fn of_envelope(
    plant: &Plant,
    before: &ReferenceValues,
    envelope: &[u8],
    allow_rollback: Option<&ReleaseId>,
    to: ReleaseState,
) -> Result<(ReleaseId, ReferenceValues), Refusal> {
    let stated = Envelope::parse(envelope).and_then(|envelope| envelope.stated());
    let stated = stated.map_err(|error| envelope_refusal(&error))?;
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let signed = keys.verify(envelope, stated.product()).map_err(refusal)?;
    let id = signed.id();
    let key = release_key(&id.product, id.version.as_str());
    let held: Option<Held<ReleaseRecord>> = fetch(plant.store.as_ref(), key).await?;
    if held.is_none() {
        count(plant, Txn::new(), &signed, allow_rollback == Some(id)).await?;
    }
    let after = changed(before, &signed, held.as_ref().map(|held| &held.record), to)?;
    Ok((id.clone(), after))
}
