//! Zones and conduits as a whole: inspected, and changed from one reviewed file.
//!
//! Promises: a file is the whole graph, so what it leaves out is removed; the change is made all at once or not at
//! all; it is decided on the graph that the caller saw, or they are shown what moved since. What is new may be any
//! number of zones and conduits: it is staged. Changes and removals are bounded, because they are one transaction.

use std::collections::BTreeSet;

use policy::digest::Digest;
use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::difference::{Difference, PeerChanges, peer_changes};
use policy::zone::document::{changed_fields, parse, render};
use policy::zone::{Conduit, Member, Role, Segmentation, Spot, Zone, inspect};

use super::Actor;
use super::change::{ATTEMPTS, overtaken};
use super::conduit::{Unoffered, all_offered, nobody_offers, state};
use super::enforcement::{Loses, losing};
use super::leftover;
use super::reach::{Deed, Reach, Scope};
use super::second::{enough_people, settle, wait_if_asked};
use super::staging::Staging;
use super::zone::{bounded, reappraised};
use crate::authority::{Born, next_generation};
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{Admission, Attested, DEVICE, Device, attested_key};
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::zone::{AUTHORITY, AuthorityRecord, AuthorityState, conduit_key, zone_key};
use crate::record::{Held, fetch, list, stored};
use crate::session::{Refusal, complete};
use crate::store::{MAX_TXN_KEYS, Txn};
use crate::trust;

/// What the transaction has beside what the file changes and removes: the commit of what is staged, and an approval.
const BESIDE: usize = 8;
/// Names that a deed lists.
const MAX_NAMED: usize = 8;

/// The graph as it stands.
#[derive(Debug)]
pub struct View {
    /// As a file: the zones in sight, and the conduits among them.
    pub document: String,
    /// The zones in sight.
    pub zones: Vec<Zone>,
    /// The conduits that touch one of them: who may reach into a zone concerns it, too.
    pub conduits: Vec<Conduit>,
    /// Where devices stand.
    pub members: Vec<Member>,
    /// What is flat about it.
    pub spots: Vec<Spot>,
}

/// What a file would change, or changed.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The graph that it was compared with, as a file.
    pub before: String,
    /// Zones and conduits that differ.
    pub difference: Difference,
    /// Who gains and loses which peer, now.
    pub peers: PeerChanges,
    /// What would be flat afterwards.
    pub spots: Vec<Spot>,
    /// Devices that lose their certificates in a zone by its new rules.
    pub loses: Vec<Loses>,
    /// Why conduits that it makes are refused unless their services come later.
    pub unoffered: Vec<String>,
}

/// The graph in sight.
pub async fn view(plant: &Plant, scope: &Scope) -> Result<View, Refusal> {
    let all = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let sees = |zone: &ZoneName| scope.sees(std::slice::from_ref(zone));
    let zones: Vec<Zone> = all.zones().filter(|zone| sees(&zone.name)).cloned().collect();
    let touches = |conduit: &&Conduit| sees(&conduit.from) || sees(&conduit.to);
    let conduits: Vec<Conduit> = all.conduits().iter().filter(touches).cloned().collect();
    let among = conduits.iter().filter(|conduit| sees(&conduit.from) && sees(&conduit.to));
    let graph = Segmentation::new(zones.clone(), among.cloned().collect())
        .map_err(|faults| Refusal::internal(faults.to_string()))?;
    let mut members = members(plant).await?;
    programs(plant, &mut members).await?;
    // Judged as a whole: what makes a spot flat may lie out of sight.
    let mut spots = inspect(&all, &members, plant.now());
    spots.retain(|spot| spot.zones.iter().any(sees));
    Ok(View { document: render(&graph), zones, conduits, members, spots })
}

/// Where devices stand that are in service.
pub(super) async fn members(plant: &Plant) -> Result<Vec<Member>, Refusal> {
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let devices = devices.into_iter().filter(|held| held.record.admission == Admission::Admitted);
    let member = |Held { record, .. }: Held<Device>| Member {
        offers: trust::Offer::of(&record).services,
        two_sided: BTreeSet::new(),
        zones: record.zones.into_iter().collect(),
        device: record.name,
    };
    Ok(devices.map(member).collect())
}

