//! Authorities of zones: rotated, activated before their time, distrusted.
//!
//! Promises: no zone is left without an authority that signs. To distrust the one that signs makes another sign at
//! once and asks every device to prove itself, since what it holds is worth nothing; all else breaks no connection.

use policy::id::{DeviceName, ZoneName};
use policy::zone::{MAX_GENERATIONS, Role, Zone, leaves};

use super::Actor;
use super::bounds::{MAX_REASON, printable};
use super::change::{Draft, commit};
use super::device::no_zone;
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{DEVICE, Device};
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::zone::{AuthorityRecord, AuthorityState, authority_prefix, role_name, zone_key};
use crate::record::{Held, fetch, list, stored};
use crate::rotation::{Line, activate as activated, born, lagging, meeting, prepare, turned};
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust;

/// What a change of authorities came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turned {
    /// Zone, role and generation that are meant, for people.
    pub what: Vec<String>,
    /// Devices in sight that may refuse peers, or be refused, until they prove themselves.
    pub stragglers: Vec<DeviceName>,
    /// How many there are, in sight or not.
    pub stragglers_count: usize,
}

async fn zone_of(plant: &Plant, name: &ZoneName) -> Result<Zone, Refusal> {
    let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(name)).await?;
    held.map(|held| held.record).ok_or_else(|| no_zone(name))
}

async fn line_of(plant: &Plant, zone: &ZoneName, role: Role) -> Result<Line, Refusal> {
    Ok(list::<AuthorityRecord>(plant.store.as_ref(), &authority_prefix(zone, role)).await?)
}

fn in_state(line: &Line, state: AuthorityState) -> Option<u32> {
    line.iter().rev().find(|held| held.record.state == state).map(|held| held.record.generation)
}

/// Refuses one generation more in trust files than devices are made for.
pub(super) fn room_for_another(line: &Line, zone: &ZoneName, role: Role) -> Result<(), Refusal> {
    let believed = line.iter().filter(|held| held.record.state != AuthorityState::Distrusted);
    if believed.count() < MAX_GENERATIONS {
        return Ok(());
    }
    let old = line.iter().filter(|held| held.record.state == AuthorityState::Old);
    let next = old.map(|held| leaves(held.record.since)).min();
    let when = next.map(|at| format!(" on {at}, when nothing that it signed is left,")).unwrap_or_default();
    Err(Refusal::Conflict(format!(
        "{MAX_GENERATIONS} generations of {} are in trust files; the oldest leaves them by itself{when} or now with `touchstone authority distrust`, which devices that hold its certificates notice",
        subject(zone, role)
    )))
}

fn subject(zone: &ZoneName, role: Role) -> String {
    format!("{zone}/{}", role_name(role))
}

/// Prepares the next generation of the zone's authorities, or of one of them. It signs once all that meet it know it.
pub async fn rotate(
    plant: &Plant,
    actor: &Actor,
    name: &ZoneName,
    role: Option<Role>,
    dry_run: bool,
) -> Result<Turned, Refusal> {
    let roles = role.map_or_else(|| vec![Role::Caller, Role::Listener], |role| vec![role]);
    commit(plant, || rotate_all(plant, actor, name, &roles, dry_run)).await
}

/// All of these authorities or none.
async fn rotate_all(
    plant: &Plant,
    actor: &Actor,
    name: &ZoneName,
    roles: &[Role],
    dry_run: bool,
) -> Result<Draft<Turned>, Refusal> {
    let reach = actor.reach(plant, std::slice::from_ref(name)).await?;
    let zone = zone_of(plant, name).await?;
    let mut next = Vec::new();
    for role in roles {
        next.push((subject(name, *role), next_of(plant, name, *role).await?));
    }
    let what = next.iter().map(|(subject, number)| format!("{subject} generation {number}")).collect();
    let answer = told(plant, actor, what, name, u64::MAX).await?;
    if dry_run {
        return Ok(Draft::nothing(answer));
    }
    let txn = prepare(plant, &zone, roles).await?;
    let prepared = |number: &u32| format!("generation {number} is prepared");
    let Some(((first, number), others)) = next.split_first() else { return Ok(Draft::nothing(answer)) };
    let deed = reach.deed(first, &prepared(number));
    let deed = others.iter().fold(deed, |deed, (subject, number)| deed.and(subject, &prepared(number)));
    Ok(Draft::write(answer, txn, deed))
}

/// The number of the generation that comes next, if there is room for one and none is prepared.
async fn next_of(plant: &Plant, name: &ZoneName, role: Role) -> Result<u32, Refusal> {
    let line = line_of(plant, name, role).await?;
    if let Some(number) = in_state(&line, AuthorityState::Prepared) {
        return Err(Refusal::Conflict(format!(
            "generation {number} of {} is prepared already; it signs once the devices know it, or with `touchstone authority activate`",
            subject(name, role)
        )));
    }
    room_for_another(&line, name, role)?;
    Ok(line.last().map_or(1, |held| held.record.generation.saturating_add(1)))
}

