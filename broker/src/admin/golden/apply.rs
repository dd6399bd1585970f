//! Applies a signed release: verified, forecast, then made to count in one transaction.

use policy::id::{ProductName, ZoneName};
use policy::reference::dsse::{Envelope, SignedRelease};
use policy::reference::manifest::Manifest;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::reference::{ReferenceError, ReferenceValues};

use super::basis::Basis;
use super::forecast::{Change, Line, fleet};
use super::learn::counter;
use super::state::{as_seen, consequences, not_over, reasoned};
use super::{envelope_refusal, refusal};
use crate::admin::Actor;
use crate::admin::change::{Draft, Seen, commit};
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::{
    GOLDEN, GoldenHead, ProductCounter, ReleaseRecord, StateChange, product_key, release_key,
};
use crate::record::plant::TRUST;
use crate::record::{Held, fetch, stored};
use crate::release_keys::KeyRing;
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust;

/// What a change of a release does.
#[derive(Debug)]
pub struct Applied {
    /// The release.
    pub release: ReleaseId,
    /// What it means for devices, of a dry run.
    pub forecast: Vec<Line>,
    /// The release as it was.
    pub seen: Seen,
    /// What the forecast rests on.
    pub basis: Basis,
    /// Revision of the golden values after the change.
    pub golden: u64,
}

/// How a release is applied.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The state that it gets.
    pub to: ReleaseState,
    /// Take this release although its counter does not rise.
    pub allow_rollback: Option<ReleaseId>,
    /// What the caller saw of it.
    pub seen: Option<Seen>,
    /// Revision of the golden values that the caller's plan was made on.
    pub base: Option<u64>,
    /// What the caller's plan rests on.
    pub plan: Option<Basis>,
    /// Why; needed to withdraw.
    pub reason: String,
    /// Only say what it would do.
    pub dry_run: bool,
}