/// Adds to `members` what they said of their programs.
async fn programs(plant: &Plant, members: &mut [Member]) -> Result<(), Refusal> {
    for member in members {
        // Few have any, and what is stored of an attestation is read in the order of names.
        let held: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(&member.device)).await?;
        member.two_sided = held.map(|held| held.record.two_sided).unwrap_or_default();
    }
    Ok(())
}

/// What the file `text` would change.
pub async fn plan(plant: &Plant, scope: &Scope, text: &str) -> Result<Planned, Refusal> {
    whole(scope)?;
    let before = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let after = read(text).await?;
    let members = members(plant).await?;
    fits_devices(&after, &before, &members)?;
    planned(plant, &before, &after, &members).await
}

/// Reads a file beside the workers: a large one takes a while.
async fn read(text: &str) -> Result<Segmentation, Refusal> {
    let text = text.to_owned();
    let read = tokio::task::spawn_blocking(move || parse(&text)).await.map_err(Refusal::internal)?;
    read.map_err(|faults| Refusal::malformed(faults.to_string()))
}

async fn planned(
    plant: &Plant,
    before: &Segmentation,
    after: &Segmentation,
    members: &[Member],
) -> Result<Planned, Refusal> {
    let now = plant.now();
    let difference = Difference::between(before, after);
    let mut loses = Vec::new();
    for zone in judged_anew(before, after, &difference) {
        loses.extend(losing(plant, zone).await?);
    }
    let (peers, spots) = (peer_changes(before, after, members, now), inspect(after, members, now));
    let unoffered = nobody_offers(plant, &difference.conduits_made).await?;
    Ok(Planned { before: render(before), difference, peers, spots, loses, unoffered })
}

/// Zones whose rules are others: what a verdict means there, or what may boot.
fn judged_anew<'a>(before: &Segmentation, after: &'a Segmentation, difference: &Difference) -> Vec<&'a Zone> {
    let changed = difference.zones_changed.iter().filter_map(|name| after.zone(name));
    let other = |zone: &&Zone| before.zone(&zone.name).is_none_or(|old| old.policy() != zone.policy());
    changed.filter(other).collect()
}

/// The file of somebody who does not see all would remove what they do not see.
fn whole(scope: &Scope) -> Result<(), Refusal> {
    match scope {
        Scope::Plant => Ok(()),
        Scope::Zones(_) => Err(Refusal::NotPermitted(format!(
            "a file states the whole plant, and you see only what is{}; open and close conduits one by one, and ask an administrator of the plant for the rest",
            scope.phrase()
        ))),
    }
}

/// Devices are not left without their zone, and what a zone keeps for life stays.
fn fits_devices(after: &Segmentation, before: &Segmentation, members: &[Member]) -> Result<(), Refusal> {
    for zone in before.zones().filter(|zone| after.zone(&zone.name).is_none()) {
        let inside = members.iter().filter(|member| member.zones.contains(&zone.name));
        let names: Vec<&str> = inside.map(|member| member.device.as_str()).collect();
        if let Some(first) = names.first() {
            return Err(Refusal::Conflict(format!(
                "the file leaves out zone {}, in which {} device(s) stand, {first} for one; move or retire them first",
                zone.name,
                names.len()
            )));
        }
    }
    for zone in after.zones() {
        let Some(old) = before.zone(&zone.name) else { continue };
        if old.software_keys != zone.software_keys {
            return Err(Refusal::Conflict(format!(
                "zone {} was made with another setting of software keys and keeps it for life: certificates rest on it; leave it, or make another zone",
                zone.name
            )));
        }
        if old.subnets != zone.subnets {
            return Err(Refusal::Conflict(format!(
                "the subnets of zone {} stand in its authorities; change them with `touchstone zone set`, and leave them as they are in the file",
                zone.name
            )));
        }
        if old.name_constraint != zone.name_constraint {
            return Err(Refusal::Conflict(format!(
                "the name constraint of zone {} stands in its authorities and changes with the next generation only; leave it as it is",
                zone.name
            )));
        }
    }
    Ok(())
}

