//! The graph is made what a file says, in as few transactions as it takes.

use std::collections::BTreeSet;

use policy::digest::Digest;
use policy::id::ZoneName;
use policy::zone::difference::Difference;
use policy::zone::document::{changed_fields, parse, render};
use policy::zone::{Conduit, Role, Segmentation, Zone};

use super::{
    BESIDE, Planned, fits_devices, fits_records, judged_anew, members, people_for_two, planned, read, steps,
    too_much_for_two, whole,
};
use crate::admin::Actor;
use crate::admin::change::{ATTEMPTS, overtaken};
use crate::admin::conduit::{Unoffered, all_offered, state};
use crate::admin::leftover;
use crate::admin::reach::{Deed, Reach};
use crate::admin::second::{settle, wait_if_asked};
use crate::admin::staging::Staging;
use crate::admin::zone::{confined, reappraised};
use crate::authority::{Born, next_generation};
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::zone::{AUTHORITY, AuthorityRecord, AuthorityState, conduit_key, zone_key};
use crate::record::{Held, list, stored};
use crate::session::{Refusal, complete};
use crate::store::{MAX_TXN_KEYS, Txn};
use crate::trust;

/// Names that a deed lists.
const MAX_NAMED: usize = 8;

/// Makes the graph what the file `text` says, if it still is what the caller `seen`.
pub async fn apply(
    plant: &Plant,
    actor: &Actor,
    text: &str,
    seen: &str,
    unoffered: Unoffered,
    dry_run: bool,
) -> Result<Planned, Refusal> {
    whole(actor.scope())?;
    let before = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let all = steps(&before, &read(text).await?).await?;
    let once = Step { text, seen, unoffered, dry_run, of: all.len() };
    if all.len() == 1 {
        return retried(plant, actor, once).await;
    }
    let mut planned = retried(plant, actor, Step { dry_run: true, ..once }).await?;
    rehearse(plant, &before, &all).await?;
    planned.steps = all.len();
    let mut seen = seen.to_owned();
    for (made, step) in all.iter().enumerate().take_while(|_| !dry_run) {
        let text = render(step);
        let done = retried(plant, actor, Step { text: &text, seen: &seen, of: 1, ..once }).await;
        done.map_err(|refusal| between(refusal, made, all.len()))?;
        seen = text;
    }
    Ok(planned)
}

/// How one transaction is made.
#[derive(Clone, Copy)]
struct Step<'a> {
    /// The file.
    text: &'a str,
    /// The graph that it was planned on.
    seen: &'a str,
    unoffered: Unoffered,
    dry_run: bool,
    /// Into how many steps it would have to be cut.
    of: usize,
}

/// Says of a refusal what was done before.
fn between(refusal: Refusal, made: usize, all: usize) -> Refusal {
    if made == 0 {
        return refusal;
    }
    Refusal::Conflict(format!(
        "{made} of {all} steps are made, and the next was refused: {refusal}; zones and conduits fit together as they are, what is new is not made yet: run `touchstone zone plan` again, which shows the rest"
    ))
}

/// Tried again while others, also devices that lose their certificates, change what trust files rest on.
async fn retried(plant: &Plant, actor: &Actor, step: Step<'_>) -> Result<Planned, Refusal> {
    for _ in 0..ATTEMPTS {
        match apply_once(plant, actor, step).await {
            Err(Refusal::MustReattest(_)) => {}
            ended => return ended,
        }
    }
    Err(overtaken())
}

async fn apply_once(plant: &Plant, actor: &Actor, step: Step<'_>) -> Result<Planned, Refusal> {
    let after = read(step.text).await?;
    // Raised before the graph is read: whoever changes it meanwhile makes this change fail.
    let head = trust::raised(plant, Txn::new(), plant.now()).await?;
    let before = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    as_seen(&before, step.seen)?;
    let members = members(plant).await?;
    fits_devices(&after, &before, &members)?;
    fits_records(&after, &before, plant.now())?;
    let planned = planned(plant, &before, &after, &members).await?;
    let change = &planned.difference;
    if change.is_empty() {
        return Ok(planned);
    }
    let reach = actor.reach(plant, &touched(change, &before, &after)).await?;
    if step.of > 1 && (reach.waits() || actor.second().is_some()) {
        return Err(too_much_for_two(step.of));
    }
    if step.unoffered == Unoffered::Refuse {
        all_offered(&planned.unoffered)?;
    }
    people_for_two(plant, &before, &after).await?;
    let (head, published) = head;
    let change = Change { before: &before, after: &after, difference: change, published };
    let deed = deed(&reach, &change);
    let rest = alter(plant, reach.actor().name(), &change, head).await?;
    if step.of == 1 {
        has_room(&rest, change.difference)?;
    }
    if !step.dry_run {
        write(plant, &deed, &change, rest).await?;
    }
    Ok(planned)
}

