//! Applies a signed release: verified, forecast, then made to count in one transaction.

use policy::id::{ProductName, ZoneName};
use policy::reference::ReferenceValues;
use policy::reference::dsse::{Envelope, SignedRelease};
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;

use super::forecast::{Line, fleet};
use super::learn::counter;
use super::{envelope_refusal, refusal};
use crate::admin::Actor;
use crate::admin::change::{Draft, commit};
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::{GOLDEN, GoldenHead, ProductCounter, ReleaseRecord, product_key, release_key};
use crate::record::stored;
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust;

/// What a change of a release does.
#[derive(Debug)]
pub struct Applied {
    /// The release.
    pub release: ReleaseId,
    /// What it means for devices.
    pub forecast: Vec<Line>,
}

/// Gives the release in `envelope` the state `to`, or, for a dry run, says what that would do.
pub async fn apply(
    plant: &Plant,
    actor: &Actor,
    envelope: &[u8],
    to: ReleaseState,
    dry_run: bool,
) -> Result<Applied, Refusal> {
    if let ReleaseState::Deprecated { until } = to
        && until <= plant.now()
    {
        return Err(Refusal::malformed(format!("{until} is past; give a later end, or retire the release")));
    }
    let product = Envelope::parse(envelope).and_then(|envelope| envelope.stated_product());
    let product = product.map_err(|error| envelope_refusal(&error))?;
    let signed = golden::verify(plant, envelope, &product).await.map_err(refusal)?;
    commit(plant, || decide(plant, actor, envelope, &signed, to, dry_run)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    envelope: &[u8],
    signed: &SignedRelease,
    to: ReleaseState,
    dry_run: bool,
) -> Result<Draft<Applied>, Refusal> {
    let golden = golden::current(plant).await.map_err(refusal)?;
    let id = signed.id();
    let mut txn = Txn::new();
    let before = golden.values.release(id).map(policy::reference::Release::state);
    if before.is_none() {
        txn = count(plant, txn, signed).await?;
    }
    let after = changed(&golden.values, signed, to)?;
    let forecast = fleet(plant, actor.scope(), &id.product, &golden.values, &after).await?;
    let applied = Applied { release: id.clone(), forecast };
    if dry_run || before == Some(to) {
        return Ok(Draft::nothing(applied));
    }
    let reach = actor.reach(plant, &zones_of(plant, &id.product).await?).await?;
    let now = plant.now();
    // The blob first, then the record that names it.
    let blob = plant.blobs.put(envelope.to_vec()).await.map_err(Refusal::internal)?;
    let record = ReleaseRecord {
        product: id.product.clone(),
        version: id.version.to_string(),
        counter: signed.manifest().counter(),
        state: to,
        envelope: blob,
        manifest: signed.manifest().digest(),
        signers: signed.signers().iter().map(ToString::to_string).collect(),
        applied_at: now,
        applied_by: actor.name().to_owned(),
    };
    let deed = reach.deed(&id.to_string(), &format!("is {to}, manifest {}", record.manifest));
    let txn = txn
        .unchanged(GOLDEN, golden.version)
        .put(GOLDEN, stored(&GoldenHead { n: golden.n.saturating_add(1) })?)
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

/// The golden values with the release in its new state.
fn changed(
    before: &ReferenceValues,
    signed: &SignedRelease,
    to: ReleaseState,
) -> Result<ReferenceValues, Refusal> {
    let conflict = |error: policy::reference::ReferenceError| Refusal::Conflict(error.to_string());
    let mut after = before.clone();
    after.insert(signed.clone(), ReleaseState::Pending).map_err(conflict)?;
    if after.release(signed.id()).is_some_and(|release| release.state() != to) {
        after.change_state(signed.id(), to).map_err(conflict)?;
    }
    Ok(after)
}

/// Raises the product's counter to that of a new release; a counter that does not rise is a rollback.
async fn count(plant: &Plant, txn: Txn, signed: &SignedRelease) -> Result<Txn, Refusal> {
    let (product, new) = (&signed.id().product, signed.manifest().counter());
    let held = counter(plant, product).await?;
    let highest = held.as_ref().map_or(0, |held| held.record.counter);
    if held.is_some() && new <= highest {
        return Err(Refusal::Conflict(format!(
            "{} has counter {new}, and {product} is at {highest}: it would be a rollback; sign it with counter {} or make a known release active again",
            signed.id(),
            highest.saturating_add(1)
        )));
    }
    let key = product_key(product);
    let txn = match held {
        Some(held) => txn.unchanged(key.clone(), held.version),
        None => txn.absent(key.clone()),
    };
    Ok(txn.put(key, stored(&ProductCounter { counter: new })?))
}