/// Zones have room in their records, and what is opened has not ended.
fn fits_records(after: &Segmentation, before: &Segmentation, now: UnixTime) -> Result<(), Refusal> {
    after.zones().try_for_each(bounded)?;
    let opened = |one: &&Conduit| !before.conduits().contains(one);
    match after.conduits().iter().filter(opened).find(|one| one.has_ended(now)) {
        None => Ok(()),
        Some(one) => Err(Refusal::malformed(format!(
            "conduit {one} would have ended already; give a later end, or leave it out"
        ))),
    }
}

/// Makes the graph what the file `text` says, if it still is what the caller `seen`. Tried again while others, also
/// devices that lose their certificates, change what trust files rest on.
pub async fn apply(
    plant: &Plant,
    actor: &Actor,
    text: &str,
    seen: &str,
    unoffered: Unoffered,
    dry_run: bool,
) -> Result<Planned, Refusal> {
    for _ in 0..ATTEMPTS {
        match apply_once(plant, actor, text, seen, unoffered, dry_run).await {
            Err(Refusal::MustReattest(_)) => {}
            ended => return ended,
        }
    }
    Err(overtaken())
}

async fn apply_once(
    plant: &Plant,
    actor: &Actor,
    text: &str,
    seen: &str,
    unoffered: Unoffered,
    dry_run: bool,
) -> Result<Planned, Refusal> {
    whole(actor.scope())?;
    let after = read(text).await?;
    // Raised before the graph is read: whoever changes it meanwhile makes this change fail.
    let head = trust::raised(plant, Txn::new(), plant.now()).await?;
    let before = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    as_seen(&before, seen)?;
    let members = members(plant).await?;
    fits_devices(&after, &before, &members)?;
    fits_records(&after, &before, plant.now())?;
    let planned = planned(plant, &before, &after, &members).await?;
    let change = &planned.difference;
    if change.is_empty() {
        return Ok(planned);
    }
    let reach = actor.reach(plant, &touched(change, &before, &after)).await?;
    if unoffered == Unoffered::Refuse {
        all_offered(&planned.unoffered)?;
    }
    for zone in after.zones().filter(|zone| zone.two_person) {
        if before.zone(&zone.name).is_none_or(|old| !old.two_person) {
            enough_people(plant, zone).await?;
        }
    }
    let change = Change { before: &before, after: &after, difference: change };
    let deed = deed(&reach, &change);
    let (head, published) = head;
    let rest = alter(plant, &reach, &change, head).await?;
    if rest.keys() + deed.done().len() + BESIDE > MAX_TXN_KEYS {
        return Err(Refusal::malformed(
            "the file changes or removes too much to be one step: do a part of it first; what is new is not counted"
                .to_owned(),
        ));
    }
    if !dry_run {
        write(plant, &deed, &change, rest, published).await?;
    }
    Ok(planned)
}

fn as_seen(now: &Segmentation, seen: &str) -> Result<(), Refusal> {
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
fn touched(difference: &Difference, before: &Segmentation, after: &Segmentation) -> Vec<ZoneName> {
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
}

/// Writes the change: what is new is staged, and counts with the transaction that changes and removes the rest.
async fn write(
    plant: &Plant,
    deed: &Deed,
    change: &Change<'_>,
    rest: Txn,
    published: u64,
) -> Result<(), Refusal> {
    let reach = deed.reach();
    wait_if_asked(plant, deed).await?;
    let parts = fresh(plant, change, published).await?;
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
    let Change { before, after, difference } = change;
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
async fn fresh(plant: &Plant, change: &Change<'_>, published: u64) -> Result<Vec<New>, Refusal> {
    let born = Born { state: AuthorityState::Active, published, now: plant.now() };
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

/// Adds to `txn` what changes and removes what is there. The trust head, which every change of the graph raises,
/// keeps it as it was read.
async fn alter(plant: &Plant, reach: &Reach, change: &Change<'_>, mut txn: Txn) -> Result<Txn, Refusal> {
    let Change { before, after, difference } = change;
    for zone in difference.zones_changed.iter().filter_map(|name| after.zone(name)) {
        txn = txn.put(zone_key(&zone.name), stored(zone)?);
    }
    let judged_anew = judged_anew(before, after, difference);
    for zone in &judged_anew {
        txn = reappraised(txn, zone, reach.actor(), plant.now())?;
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
