//! Registers a release key, or puts one in another's place.

use policy::id::{ProductName, ReleaseKeyName};
use policy::reference::keys::{MAX_RELEASE_KEYS, PublicKey};

use super::remove::{Lost, after, take_along, told};
use super::{KeyRef, LOOK, found, named, reach, seen, words};
use crate::admin::Actor;
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::change::{Draft, Seen, commit};
use crate::admin::golden::refusal;
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::StateChange;
use crate::record::release_key::{ReleaseKeyRecord, release_key_key};
use crate::record::{Held, stored};
use crate::release_keys::{KeyRing, Registered};
use crate::session::Refusal;
use crate::store::{Revision, Txn};

/// Most products of one key: its record holds 4 KiB.
const MAX_PRODUCTS: usize = 32;

/// A key to register.
#[derive(Debug, Clone)]
pub struct New {
    /// What people will call it.
    pub name: ReleaseKeyName,
    /// PEM.
    pub public_key: String,
    /// Products it may sign; never none.
    pub products: Vec<ProductName>,
    /// What the caller saw under the name.
    pub seen: Option<Seen>,
    /// Only say what it would do.
    pub dry_run: bool,
}

/// A key to put in another's place.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// The former key.
    pub key: KeyRef,
    /// The new one, PEM.
    pub public_key: String,
    /// Others may have the former: nothing that it signed counts any more.
    pub compromised: bool,
    /// Why; may be empty.
    pub reason: String,
    /// What the caller saw of the former.
    pub seen: Option<Seen>,
    /// Only say what it would do.
    pub dry_run: bool,
}

/// A registered key.
#[derive(Debug)]
pub struct Added {
    /// The key.
    pub key: Registered,
    /// What there was under the name.
    pub seen: Seen,
}

/// Registers a key.
pub async fn add(plant: &Plant, actor: &Actor, new: &New) -> Result<Added, Refusal> {
    if !(1..=MAX_PRODUCTS).contains(&new.products.len()) {
        return Err(Refusal::malformed(format!(
            "name 1 to {MAX_PRODUCTS} products that the key may sign releases of"
        )));
    }
    commit(plant, || register(plant, actor, new)).await
}

async fn register(plant: &Plant, actor: &Actor, new: &New) -> Result<Draft<Added>, Refusal> {
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let name = &new.name;
    let mut products = new.products.clone();
    products.sort();
    products.dedup();
    let there = keys.named(name);
    let held = there.map(|key| &key.held);
    let now = Seen::of(held, |record| there.map_or_else(String::new, |key| words(key.id, record)), "no key");
    let last = held.map(|held| (held.record.by.as_str(), held.record.at));
    now.expected(new.seen.as_ref(), &format!("the release key {name}"), last, LOOK)?;
    let key = usable(&keys, &new.public_key)?;
    if let Some(there) = there {
        return Err(Refusal::Conflict(format!(
            "there is a release key {name} already, {}; choose another name, or put this key in its place with `touchstone golden key rotate {name} --public FILE`",
            words(there.id, &there.held.record)
        )));
    }
    if keys.in_force().count() >= MAX_RELEASE_KEYS {
        return Err(Refusal::Conflict(format!(
            "{MAX_RELEASE_KEYS} release keys are in force; remove those that nobody needs"
        )));
    }
    let record = record(plant, actor, name, &key, products);
    let reach = reach(plant, actor, &record.products).await?;
    let text = format!("registered, {} {}, for {}", key.alg().name(), key.id(), named(&record.products));
    let slot = release_key_key(&key.id());
    let txn = keys.raised(Txn::new().absent(slot.clone()).put(slot, stored(&record)?))?;
    let added = Added { key: registered(&key, record), seen: now };
    Ok(Draft::unless(new.dry_run, added, txn, reach.deed(name.as_str(), &text)))
}

/// A key in the place of another.
#[derive(Debug)]
pub struct Rotated {
    /// The key.
    pub key: Registered,
    /// The one that it replaces, as it was.
    pub before: Registered,
    /// What the former takes along, if it was compromised.
    pub lost: Lost,
    /// What there was under the name.
    pub seen: Seen,
}

/// Puts a new key in the place of another, which signs nothing new from then on.
pub async fn rotate(plant: &Plant, actor: &Actor, rotation: &Rotation) -> Result<Rotated, Refusal> {
    if !rotation.reason.is_empty() {
        printable("reason", &rotation.reason, MAX_REASON)?;
    }
    commit(plant, || replace(plant, actor, rotation)).await
}

