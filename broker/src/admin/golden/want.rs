//! The wanted release of a product: what its devices are told to install.
//!
//! Wanted, accepted and running are three things: this is a wish, the state of a release says what keeps trust,
//! and a quote proves what runs. A wish changes no trust, so the fleet does not attest for it.

use policy::id::ProductName;
use policy::reference::release::{ReleaseId, ReleaseVersion};

use super::apply::zones_of;
use super::{known, refusal};
use crate::admin::Actor;
use crate::admin::change::{Draft, Seen, commit};
use crate::admin::rollout::busy;
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::{WantedRelease, wanted_key};
use crate::record::rollout::rollout_key;
use crate::record::{Held, fetch, stored};
use crate::rollout;
use crate::session::Refusal;
use crate::store::Txn;

/// What a change of the wanted release comes to.
#[derive(Debug)]
pub struct Wish {
    /// Wanted before.
    pub before: Option<ReleaseVersion>,
    /// Wanted after.
    pub wanted: Option<ReleaseVersion>,
    /// What there was, as [`Seen`] by whoever decides now.
    pub seen: Seen,
}

/// Makes `version` the wanted release of `product`, or none.
pub async fn want(
    plant: &Plant,
    actor: &Actor,
    product: &ProductName,
    version: Option<&ReleaseVersion>,
    seen: Option<&Seen>,
    dry_run: bool,
) -> Result<Wish, Refusal> {
    commit(plant, || decide(plant, actor, product, version, seen, dry_run)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    product: &ProductName,
    version: Option<&ReleaseVersion>,
    seen: Option<&Seen>,
    dry_run: bool,
) -> Result<Draft<Wish>, Refusal> {
    let now = plant.now();
    let held: Option<Held<WantedRelease>> = fetch(plant.store.as_ref(), wanted_key(product)).await?;
    let present = Seen::of(held.as_ref(), |wanted| wanted.release.to_string(), "none");
    let last = held.as_ref().map(|held| (held.record.by.as_str(), held.record.since));
    present.expected(seen, &format!("the wanted release of {product}"), last, "touchstone golden list")?;
    let before = held.as_ref().map(|held| held.record.release.version.clone());
    let reach = actor.reach(plant, &zones_of(plant, product).await?).await?;
    let golden = golden::current(plant).await.map_err(refusal)?;
    let mut releases = golden.values.iter().map(|known| known.signed().id()).chain(golden.void.keys());
    if held.is_none() && version.is_none() && !releases.any(|release| release.product == *product) {
        return Err(Refusal::NotFound(format!(
            "there is no release of {product}; `touchstone golden list` shows what there is"
        )));
    }
    let wish = Wish { before, wanted: version.cloned(), seen: present };
    let (key, underway) = (wanted_key(product), rollout_key(product));
    let txn = match rollout::last(plant, product).await? {
        Some(held) if !held.record.state.is_over() => return Err(busy(&held.record)),
        _ if wish.before == wish.wanted => return Ok(Draft::nothing(wish)),
        Some(held) => Txn::new().unchanged(underway, held.version),
        None => Txn::new().absent(underway),
    };
    let txn = match &held {
        Some(held) => txn.unchanged(key.clone(), held.version),
        None => txn.absent(key.clone()),
    };
    let Some(version) = version else {
        let deed = reach.deed(product.as_str(), "no release is wanted");
        return Ok(Draft::unless(dry_run, wish, txn.delete(key), deed));
    };
    let release = ReleaseId { product: product.clone(), version: version.clone() };
    let target = known(plant, &release).await?;
    if !golden.accepts(&release, now) {
        let void = if golden.void.contains_key(&release) { ", and its signatures count no more" } else { "" };
        return Err(Refusal::Conflict(format!(
            "{release} is {}{void}, so a device that installs it loses trust; make it active first with `touchstone golden activate {release}`",
            target.record.state
        )));
    }
    let wanted = WantedRelease { release: release.clone(), since: now, by: actor.name().to_owned() };
    let text = wish.before.as_ref().map_or_else(String::new, |before| format!(" instead of {before}"));
    let deed = reach.deed(&release.to_string(), &format!("is wanted{text}"));
    let txn = txn.unchanged(target.key, target.version).put(key, stored(&wanted)?);
    Ok(Draft::unless(dry_run, wish, txn, deed))
}
