//! States of releases that the broker has: changed by name, without the file.

use policy::id::DeviceName;
use policy::reference::ReferenceValues;
use policy::reference::release::ReleaseId;
use policy::reference::state::{ReleaseState, TransitionError};
use policy::time::UnixTime;

use super::apply::zones_of;
use super::forecast::{Change, Line, fleet};
use super::{known, refusal, running};
use crate::admin::Actor;
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::change::{Draft, Seen, commit};
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::{
    GOLDEN, GoldenHead, ReleaseRecord, StateChange, WantedRelease, Withdrawal, wanted_key, withdrawal_key,
};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;

/// A change that is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The release.
    pub release: ReleaseId,
    /// The state that it gets.
    pub to: ReleaseState,
    /// Why; needed to withdraw.
    pub reason: String,
    /// What the caller saw of it.
    pub seen: Option<Seen>,
    /// Only say what it would do.
    pub dry_run: bool,
}

/// What a change of a state does.
#[derive(Debug)]
pub struct Changed {
    /// The release as it was.
    pub before: ReleaseRecord,
    /// The same, as [`Seen`] by whoever decides now.
    pub seen: Seen,
    /// What it means for devices, of a dry run.
    pub forecast: Vec<Line>,
    /// For a withdrawal: devices that last proved to run it.
    pub running: Vec<DeviceName>,
}

/// What an administrator sees of a release.
pub(super) fn seen(held: Option<&Held<ReleaseRecord>>) -> Seen {
    Seen::of(held, |record| record.state.to_string(), "not known")
}

/// Refuses a change by somebody who saw another state of the release.
pub(super) fn as_seen(
    id: &ReleaseId,
    held: Option<&Held<ReleaseRecord>>,
    expected: Option<&Seen>,
) -> Result<Seen, Refusal> {
    let present = seen(held);
    let last = held.map(|held| held.record.last_change());
    present.expected(expected, &id.to_string(), last, "touchstone golden list")?;
    Ok(present)
}

/// Refuses a deprecation that is over before it begins.
pub(super) fn not_over(to: ReleaseState, now: UnixTime) -> Result<(), Refusal> {
    match to {
        ReleaseState::Deprecated { until } if until <= now => {
            Err(Refusal::malformed(format!("{until} is past; give a later end, or retire the release")))
        }
        _ => Ok(()),
    }
}

/// Refuses a withdrawal without a reason, and a reason that cannot be shown.
pub(super) fn reasoned(to: ReleaseState, reason: &str) -> Result<(), Refusal> {
    if to == ReleaseState::Withdrawn || !reason.is_empty() {
        printable("reason", reason, MAX_REASON)?;
    }
    Ok(())
}

/// Gives a known release another state.
pub async fn set(plant: &Plant, actor: &Actor, request: &Request) -> Result<Changed, Refusal> {
    not_over(request.to, plant.now())?;
    reasoned(request.to, &request.reason)?;
    commit(plant, || decide(plant, actor, request)).await
}

async fn decide(plant: &Plant, actor: &Actor, request: &Request) -> Result<Draft<Changed>, Refusal> {
    let Request { release, to, reason, .. } = request;
    let golden = golden::current(plant).await.map_err(refusal)?;
    let mut held = known(plant, release).await?;
    let seen = as_seen(release, Some(&held), request.seen.as_ref())?;
    let before = held.record.clone();
    let step = before.state.change_to(*to);
    let accepting = matches!(to, ReleaseState::Active | ReleaseState::Deprecated { .. });
    if let Some(why) = golden.void.get(release).filter(|_| accepting) {
        return Err(Refusal::Conflict(format!(
            "{release} counts for nothing: {why}; have it signed again with keys in force, then `touchstone golden apply` it"
        )));
    }
    if let Err(reason @ (TransitionError::Withdrawn | TransitionError::NoSuchStep { .. })) = step {
        return Err(Refusal::Conflict(format!("{release}: {reason}")));
    }
    // A dry run is refused what the change would be refused.
    let now = plant.now();
    let change = StateChange { at: now, by: actor.name().to_owned(), reason: reason.trim().to_owned() };
    let reach = actor.reach(plant, &zones_of(plant, &release.product).await?).await?;
    let txn = consequences(plant, Txn::new(), release, *to, &change).await?;
    // What it does was asked before; whoever withdraws a release does not wait for forecasts.
    let forecast = match request.dry_run {
        true => {
            let after = changed(&golden.values, release, *to).into();
            let before = golden.values.clone();
            let supposed = Change { product: &release.product, before, after, at: None };
            fleet(plant, actor.scope(), supposed).await?
        }
        false => Vec::new(),
    };
    let withdrawn = *to == ReleaseState::Withdrawn;
    let running = if withdrawn { running::devices(plant, actor.scope(), release).await? } else { Vec::new() };
    let answer = Changed { before, seen, forecast, running };
    if request.dry_run || step.is_err() {
        return Ok(Draft::nothing(answer));
    }
    let deed = reach.deed(&release.to_string(), &format!("is {to}{}", change.because()));
    (held.record.state, held.record.changed) = (*to, Some(change));
    let txn = txn
        .unchanged(GOLDEN, golden.version)
        .put(GOLDEN, stored(&GoldenHead { n: golden.n.saturating_add(1) })?)
        .unchanged(held.key.clone(), held.version)
        .put(held.key, stored(&held.record)?);
    Ok(Draft::write(answer, txn, deed))
}

/// The golden values with the release in its new state; one that is not among them changes nothing.
pub(super) fn changed(before: &ReferenceValues, release: &ReleaseId, to: ReleaseState) -> ReferenceValues {
    let mut after = before.clone();
    // A step that the release's life does not have was refused before.
    match after.change_state(release, to) {
        Ok(()) => after,
        Err(_) => before.clone(),
    }
}

/// What else becomes true with a state: a withdrawal begins to reach devices, and no device is told to install
/// what is not accepted.
pub(super) async fn consequences(
    plant: &Plant,
    mut txn: Txn,
    release: &ReleaseId,
    to: ReleaseState,
    change: &StateChange,
) -> Result<Txn, Refusal> {
    if to == ReleaseState::Withdrawn {
        let StateChange { at, by, reason } = change.clone();
        let withdrawal = Withdrawal { release: release.clone(), at, by, reason };
        txn = txn.put(withdrawal_key(release), stored(&withdrawal)?);
    }
    let key = wanted_key(&release.product);
    let held: Option<Held<WantedRelease>> = fetch(plant.store.as_ref(), key.clone()).await?;
    match held {
        None => Ok(txn.absent(key)),
        Some(held) if held.record.release != *release => Ok(txn.unchanged(key, held.version)),
        Some(held) => match to {
            ReleaseState::Withdrawn => Ok(txn.unchanged(key.clone(), held.version).delete(key)),
            ReleaseState::Retired => Err(Refusal::Conflict(format!(
                "{release} is wanted: devices are told to install it; want another release first with `touchstone golden want {}@VERSION`",
                release.product
            ))),
            ReleaseState::Active | ReleaseState::Deprecated { .. } | ReleaseState::Pending => {
                Ok(txn.unchanged(key, held.version))
            }
        },
    }
}