/// Refuses steps of which one could not be written, before the first is: all are made up, and none is written.
pub(super) async fn rehearse(
    plant: &Plant,
    mut before: &Segmentation,
    steps: &[Segmentation],
) -> Result<(), Refusal> {
    for after in steps {
        let (head, published) = trust::raised(plant, Txn::new(), plant.now()).await?;
        let difference = Difference::between(before, after);
        let change = Change { before, after, difference: &difference, published };
        has_room(&alter(plant, "nobody", &change, head).await?, &difference)?;
        before = after;
    }
    Ok(())
}

/// Refuses a change with more records than a transaction has beside the events that tell of it.
fn has_room(rest: &Txn, change: &Difference) -> Result<(), Refusal> {
    let zones = change.zones_changed.len() + change.zones_removed.len();
    let events = 1 + zones + change.conduits_changed.len() + change.conduits_removed.len();
    if rest.keys() + events + BESIDE <= MAX_TXN_KEYS {
        return Ok(());
    }
    Err(Refusal::malformed(
        "the file removes zones with more authorities, or makes zones anew with more left of earlier ones, than fit into one step: do a part of it first"
            .to_owned(),
    ))
}

fn as_seen(now: &Segmentation, seen: &str) -> Result<(), Refusal> {
    // To the letter, so that a graph which is longer than what is read of a file can be made shorter.
    if seen == render(now) {
        return Ok(());
    }
    let seen = parse(seen).map_err(|_| {
        Refusal::malformed("say what you saw: send the graph that the plan was made on".to_owned())
    })?;
    let moved = Difference::between(&seen, now);
    if moved.is_empty() {
        return Ok(());
    }
    Err(Refusal::Conflict(format!(
        "zones or conduits were changed since you looked: {}; run `touchstone zone plan` again, then decide",
        words(&moved)
    )))
}

/// What a difference comes to, for people.
fn words(difference: &Difference) -> String {
    let conduits = |all: &[Conduit]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let zones = |all: &[ZoneName]| all.iter().map(|zone| format!("zone {zone}")).collect::<Vec<_>>();
    let parts = [
        ("made", zones(&difference.zones_made)),
        ("changed", zones(&difference.zones_changed)),
        ("removed", zones(&difference.zones_removed)),
        ("made", conduits(&difference.conduits_made)),
        ("changed", conduits(&difference.conduits_changed)),
        ("removed", conduits(&difference.conduits_removed)),
    ];
    let told = parts.iter().filter(|(_, names)| !names.is_empty()).map(|(verb, names)| {
        let more = names.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{verb} {}{more}", names.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", "))
    });
    told.collect::<Vec<_>>().join("; ")
}

/// Zones that a change concerns: what it makes, changes or removes, and those that an observing zone begins to reach.
pub(super) fn touched(difference: &Difference, before: &Segmentation, after: &Segmentation) -> Vec<ZoneName> {
    let observed_before: BTreeSet<String> = before.observed().map(ToString::to_string).collect();
    let begins = after.observed().filter(|one| !observed_before.contains(&one.to_string()));
    let begins = begins.flat_map(|one| [&one.from, &one.to]);
    let zones = [&difference.zones_made, &difference.zones_changed, &difference.zones_removed];
    let conduits = [&difference.conduits_made, &difference.conduits_changed, &difference.conduits_removed];
    let ends = conduits.into_iter().flatten().flat_map(|conduit| [&conduit.from, &conduit.to]);
    let all: BTreeSet<&ZoneName> = zones.into_iter().flatten().chain(ends).chain(begins).collect();
    all.into_iter().cloned().collect()
}

struct Change<'a> {
    before: &'a Segmentation,
    after: &'a Segmentation,
    difference: &'a Difference,
    /// Number of the trust head that the change raises to.
    published: u64,
}

/// Writes the change: what is new is staged, and counts with the transaction that changes and removes the rest.
async fn write(plant: &Plant, deed: &Deed, change: &Change<'_>, rest: Txn) -> Result<(), Refusal> {
    let reach = deed.reach();
    wait_if_asked(plant, deed).await?;
    let parts = fresh(plant, change).await?;
    if parts.is_empty() {
        let Some(rest) = settle(plant, deed, rest).await? else { return Ok(()) };
        complete::commit(plant, rest).await?;
        committed(reach);
        return Ok(());
    }
    let staging = Staging::begin(plant, reach.actor().name()).await?;
    let Some(rest) = settle(plant, deed, rest).await? else { return staging.give_up(plant).await };
    let mut staged = Vec::new();
    for part in parts.chunks(MAX_TXN_KEYS - 1) {
        let put = |txn: Txn, new: &New| -> Result<Txn, Refusal> {
            let (key, value) = match new {
                New::Zone(zone) => (zone_key(&zone.name), staging.stored(zone)?),
                New::Conduit(one) => (conduit_key(&one.from, &one.to, &one.service), staging.stored(one)?),
                New::Authority(key, authority) => (key.clone(), staging.stored(authority.as_ref())?),
            };
            Ok(txn.absent(key.clone()).put(key, value))
        };
        staged.push(part.iter().try_fold(staging.txn(), put)?);
    }
    staging.write(plant, staged).await?;
    staging.commit(plant, rest.and(staging.txn())).await?;
    committed(reach);
    Ok(())
}