async fn replace(plant: &Plant, actor: &Actor, rotation: &Rotation) -> Result<Draft<Rotated>, Refusal> {
    // Golden values first: what is decided on newer keys is compared with the older head, and fails.
    let golden = golden::current(plant).await.map_err(refusal)?;
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let former = found(&keys, &rotation.key)?;
    let (name, before) = (&former.held.record.name, former.held.record.clone());
    let now = as_seen(former, rotation.seen.as_ref())?;
    if let Some(change) = &before.removed {
        return Err(Refusal::Conflict(format!(
            "the release key {name} was removed on {} by {}; register a new one with `touchstone golden key add`",
            change.at, change.by
        )));
    }
    let key = usable(&keys, &rotation.public_key)?;
    let record = record(plant, actor, name, &key, before.products.clone());
    let reach = reach(plant, actor, &before.products).await?;
    let reason = match rotation.reason.trim() {
        "" => format!("rotated to {}", key.id()),
        reason => reason.to_owned(),
    };
    let change = StateChange { at: plant.now(), by: actor.name().to_owned(), reason };
    let ended = after(&before, &change, rotation.compromised);
    let (slot, old) = (release_key_key(&key.id()), former.held.key.clone());
    let txn = Txn::new().absent(slot.clone()).put(slot, stored(&record)?);
    let txn = txn.unchanged(old.clone(), former.held.version).put(old, stored(&ended)?);
    let (mut txn, mut lost) = (keys.raised(txn)?, Lost::default());
    if rotation.compromised {
        // The new key has signed nothing yet, so it vouches for nothing that the former did.
        let without = keys.with(former.id, ended);
        (lost, txn) = take_along(plant, actor, &golden, (former, &without), txn, rotation.dry_run).await?;
    }
    let text = format!(
        "{} {} is in the place of {}",
        key.alg().name(),
        key.id(),
        told(former, &change, rotation.compromised, &lost.void)
    );
    let rotated = Rotated { key: registered(&key, record), before: former.clone(), lost, seen: now };
    Ok(Draft::unless(rotation.dry_run, rotated, txn, reach.deed(name.as_str(), &text)))
}

/// Refuses a change of `key` by somebody who saw another one under its name.
pub(super) fn as_seen(key: &Registered, looked: Option<&Seen>) -> Result<Seen, Refusal> {
    let (now, record) = (seen(key), &key.held.record);
    let change = record.compromised.as_ref().or(record.removed.as_ref());
    let last = change.map_or((record.by.as_str(), record.at), |change| (change.by.as_str(), change.at));
    now.expected(looked, &format!("the release key {}", record.name), Some(last), LOOK)?;
    Ok(now)
}

/// A key that may sign releases and never could before.
fn usable(keys: &KeyRing, text: &str) -> Result<PublicKey, Refusal> {
    let key = PublicKey::from_pem(text).map_err(|error| Refusal::malformed(error.to_string()))?;
    let Some(known) = keys.key(&key.id()) else { return Ok(key) };
    let record = &known.held.record;
    Err(Refusal::Conflict(match &record.removed {
        None => format!(
            "this is the release key {} already, for {}, registered by {}; the same key twice would count for two people",
            record.name,
            named(&record.products),
            record.by
        ),
        Some(change) => format!(
            "this is the release key {}, which was removed on {} by {}; a removed key does not come back: make a new one",
            record.name, change.at, change.by
        ),
    }))
}

fn record(
    plant: &Plant,
    actor: &Actor,
    name: &ReleaseKeyName,
    key: &PublicKey,
    products: Vec<ProductName>,
) -> ReleaseKeyRecord {
    ReleaseKeyRecord {
        name: name.clone(),
        // Anew, without what else stood in the file: the record is bounded.
        public_key: pem::encode(&pem::Pem::new("PUBLIC KEY", key.spki())),
        products,
        by: actor.name().to_owned(),
        at: plant.now(),
        removed: None,
        compromised: None,
    }
}

/// A key that is not stored yet.
fn registered(key: &PublicKey, record: ReleaseKeyRecord) -> Registered {
    let held = Held { key: release_key_key(&key.id()), version: Revision(0), record };
    Registered { id: key.id(), held }
}
