//! Plans: what a change of golden values would do to the fleet, asked before it is done. Nothing is written.

use policy::digest::Digest;
use policy::reference::dsse::Envelope;
use policy::reference::manifest::Manifest;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::reference::supposed::Supposed;
use policy::time::UnixTime;

use super::apply::{changed, count};
use super::basis::Basis;
use super::forecast::{Change, Line, fleet};
use super::state::changed as with_state;
use super::{envelope_refusal, known, refusal};
use crate::admin::Actor;
use crate::golden::{self, Golden};
use crate::plant::Plant;
use crate::record::golden::{ReleaseRecord, release_key};
use crate::record::{Held, fetch};
use crate::release_keys::KeyRing;
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust;

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
    /// A manifest that nobody has signed yet: it can be planned, and nothing else.
    Unsigned(String),
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
    /// Whether the release is signed: only then it can be applied.
    pub signed: bool,
    /// What it rests on.
    pub basis: Basis,
}

/// The golden values after a change, and what the change is.
struct Planned {
    release: ReleaseId,
    manifest: Digest,
    state: ReleaseState,
    after: Supposed,
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
    let active = to.unwrap_or(ReleaseState::Active);
    let planned = match subject {
        Subject::Envelope { envelope, allow_rollback } => {
            of_envelope(plant, &golden, envelope, allow_rollback.as_ref(), active).await?
        }
        Subject::Unsigned(text) => of_manifest(plant, &golden, text, active).await?,
        Subject::Known(release) => of_known(plant, &golden, release, to).await?,
    };
    let Planned { release, manifest, state, after } = planned;
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let basis = Basis::of(plant, &zones, golden.n, (&release.product, manifest), state)?;
    let change = Change { product: &release.product, before: golden.values.clone(), after, at };
    let lines = fleet(plant, actor.scope(), change).await?;
    let signed = !matches!(subject, Subject::Unsigned(_));
    Ok(Plan { release, state, lines, signed, basis })
}

/// The golden values with a signed release, held to everything that applying it is held to.
async fn of_envelope(
    plant: &Plant,
    golden: &Golden,
    envelope: &[u8],
    allow_rollback: Option<&ReleaseId>,
    to: ReleaseState,
) -> Result<Planned, Refusal> {
    let stated = Envelope::parse(envelope).and_then(|envelope| envelope.stated());
    let stated = stated.map_err(|error| envelope_refusal(&error))?;
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let signed = keys.verify(envelope, stated.product()).map_err(refusal)?;
    let id = signed.id();
    let key = release_key(&id.product, id.version.as_str());
    let held: Option<Held<ReleaseRecord>> = fetch(plant.store.as_ref(), key).await?;
    if held.is_none() {
        count(plant, Txn::new(), signed.manifest(), allow_rollback == Some(id)).await?;
    }
    let after = changed(&golden.values, &signed, held.as_ref().map(|held| &held.record), to)?.into();
    Ok(Planned { release: id.clone(), manifest: signed.manifest().digest(), state: to, after })
}

/// The golden values with a manifest that nobody has signed.
async fn of_manifest(
    plant: &Plant,
    golden: &Golden,
    text: &str,
    to: ReleaseState,
) -> Result<Planned, Refusal> {
    let manifest = Manifest::parse(text).map_err(|faults| Refusal::malformed(faults.to_string()))?;
    let (release, digest) = (manifest.id().clone(), manifest.digest());
    if golden.values.release(&release).is_none() {
        count(plant, Txn::new(), &manifest, false).await?;
    }
    let after = Supposed::with_unsigned(golden.values.as_ref().clone(), manifest, to);
    let after = after.map_err(|error| Refusal::Conflict(error.to_string()))?;
    Ok(Planned { release, manifest: digest, state: to, after })
}

/// The golden values with a release that the broker has in another state.
async fn of_known(
    plant: &Plant,
    golden: &Golden,
    release: &ReleaseId,
    to: Option<ReleaseState>,
) -> Result<Planned, Refusal> {
    let held = known(plant, release).await?.record;
    let state = to.unwrap_or(held.state);
    if let Err(error) = held.state.change_to(state)
        && state != held.state
    {
        return Err(Refusal::Conflict(format!("{release}: {error}")));
    }
    let after = with_state(&golden.values, release, state).into();
    Ok(Planned { release: release.clone(), manifest: held.manifest, state, after })
}
