//! Removes a release key; one that was compromised takes with it what it alone vouched for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::id::DeviceName;
use policy::reference::ReferenceValues;
use policy::reference::release::ReleaseId;

use super::add::as_seen;
use super::{KeyRef, Need, found, in_use, reach};
use crate::admin::Actor;
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::change::{Draft, Seen, commit};
use crate::admin::golden::forecast::{self, Line, Outlook, fleet};
use crate::admin::golden::{refusal, running};
use crate::golden::{self, Golden};
use crate::plant::Plant;
use crate::record::golden::{GOLDEN, GoldenHead, StateChange};
use crate::record::release_key::{Compromise, ReleaseKeyRecord, compromise_key};
use crate::record::stored;
use crate::release_keys::{KeyRing, Registered};
use crate::session::Refusal;
use crate::store::Txn;

/// A key to remove.
#[derive(Debug, Clone)]
pub struct Removal {
    /// The key.
    pub key: KeyRef,
    /// Others may have it: nothing that it signed counts any more.
    pub compromised: bool,
    /// Why; may be empty.
    pub reason: String,
    /// What the caller saw of it.
    pub seen: Option<Seen>,
    /// Only say what it would do.
    pub dry_run: bool,
}

/// What a compromised key takes along.
#[derive(Debug, Default)]
pub struct Lost {
    /// Releases that count for nothing any more.
    pub void: Vec<ReleaseId>,
    /// What that means for devices, of a dry run.
    pub forecast: Vec<Line>,
    /// Devices that last proved to run one of them.
    pub running: Vec<DeviceName>,
}

/// What a removal does.
#[derive(Debug)]
pub struct Removed {
    /// The key as it was.
    pub before: Registered,
    /// What there was.
    pub seen: Seen,
    /// What it takes along.
    pub lost: Lost,
    /// Products of which nothing new can be released until there are more keys.
    pub short: Vec<Need>,
}

/// Removes it.
pub async fn remove(plant: &Plant, actor: &Actor, removal: &Removal) -> Result<Removed, Refusal> {
    if !removal.reason.is_empty() {
        printable("reason", &removal.reason, MAX_REASON)?;
    }
    commit(plant, || decide(plant, actor, removal)).await
}

async fn decide(plant: &Plant, actor: &Actor, removal: &Removal) -> Result<Draft<Removed>, Refusal> {
    // Golden values first: what is decided on newer keys is compared with the older head, and fails.
    let golden = golden::current(plant).await.map_err(refusal)?;
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let key = found(&keys, &removal.key)?;
    let seen = as_seen(key, removal.seen.as_ref())?;
    not_so_already(&key.held.record, removal)?;
    let change = StateChange {
        at: plant.now(),
        by: actor.name().to_owned(),
        reason: removal.reason.trim().to_owned(),
    };
    let record = after(&key.held.record, &change, removal.compromised);
    let without = keys.with(key.id, record.clone());
    let short = short(plant, &keys, &without).await?;
    if let Some(need) = short.first().filter(|_| !removal.compromised) {
        return Err(too_few(&record, need));
    }
    let reach = reach(plant, actor, &record.products).await?;
    let slot = key.held.key.clone();
    let txn = Txn::new().unchanged(slot.clone(), key.held.version).put(slot, stored(&record)?);
    let (mut txn, mut lost) = (keys.raised(txn)?, Lost::default());
    if removal.compromised {
        (lost, txn) = take_along(plant, actor, &golden, (key, &without), txn, removal.dry_run).await?;
    }
    let deed = reach.deed(record.name.as_str(), &told(key, &change, removal.compromised, &lost.void));
    let removed = Removed { before: key.clone(), seen, lost, short };
    Ok(Draft::unless(removal.dry_run, removed, txn, deed))
}

/// What counts no more once only the keys of `without` vouch, and the transaction that begins to reach devices. The
/// golden values are those that were read before the keys were.
pub(super) async fn take_along(
    plant: &Plant,
    actor: &Actor,
    golden: &Golden,
    (key, without): (&Registered, &KeyRing),
    txn: Txn,
    dry_run: bool,
) -> Result<(Lost, Txn), Refusal> {
    let (values, void) = golden::worth(plant, without).await.map_err(refusal)?;
    let void: Vec<ReleaseId> = void.into_keys().filter(|id| !golden.void.contains_key(id)).collect();
    // What it does was asked before; whoever removes such a key does not wait for forecasts.
    let forecast = match dry_run {
        true => losses(plant, actor, golden, &values, &void).await?,
        false => Vec::new(),
    };
    let mut txn = txn
        .unchanged(GOLDEN, golden.version)
        .put(GOLDEN, stored(&GoldenHead { n: golden.n.saturating_add(1) })?);
    if !void.is_empty() {
        let left = Compromise { key: key.id, at: plant.now(), by: actor.name().to_owned() };
        txn = txn.put(compromise_key(&key.id), stored(&left)?);
    }
    let running = running(plant, actor, &void).await?;
    Ok((Lost { void, forecast, running }, txn))
}

