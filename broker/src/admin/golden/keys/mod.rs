//! Release keys as administrators register, rotate and remove them, and how many a product needs.
//!
//! Each change compares and raises the head of the keys, which `apply` compares: whoever is second sees what the first
//! one did. A key that was removed stays on record, so that nothing is signed with it again.

mod add;
mod attention;
mod remove;
mod threshold;

pub use self::add::{Added, New, Rotated, Rotation, add, rotate};
pub use self::attention::attention;
pub use self::remove::{Lost, Removal, Removed, remove};
pub use self::threshold::{Changed, Threshold, set};

use std::collections::BTreeSet;

use policy::digest::Digest;
use policy::id::{ProductName, ReleaseKeyName};
use policy::reference::keys::PublicKey;
use policy::reference::state::ReleaseState;

use super::apply::zones_of;
use crate::admin::reach::Reach;
use crate::admin::{Actor, Seen};
use crate::plant::Plant;
use crate::record::golden::{RELEASE, ReleaseRecord};
use crate::record::release_key::ReleaseKeyRecord;
use crate::record::{Held, list};
use crate::release_keys::{KeyRing, Registered};
use crate::session::Refusal;
use crate::trust;

/// Products that a sentence names; the rest is counted.
const MAX_NAMED: usize = 3;
/// Where to look.
const LOOK: &str = "touchstone golden key list";

/// A key by its name, or by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRef {
    /// The one in force with this name, or the only one that ever had it.
    Name(ReleaseKeyName),
    /// Whatever it was called.
    Id(Digest),
}

impl std::fmt::Display for KeyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

/// The keys of now, and how many each product has and needs.
pub async fn all(plant: &Plant) -> Result<(KeyRing, Vec<Need>), Refusal> {
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let products = &keys.products() | &in_use(plant).await?;
    let needs = products.into_iter().map(|product| Need::of(&keys, product)).collect();
    Ok((keys, needs))
}

/// How many keys sign releases of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The product.
    pub product: ProductName,
    /// How many must.
    pub needed: u8,
    /// How many can.
    pub available: usize,
}

impl Need {
    fn of(keys: &KeyRing, product: ProductName) -> Self {
        let needed = keys.needed(&product).get();
        let available = keys.available(&product);
        Self { product, needed, available }
    }

    /// Whether no release of the product can be signed.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.available < usize::from(self.needed)
    }
}

/// What an administrator may say that they saw of a key.
#[must_use]
pub fn seen(key: &Registered) -> Seen {
    Seen::of(Some(&key.held), |record| words(key.id, record), "")
}

fn words(id: Digest, record: &ReleaseKeyRecord) -> String {
    let standing = match (&record.compromised, &record.removed) {
        (Some(change), _) => format!("compromised since {}", change.at),
        (None, Some(change)) => format!("removed on {}", change.at),
        (None, None) => "in force".to_owned(),
    };
    let short: String = id.hex().chars().take(12).collect();
    format!("the key {short}, {standing}")
}

/// The scheme of a stored key; `?` for one that no broker stored.
#[must_use]
pub fn scheme(record: &ReleaseKeyRecord) -> &'static str {
    PublicKey::from_pem(&record.public_key).map_or("?", |key| key.alg().name())
}

/// The key that is meant.
fn found<'a>(keys: &'a KeyRing, which: &KeyRef) -> Result<&'a Registered, Refusal> {
    let unknown =
        || Refusal::NotFound(format!("there is no release key {which}; `{LOOK}` shows what there is"));
    match which {
        KeyRef::Id(id) => keys.key(id).ok_or_else(unknown),
        KeyRef::Name(name) => {
            if let Some(key) = keys.named(name) {
                return Ok(key);
            }
            let former: Vec<&Registered> = keys.keys().filter(|key| key.held.record.name == *name).collect();
            match former.as_slice() {
                [] => Err(unknown()),
                [one] => Ok(one),
                several => Err(Refusal::Conflict(format!(
                    "{} keys were called {name}, and none is in force; name the one that is meant by its digest, which `{LOOK}` shows",
                    several.len()
                ))),
            }
        }
    }
}

/// The proof that `actor` may change the keys of `products`. A product that no zone has, and every product (none is
/// named), are the plant's.
async fn reach(plant: &Plant, actor: &Actor, products: &[ProductName]) -> Result<Reach, Refusal> {
    let mut zones = Vec::new();
    if products.is_empty() {
        actor.reach(plant, &[]).await?;
        let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
        zones.extend(known.zones().map(|zone| zone.name.clone()));
    }
    for product in products {
        let accepting = zones_of(plant, product).await?;
        if accepting.is_empty() {
            actor.reach(plant, &[]).await?;
        }
        zones.extend(accepting);
    }
    actor.reach(plant, &zones).await
}

/// The products that somebody still releases: zones accept them, or releases of them are not over.
async fn in_use(plant: &Plant) -> Result<BTreeSet<ProductName>, Refusal> {
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let releases: Vec<Held<ReleaseRecord>> = list(plant.store.as_ref(), RELEASE).await?;
    let over = |state| matches!(state, ReleaseState::Retired | ReleaseState::Withdrawn);
    let released = releases.into_iter().map(|held| held.record).filter(|record| !over(record.state));
    let accepted = known.zones().flat_map(|zone| &zone.products).cloned();
    Ok(accepted.chain(released.map(|record| record.product)).collect())
}

/// `edge, ghost and 3 more`; every product, if none is named.
fn named(products: &[ProductName]) -> String {
    let names: Vec<&str> = products.iter().take(MAX_NAMED).map(ProductName::as_str).collect();
    match products.len().saturating_sub(MAX_NAMED) {
        _ if names.is_empty() => "every product".to_owned(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