/// The answer, with the devices that meet the zone's certificates and do not hold a trust set of `sequence` or a later
/// one.
async fn told(
    plant: &Plant,
    actor: &Actor,
    what: Vec<String>,
    zone: &ZoneName,
    sequence: u64,
) -> Result<Turned, Refusal> {
    let graph = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let fleet: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let meeting = meeting(&fleet, &graph, zone);
    let all: Vec<&Device> = lagging(&meeting, sequence).collect();
    let shown = all.iter().filter(|device| actor.scope().sees(&Vec::from_iter(device.zones.iter().cloned())));
    let stragglers = shown.map(|device| device.name.clone()).collect();
    Ok(Turned { what, stragglers, stragglers_count: all.len() })
}

/// Lets the prepared generation sign now, whoever does not know it yet.
pub async fn activate(
    plant: &Plant,
    actor: &Actor,
    name: &ZoneName,
    role: Role,
    dry_run: bool,
) -> Result<Turned, Refusal> {
    commit(plant, || activate_now(plant, actor, name, role, dry_run)).await
}

async fn activate_now(
    plant: &Plant,
    actor: &Actor,
    name: &ZoneName,
    role: Role,
    dry_run: bool,
) -> Result<Draft<Turned>, Refusal> {
    let reach = actor.reach(plant, std::slice::from_ref(name)).await?;
    zone_of(plant, name).await?;
    let line = line_of(plant, name, role).await?;
    let number = in_state(&line, AuthorityState::Prepared).ok_or_else(|| {
        Refusal::Conflict(format!(
            "no generation of {} is prepared; prepare one with `touchstone authority rotate {name}`",
            subject(name, role)
        ))
    })?;
    let published = line.iter().find(|held| held.record.generation == number);
    let published = published.map_or(0, |held| held.record.published);
    let what = vec![format!("{} generation {number}", subject(name, role))];
    let answer = told(plant, actor, what, name, published).await?;
    let stragglers = answer.stragglers_count;
    let text = format!("generation {number} signs from now on; {stragglers} devices do not know it yet");
    let txn = activated(plant, &line, number, Txn::new())?;
    let deed = reach.deed(&subject(name, role), &text);
    Ok(Draft::unless(dry_run, answer, txn, deed))
}

/// Which generation is distrusted, and why.
#[derive(Debug, Clone)]
pub struct Distrust {
    /// The zone.
    pub zone: ZoneName,
    /// The role.
    pub role: Role,
    /// The generation.
    pub generation: u32,
    /// Why, for the audit chain.
    pub reason: String,
}

/// Takes a generation out of every trust file at once, as when its key was stolen.
pub async fn distrust(
    plant: &Plant,
    actor: &Actor,
    wanted: &Distrust,
    dry_run: bool,
) -> Result<Turned, Refusal> {
    printable("reason", &wanted.reason, MAX_REASON)?;
    commit(plant, || distrust_now(plant, actor, wanted, dry_run)).await
}

async fn distrust_now(
    plant: &Plant,
    actor: &Actor,
    wanted: &Distrust,
    dry_run: bool,
) -> Result<Draft<Turned>, Refusal> {
    let Distrust { zone: name, role, generation, reason } = wanted;
    let reach = actor.reach(plant, std::slice::from_ref(name)).await?;
    let zone = zone_of(plant, name).await?;
    let line = line_of(plant, name, *role).await?;
    let state = line.iter().find(|held| held.record.generation == *generation).map(|held| held.record.state);
    let what = vec![format!("{} generation {generation}", subject(name, *role))];
    let unknown = || {
        let what = format!("there is no generation {generation} of {}", subject(name, *role));
        Refusal::NotFound(format!("{what}; `touchstone authority list` shows what there is"))
    };
    let signs = match state.ok_or_else(unknown)? {
        AuthorityState::Distrusted => return Ok(Draft::nothing(Turned { what, ..Turned::default() })),
        state => state == AuthorityState::Active,
    };
    let answer = told(plant, actor, what, name, u64::MAX).await?;
    if dry_run {
        return Ok(Draft::nothing(answer));
    }
    let txn = match in_state(&line, AuthorityState::Prepared).filter(|_| signs) {
        Some(next) => {
            let txn = trust::raise(plant, Txn::new(), plant.now()).await?;
            turned(plant, &line, next, AuthorityState::Active, txn)?
        }
        None if signs => born(plant, &zone, &[*role], AuthorityState::Active, Txn::new()).await?,
        None => trust::raise(plant, Txn::new(), plant.now()).await?,
    };
    let txn = turned(plant, &line, *generation, AuthorityState::Distrusted, txn)?;
    // Certificates under it are worth nothing: every device comes for another at once.
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let head = GoldenHead { n: golden.n.saturating_add(1) };
    let txn = txn.unchanged(GOLDEN, golden.version).put(GOLDEN, stored(&head)?);
    let deed = reach.deed(&subject(name, *role), &format!("generation {generation} is distrusted: {reason}"));
    Ok(Draft::write(answer, txn, deed))
}