fn not_so_already(record: &ReleaseKeyRecord, removal: &Removal) -> Result<(), Refusal> {
    let name = &record.name;
    match (&record.compromised, &record.removed) {
        (Some(change), _) => Err(Refusal::Conflict(format!(
            "the release key {name} was removed as compromised on {} by {}",
            change.at, change.by
        ))),
        (None, Some(change)) if !removal.compromised => Err(Refusal::Conflict(format!(
            "the release key {name} was removed on {} by {}; say --compromised if others may have it",
            change.at, change.by
        ))),
        _ => Ok(()),
    }
}

pub(super) fn after(before: &ReleaseKeyRecord, change: &StateChange, compromised: bool) -> ReleaseKeyRecord {
    ReleaseKeyRecord {
        removed: before.removed.clone().or_else(|| Some(change.clone())),
        compromised: compromised.then(|| change.clone()),
        ..before.clone()
    }
}

/// The products that the removal leaves with fewer keys than they need.
async fn short(plant: &Plant, before: &KeyRing, after: &KeyRing) -> Result<Vec<Need>, Refusal> {
    let with_threshold = before.products().into_iter().filter(|product| before.threshold(product).is_some());
    let products: BTreeSet<_> = with_threshold.chain(in_use(plant).await?).collect();
    let fewer = products.into_iter().filter(|product| after.available(product) < before.available(product));
    Ok(fewer.map(|product| Need::of(after, product)).filter(Need::is_short).collect())
}

fn too_few(record: &ReleaseKeyRecord, Need { product, needed, available }: &Need) -> Refusal {
    let lower = match (usize::from(*needed) > 1, available) {
        (true, 1..) => {
            format!(", or ask for fewer first with `touchstone golden key threshold {product} {available}`")
        }
        _ => String::new(),
    };
    Refusal::Conflict(format!(
        "without the release key {}, {product} would have {available} of the {needed} keys that a release of it needs; add another first with `touchstone golden key add NAME --public FILE --product {product}`{lower}. A key that others may have is removed at once with --compromised",
        record.name
    ))
}

/// What devices lose with the releases that are `void`.
async fn losses(
    plant: &Plant,
    actor: &Actor,
    before: &Golden,
    after: &ReferenceValues,
    void: &[ReleaseId],
) -> Result<Vec<Line>, Refusal> {
    let products: BTreeSet<_> = void.iter().map(|id| &id.product).collect();
    let mut lines: BTreeMap<DeviceName, Line> = BTreeMap::new();
    for product in products {
        let (before, after) = (Arc::clone(&before.values), after.clone().into());
        let change = forecast::Change { product, before, after, at: None };
        for line in fleet(plant, actor.scope(), change).await? {
            // A gateway of two products is told once, as it fares worse.
            let known = lines.get(&line.device).is_some_and(|known| known.after == Outlook::Refused);
            if !known {
                lines.insert(line.device.clone(), line);
            }
        }
    }
    Ok(lines.into_values().collect())
}

/// The devices that last proved to run one of the releases that are `void`.
async fn running(plant: &Plant, actor: &Actor, void: &[ReleaseId]) -> Result<Vec<DeviceName>, Refusal> {
    let mut devices = BTreeSet::new();
    for release in void {
        devices.extend(running::devices(plant, actor.scope(), release).await?);
    }
    Ok(devices.into_iter().collect())
}

pub(super) fn told(key: &Registered, change: &StateChange, compromised: bool, void: &[ReleaseId]) -> String {
    let how = if compromised { "removed as compromised" } else { "removed" };
    let why = if change.reason.is_empty() { String::new() } else { format!(": {}", change.reason) };
    let lost: Vec<String> = void.iter().map(ToString::to_string).collect();
    let lost = match lost.is_empty() {
        true => String::new(),
        false => format!("; nothing counts any more of {}", lost.join(", ")),
    };
    format!("{} {how}{why}{lost}", key.id)
}
