//! How many keys must sign a release of a product.

use std::num::NonZeroU8;

use policy::id::ProductName;
use policy::reference::dsse::MAX_SIGNATURES;

use super::{LOOK, reach};
use crate::admin::Actor;
use crate::admin::change::{Draft, Seen, commit};
use crate::plant::Plant;
use crate::record::release_key::{ThresholdRecord, threshold_key};
use crate::record::stored;
use crate::release_keys::KeyRing;
use crate::session::Refusal;
use crate::store::Txn;

/// A threshold to set.
#[derive(Debug, Clone)]
pub struct Threshold {
    /// The product.
    pub product: ProductName,
    /// How many keys must sign.
    pub needed: NonZeroU8,
    /// What the caller saw.
    pub seen: Option<Seen>,
    /// Only say what it would do.
    pub dry_run: bool,
}

/// A threshold that was set.
#[derive(Debug)]
pub struct Changed {
    /// How many had to before.
    pub before: NonZeroU8,
    /// How many keys there are for the product.
    pub available: usize,
    /// What there was.
    pub seen: Seen,
}

/// Sets it. Releases that were applied before count on with the number that they needed then.
pub async fn set(plant: &Plant, actor: &Actor, wanted: &Threshold) -> Result<Changed, Refusal> {
    if usize::from(wanted.needed.get()) > MAX_SIGNATURES {
        return Err(Refusal::malformed(format!("an envelope holds {MAX_SIGNATURES} signatures at most")));
    }
    commit(plant, || decide(plant, actor, wanted)).await
}

async fn decide(plant: &Plant, actor: &Actor, wanted: &Threshold) -> Result<Draft<Changed>, Refusal> {
    let Threshold { product, needed, .. } = wanted;
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let (held, before) = (keys.threshold(product), keys.needed(product));
    let seen = Seen::of(held, |record| signatures(record.needed), &signatures(before));
    let last = held.map(|held| (held.record.by.as_str(), held.record.at));
    seen.expected(wanted.seen.as_ref(), &format!("the threshold of {product}"), last, LOOK)?;
    let available = keys.available(product);
    if usize::from(needed.get()) > available {
        return Err(Refusal::Conflict(format!(
            "{product} has {available} release keys in force, so no release of it could have {needed} signatures; add others first with `touchstone golden key add NAME --public FILE --product {product}`"
        )));
    }
    let reach = reach(plant, actor, std::slice::from_ref(product)).await?;
    let changed = Changed { before, available, seen };
    if before == *needed {
        return Ok(Draft::nothing(changed));
    }
    let key = threshold_key(product);
    let txn = match held {
        Some(held) => Txn::new().unchanged(key.clone(), held.version),
        None => Txn::new().absent(key.clone()),
    };
    let record = ThresholdRecord { needed: *needed, at: plant.now(), by: actor.name().to_owned() };
    let txn = keys.raised(txn.put(key, stored(&record)?))?;
    let text = format!("a release of it needs {}; before it was {before}", signatures(*needed));
    Ok(Draft::unless(wanted.dry_run, changed, txn, reach.deed(product.as_str(), &text)))
}

fn signatures(needed: NonZeroU8) -> String {
    match needed.get() {
        1 => "1 signature".to_owned(),
        more => format!("{more} signatures"),
    }
}