fn committed(reach: &Reach) {
    if let Some(second) = reach.actor().second() {
        second.committed();
    }
}

/// The whole in a line, then what changes or goes, each by itself: what is made is named by the digest of the file,
/// which the second person compares with theirs.
fn deed(reach: &Reach, change: &Change<'_>) -> Deed {
    let Change { before, after, difference, .. } = change;
    let digest = Digest::of(render(after).as_bytes());
    let mut deed =
        reach.deed("zones and conduits", &format!("{}; as in the file {digest}", words(difference)));
    for name in &difference.zones_changed {
        let (Some(old), Some(new)) = (before.zone(name), after.zone(name)) else { continue };
        deed = deed.and(name.as_str(), &changed_fields(old, new).join("; "));
    }
    for name in &difference.zones_removed {
        deed = deed.and(name.as_str(), "removed, its authorities are distrusted");
    }
    for conduit in &difference.conduits_changed {
        deed = deed.and(&conduit.to_string(), &state(conduit));
    }
    difference.conduits_removed.iter().fold(deed, |deed, one| deed.and(&one.to_string(), "closed"))
}

/// A record that is not there yet.
enum New {
    Zone(Zone),
    Conduit(Conduit),
    Authority(String, Box<AuthorityRecord>),
}

/// The records that are new: each zone with its two authorities.
async fn fresh(plant: &Plant, change: &Change<'_>) -> Result<Vec<New>, Refusal> {
    let born = Born { state: AuthorityState::Active, published: change.published, now: plant.now() };
    let mut all: Vec<New> = change.difference.conduits_made.iter().cloned().map(New::Conduit).collect();
    for zone in change.difference.zones_made.iter().filter_map(|name| change.after.zone(name)) {
        all.push(New::Zone(zone.clone()));
        for role in [Role::Caller, Role::Listener] {
            let made = next_generation(plant, zone, role, born).await;
            let (key, authority) = made.map_err(Refusal::internal)?;
            all.push(New::Authority(key, Box::new(authority)));
        }
    }
    Ok(all)
}

/// Adds to `txn` what changes and removes what is there, as `by` wants it. The trust head, which every change of the graph raises,
/// keeps it as it was read.
async fn alter(plant: &Plant, by: &str, change: &Change<'_>, mut txn: Txn) -> Result<Txn, Refusal> {
    let Change { before, after, difference, .. } = change;
    for zone in difference.zones_changed.iter().filter_map(|name| after.zone(name)) {
        txn = txn.put(zone_key(&zone.name), stored(zone)?);
        if let Some(old) = before.zone(&zone.name) {
            txn = confined(plant, txn, (old, zone), change.published).await?;
        }
    }
    let judged_anew = judged_anew(before, after, difference);
    for zone in &judged_anew {
        txn = reappraised(txn, zone, by, plant.now())?;
    }
    for conduit in &difference.conduits_changed {
        txn = txn.put(conduit_key(&conduit.from, &conduit.to, &conduit.service), stored(conduit)?);
    }
    for conduit in &difference.conduits_removed {
        txn = txn.delete(conduit_key(&conduit.from, &conduit.to, &conduit.service));
    }
    let authorities: Vec<Held<AuthorityRecord>> = match difference.zones_removed.is_empty() {
        true => Vec::new(),
        false => list(plant.store.as_ref(), AUTHORITY).await?,
    };
    (_, txn) = leftover::ended(plant, &difference.zones_made.iter().cloned().collect(), txn).await?;
    for name in &difference.zones_removed {
        txn = txn.delete(zone_key(name));
        let gone = |held: &&Held<AuthorityRecord>| {
            held.record.zone == *name && held.record.state != AuthorityState::Distrusted
        };
        for held in authorities.iter().filter(gone) {
            let distrusted = held.record.turned(AuthorityState::Distrusted, plant.now());
            txn = txn.unchanged(held.key.clone(), held.version).put(held.key.clone(), stored(&distrusted)?);
        }
    }
    // Every device proves itself again.
    if !judged_anew.is_empty() {
        let golden = golden::current(plant).await.map_err(Refusal::internal)?;
        let head = GoldenHead { n: golden.n.saturating_add(1) };
        txn = txn.unchanged(GOLDEN, golden.version).put(GOLDEN, stored(&head)?);
    }
    Ok(txn)
}