/// Takes the release in `envelope` on these terms, or, for a dry run, says what that would do.
pub async fn apply(plant: &Plant, actor: &Actor, envelope: &[u8], terms: &Terms) -> Result<Applied, Refusal> {
    not_over(terms.to, plant.now())?;
    reasoned(terms.to, &terms.reason)?;
    let stated = Envelope::parse(envelope).and_then(|envelope| envelope.stated());
    let stated = stated.map_err(|error| envelope_refusal(&error))?.id().clone();
    if let Some(named) = terms.allow_rollback.as_ref().filter(|named| **named != stated) {
        return Err(Refusal::malformed(format!(
            "the file holds {stated}, and a rollback to {named} was allowed; name the release in the file"
        )));
    }
    commit(plant, || decide(plant, actor, envelope, &stated.product, terms)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    envelope: &[u8],
    product: &ProductName,
    terms: &Terms,
) -> Result<Draft<Applied>, Refusal> {
    // Keys may change while this is decided: what verifies it is compared.
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let signed = &keys.verify(envelope, product).map_err(refusal)?;
    let golden = golden::current(plant).await.map_err(refusal)?;
    let (id, to) = (signed.id(), terms.to);
    let (zones, trust) = trust::segmentation_at(plant).await?;
    let about = (&id.product, signed.manifest().digest());
    let basis = Basis::of(plant, &zones, golden.n, about, to)?;
    // Older tools know the revision alone.
    let base = terms.base.map(|golden| basis.at(golden));
    for planned in [&base, &terms.plan] {
        basis.expected(planned.as_ref(), &id.to_string())?;
    }
    let key = release_key(&id.product, id.version.as_str());
    let held: Option<Held<ReleaseRecord>> = fetch(plant.store.as_ref(), key.clone()).await?;
    let seen = as_seen(id, held.as_ref(), terms.seen.as_ref())?;
    let before = golden.values.release(id).map(policy::reference::Release::state);
    let mut txn = match &held {
        Some(held) => Txn::new().unchanged(key, held.version),
        None => {
            count(plant, Txn::new().absent(key), signed.manifest(), terms.allow_rollback.is_some()).await?
        }
    };
    let after = changed(&golden.values, signed, held.as_ref().map(|held| &held.record), to)?;
    let mut applied = Applied { release: id.clone(), forecast: Vec::new(), seen, basis, golden: golden.n };
    // A dry run is refused what the change would be refused.
    let reach = actor.reach(plant, &zones_of(plant, &id.product).await?).await?;
    let now = plant.now();
    let change = StateChange { at: now, by: actor.name().to_owned(), reason: terms.reason.trim().to_owned() };
    txn = consequences(plant, txn, id, to, &change).await?;
    if terms.dry_run {
        let supposed =
            Change { product: &id.product, before: golden.values.clone(), after: after.into(), at: None };
        applied.forecast = fleet(plant, actor.scope(), supposed).await?;
    }
    let signers: Vec<String> = signed.signers().iter().map(ToString::to_string).collect();
    let vouched = |held: &Held<ReleaseRecord>| signers.iter().all(|id| held.record.signers.contains(id));
    if terms.dry_run || (before == Some(to) && held.as_ref().is_some_and(vouched)) {
        return Ok(Draft::nothing(applied));
    }
    applied.golden = golden.n.saturating_add(1);
    // The blob first, then the record that names it.
    let blob = plant.blobs.put(envelope.to_vec()).await.map_err(Refusal::internal)?;
    let record = ReleaseRecord {
        product: id.product.clone(),
        version: id.version.to_string(),
        counter: signed.manifest().counter(),
        state: to,
        envelope: blob,
        manifest: signed.manifest().digest(),
        signers,
        needed: keys.needed(product),
        applied_at: now,
        applied_by: actor.name().to_owned(),
        changed: (!change.reason.is_empty()).then(|| change.clone()),
    };
    let rollback = if terms.allow_rollback.is_some() { ", its counter may go back" } else { "" };
    let why = change.because();
    let deed = reach.deed(&id.to_string(), &format!("is {to}{rollback}, manifest {}{why}", record.manifest));
    let txn = keys
        .unchanged(txn)
        .unchanged(GOLDEN, golden.version)
        .unchanged(TRUST, trust)
        .put(GOLDEN, stored(&GoldenHead { n: applied.golden })?)
        .put(release_key(&id.product, id.version.as_str()), stored(&record)?);
    Ok(Draft::write(applied, txn, deed))
}

/// The zones that accept `product`. Golden values are plant-wide: a release of it touches them all.
pub(in crate::admin) async fn zones_of(
    plant: &Plant,
    product: &ProductName,
) -> Result<Vec<ZoneName>, Refusal> {
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let accepts = known.zones().filter(|zone| zone.products.contains(product));
    Ok(accepts.map(|zone| zone.name.clone()).collect())
}

/// The golden values with the release in its new state; `known` is what is on record of it.
pub(super) fn changed(
    before: &ReferenceValues,
    signed: &SignedRelease,
    known: Option<&ReleaseRecord>,
    to: ReleaseState,
) -> Result<ReferenceValues, Refusal> {
    let conflict = |error: ReferenceError| Refusal::Conflict(error.to_string());
    let (id, found) = (signed.id(), signed.manifest().digest());
    if let Some(known) = known.map(|record| record.manifest).filter(|known| *known != found) {
        return Err(conflict(ReferenceError::NameTaken { id: id.clone(), known, found }));
    }
    let mut after = before.clone();
    let state = known.map_or(ReleaseState::Pending, |record| record.state);
    after.insert(signed.clone(), state).map_err(conflict)?;
    if after.release(signed.id()).is_some_and(|release| release.state() != to) {
        after.change_state(signed.id(), to).map_err(conflict)?;
    }
    Ok(after)
}

/// Raises the product's counter to that of a new release; a counter that does not rise is a rollback, and leaves
/// it where it is if it is allowed.
pub(super) async fn count(
    plant: &Plant,
    txn: Txn,
    manifest: &Manifest,
    allowed: bool,
) -> Result<Txn, Refusal> {
    let (product, new) = (manifest.product(), manifest.counter());
    let held = counter(plant, product).await?;
    let highest = held.as_ref().map_or(0, |held| held.record.counter);
    if held.is_some() && new <= highest && !allowed {
        return Err(Refusal::Conflict(format!(
            "{} has counter {new}, and {product} is at {highest}: it would be a rollback; sign it with counter {}, make a known release active again, or take it back by name with --allow-rollback {}",
            manifest.id(),
            highest.saturating_add(1),
            manifest.id()
        )));
    }
    let key = product_key(product);
    let txn = match held {
        Some(held) => txn.unchanged(key.clone(), held.version),
        None => txn.absent(key.clone()),
    };
    Ok(txn.put(key, stored(&ProductCounter { counter: new.max(highest) })?))
}
