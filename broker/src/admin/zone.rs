//! Zones with their authorities.
//!
//! Every change of zones and conduits raises the trust head, so a change that raises it before it
//! reads zones and conduits is committed only on exactly what it read.

use std::collections::BTreeSet;
use std::{iter, slice};

use policy::appraisal::policy::Mode;
use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::subnet::MAX_SUBNETS;
use policy::zone::{
    Conduit, DrillBounds, GateFail, GateRules, OnSilence, Role, Segmentation, SoftwareKeys, Subnet, Zone,
};

use super::Actor;
use super::authority::room_for_another;
use super::bounds::{MAX_REASON, printable};
use super::change::{Draft, Seen, commit};
use super::conduit;
use super::device::no_zone;
use super::leftover;
use super::reach::Scope;
use super::second::enough_people;
use crate::authority::{self, Born};
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{DEVICE, Device};
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::zone::{
    AUTHORITY, AuthorityRecord, AuthorityState, Narrowing, Reappraisal, RevokedCertificate, authority_prefix,
    narrowing_key, reappraisal_key, revoked_prefix, zone_key,
};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust;

/// Most products of a zone: the zone is one record of at most 4 KiB.
const MAX_PRODUCTS: usize = 32;

/// Makes a zone and its two authorities, or, for a dry run, says whether it could be made.
pub async fn create(plant: &Plant, actor: &Actor, zone: &Zone, dry_run: bool) -> Result<(), Refusal> {
    bounded(zone)?;
    commit(plant, || make(plant, actor, zone, dry_run)).await
}

/// Refuses a zone with more products than its record has room for.
pub(super) fn bounded(zone: &Zone) -> Result<(), Refusal> {
    if zone.products.len() <= MAX_PRODUCTS {
        return Ok(());
    }
    Err(Refusal::malformed(format!(
        "{} products of zone {}; a zone has at most {MAX_PRODUCTS}",
        zone.products.len(),
        zone.name
    )))
}

async fn make(plant: &Plant, actor: &Actor, zone: &Zone, dry_run: bool) -> Result<Draft<()>, Refusal> {
    let now = plant.now();
    let (txn, published) = trust::raised(plant, Txn::new(), now).await?;
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    if known.zone(&zone.name).is_some() {
        return Err(Refusal::Conflict(format!("there is a zone {} already", zone.name)));
    }
    let zones = known.zones().cloned().chain([zone.clone()]).collect();
    fitting(zones, known.conduits().to_vec())?;
    let reach = actor.reach(plant, slice::from_ref(&zone.name)).await?;
    if zone.two_person {
        enough_people(plant, zone).await?;
    }
    let txn = txn.absent(zone_key(&zone.name)).put(zone_key(&zone.name), stored(zone)?);
    let (ended, mut txn) = leftover::ended(plant, &[zone.name.clone()].into(), txn).await?;
    let born = Born { state: AuthorityState::Active, published, now };
    for role in [Role::Caller, Role::Listener] {
        let made = authority::next_generation(plant, zone, role, born).await;
        let (key, authority) = made.map_err(Refusal::internal)?;
        txn = txn.absent(key.clone()).put(key, stored(&authority)?);
    }
    let mut text = "created with its caller and listener authorities".to_owned();
    if zone.software_keys == SoftwareKeys::Allow {
        text.push_str("; it allows software keys");
    }
    if zone.two_person {
        text.push_str("; changes need two people");
    }
    if zone.drills.is_some() {
        text.push_str(&format!("; {}", drills(zone)));
    }
    if ended > 0 {
        text.push_str(&format!("; {ended} tokens and planned moves into an earlier one of its name end"));
    }
    Ok(Draft::unless(dry_run, (), txn, reach.deed(zone.name.as_str(), &text)))
}

/// What is changed of a zone; what is not stated stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether changes of it need two people.
    pub two_person: Option<bool>,
    /// Whether it refuses what is not golden or only records it.
    pub mode: Option<Mode>,
    /// The subnets that it has instead; its authorities are followed by others for that.
    pub subnets: Option<BTreeSet<Subnet>>,
    /// Whether it is marked for drills, and with which bounds.
    pub drills: Option<Option<DrillBounds>>,
    /// Seconds in which a session through a gate may end once it is not allowed any more.
    pub gate_drain: Option<u64>,
    /// What gates do while they do not hear the broker.
    pub gate_fail: Option<GateFail>,
    /// What is done about a device that is silent.
    pub on_silence: Option<OnSilence>,
    /// Whether a box that nobody registered is admitted by its IDevID.
    pub idevid_admits: Option<bool>,
    /// Lets its conduits into enforcing zones stay when it observes.
    pub accept_observed: bool,
    /// Why, for the audit chain.
    pub reason: String,
    /// What the caller saw of the zone.
    pub seen: Option<Seen>,
}

impl Settings {
    /// Whether nothing is to change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.two_person.is_none()
            && self.mode.is_none()
            && self.subnets.is_none()
            && self.gate_drain.is_none()
            && self.gate_fail.is_none()
            && self.on_silence.is_none()
            && self.drills.is_none()
            && self.idevid_admits.is_none()
    }

    /// `zone` with these settings.
    fn onto(&self, mut zone: Zone) -> Result<Zone, Refusal> {
        zone.two_person = self.two_person.unwrap_or(zone.two_person);
        zone.mode = self.mode.unwrap_or(zone.mode);
        zone.idevid_admits = self.idevid_admits.unwrap_or(zone.idevid_admits);
        zone.subnets = self.subnets.clone().unwrap_or(zone.subnets);
        zone.drills = self.drills.unwrap_or(zone.drills);
        zone.on_silence = self.on_silence.unwrap_or(zone.on_silence);
        let drain = self.gate_drain.unwrap_or_else(|| zone.gate.drain());
        let fail = self.gate_fail.unwrap_or_else(|| zone.gate.fail());
        zone.gate = GateRules::new(drain, fail).map_err(|e| Refusal::malformed(e.to_string()))?;
        Ok(zone)
    }
}

/// The zone as it is, for whoever changes it later.
pub async fn seen(plant: &Plant, name: &ZoneName) -> Result<Seen, Refusal> {
    let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(name)).await?;
    Ok(as_seen(held.as_ref()))
}

fn as_seen(held: Option<&Held<Zone>>) -> Seen {
    let words = |zone: &Zone| {
        let mode = if zone.mode == Mode::Enforce { "enforcing" } else { "observing" };
        let people = if zone.two_person { "two people" } else { "one person" };
        format!("{mode}, changed by {people}")
    };
    Seen::of(held, words, "none")
}

/// Changes the zone `name`.
pub async fn set(
    plant: &Plant,
    actor: &Actor,
    name: &ZoneName,
    settings: &Settings,
    dry_run: bool,
) -> Result<Zone, Refusal> {
    if !settings.reason.is_empty() {
        printable("reason", &settings.reason, MAX_REASON)?;
    }
    commit(plant, || change(plant, actor, name, settings, dry_run)).await
}

async fn change(
    plant: &Plant,
    actor: &Actor,
    name: &ZoneName,
    settings: &Settings,
    dry_run: bool,
) -> Result<Draft<Zone>, Refusal> {
    let (txn, published) = trust::raised(plant, Txn::new(), plant.now()).await?;
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let accepted = accepted(&known, name, settings);
    let touched: Vec<ZoneName> =
        iter::once(name).chain(accepted.iter().map(|one| &one.to)).cloned().collect();
    let reach = actor.reach(plant, &touched).await?;
    let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(name)).await?;
    let present = as_seen(held.as_ref());
    present.expected(
        settings.seen.as_ref(),
        &format!("zone {name}"),
        None,
        &format!("touchstone zone show {name}"),
    )?;
    let Held { key, version, record } = held.ok_or_else(|| no_zone(name))?;
    let zone = settings.onto(record.clone())?;
    if zone == record {
        return Ok(Draft::nothing(record));
    }
    if zone.two_person && !record.two_person {
        enough_people(plant, &record).await?;
    }
    let mut txn = txn.unchanged(key.clone(), version).put(key, stored(&zone)?);
    let mut told = Vec::new();
    if zone.mode != record.mode {
        txn = change_mode(plant, txn, &known, &zone, &accepted).await?;
        txn = reappraised(txn, &zone, actor, plant.now())?;
        told.push(match zone.mode {
            Mode::Enforce => "enforces from now on".to_owned(),
            Mode::Observe => "only observes from now on".to_owned(),
        });
    }
    if zone.subnets != record.subnets {
        txn = confine(plant, txn, &zone, published).await?;
        if !record.subnets.is_subset(&zone.subnets) {
            txn = narrowed(txn, &zone, plant.now())?;
        }
        let listed: Vec<String> = zone.subnets.iter().map(ToString::to_string).collect();
        told.push(format!("its subnets are now: {}", listed.join(", ")));
    }
    if zone.two_person != record.two_person {
        let people = if zone.two_person {
            "changes need two people from now on"
        } else {
            "one person changes it again"
        };
        told.push(people.to_owned());
    }
    told.extend(other_rules(&record, &zone));
    told.extend((!settings.reason.is_empty()).then(|| settings.reason.clone()));
    let deed = reach.deed(name.as_str(), &told.join("; "));
    let deed = accepted.iter().fold(deed, |deed, one| deed.and(&one.to_string(), &conduit::state(one)));
    Ok(Draft::unless(dry_run, zone, txn, deed))
}

/// Rules that no other record rests on, as they are from now on.
fn other_rules(before: &Zone, zone: &Zone) -> Vec<String> {
    let mut told = Vec::new();
    if zone.drills != before.drills {
        told.push(drills(zone));
    }
    if zone.idevid_admits != before.idevid_admits {
        let rule = if zone.idevid_admits { "admits" } else { "does not admit" };
        told.push(format!("an IDevID {rule} a box that nobody registered"));
    }
    if zone.gate != before.gate {
        told.push(gates(&zone.gate));
    }
    if zone.on_silence != before.on_silence {
        told.push(format!("a device that is silent while others are heard: {}", zone.on_silence.name()));
    }
    told
}

fn drills(zone: &Zone) -> String {
    zone.drills.map_or_else(
        || "not marked for drills any more".to_owned(),
        |bounds| {
            let (cut, recover) = (bounds.cut_within(), bounds.recover_within());
            format!("marked for drills: cut within {cut} s, recovered within {recover} s")
        },
    )
}

/// What gates of the zone do, for the audit chain.
fn gates(rules: &GateRules) -> String {
    let fail = match rules.fail() {
        GateFail::Open => "let other zones in",
        GateFail::Closed => "let no other zone in",
    };
    format!(
        "its gates let a session end for {} s and {fail} while they do not hear the broker",
        rules.drain()
    )
}

/// Conduits that must accept that the zone observes, as they are once they do: those into zones that enforce. They
/// are these zones' concern too, also where somebody accepted it of another time.
fn accepted(known: &Segmentation, name: &ZoneName, settings: &Settings) -> Vec<Conduit> {
    if !settings.accept_observed || settings.mode != Some(Mode::Observe) {
        return Vec::new();
    }
    let enforces = |zone: &ZoneName| known.zone(zone).is_some_and(|zone| zone.mode == Mode::Enforce);
    let concerned = |one: &&Conduit| one.from == *name && enforces(&one.to);
    let concerned = known.conduits().iter().filter(concerned);
    concerned.map(|one| Conduit { accept_observed: true, ..one.clone() }).collect()
}

/// A zone that begins to enforce, or ends it: conduits must still fit, and every device proves itself again, since
/// what a verdict means has changed.
async fn change_mode(
    plant: &Plant,
    mut txn: Txn,
    known: &Segmentation,
    zone: &Zone,
    accepted: &[Conduit],
) -> Result<Txn, Refusal> {
    let zones = known.zones().map(|other| if other.name == zone.name { zone } else { other }).cloned();
    let others =
        known.conduits().iter().filter(|one| !accepted.iter().any(|other| conduit::same(one, other)));
    // What was accepted of a time when the zone observed is not accepted of this one.
    let anew = |one: &Conduit| Conduit {
        accept_observed: one.accept_observed && !(one.from == zone.name && zone.mode == Mode::Observe),
        ..one.clone()
    };
    fitting(zones.collect(), others.map(anew).chain(accepted.iter().cloned()).collect())?;
    for one in accepted {
        txn = txn.put(conduit::key(one), stored(one)?);
    }
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let head = GoldenHead { n: golden.n.saturating_add(1) };
    Ok(txn.unchanged(GOLDEN, golden.version).put(GOLDEN, stored(&head)?))
}

/// The subnets stand in the authorities' certificates: the next generation of both is prepared, and signs once all that
/// meet it know it.
async fn confine(plant: &Plant, mut txn: Txn, zone: &Zone, published: u64) -> Result<Txn, Refusal> {
    if zone.subnets.len() > MAX_SUBNETS {
        return Err(Refusal::malformed(format!(
            "{} subnets; a zone has at most {MAX_SUBNETS}",
            zone.subnets.len()
        )));
    }
    let born = Born { state: AuthorityState::Prepared, published, now: plant.now() };
    for role in [Role::Caller, Role::Listener] {
        let line: Vec<Held<AuthorityRecord>> =
            list(plant.store.as_ref(), &authority_prefix(&zone.name, role)).await?;
        if line.iter().any(|held| held.record.state == AuthorityState::Prepared) {
            return Err(Refusal::Conflict(format!(
                "the next authorities of zone {0} are prepared already, with the subnets of before; once they sign (`touchstone authority list`, or at once with `touchstone authority activate {0} --role ROLE`), set them again",
                zone.name
            )));
        }
        room_for_another(&line, &zone.name, role)?;
        let made = authority::next_generation(plant, zone, role, born).await;
        let (key, authority) = made.map_err(Refusal::internal)?;
        txn = txn.absent(key.clone()).put(key, stored(&authority)?);
    }
    Ok(txn)
}

/// Lets whoever holds certificates in `zone` be judged by its new rules: one who is away does not prove itself again.
pub(super) fn reappraised(txn: Txn, zone: &Zone, actor: &Actor, at: UnixTime) -> Result<Txn, Refusal> {
    let change = Reappraisal { zone: zone.name.clone(), at, by: actor.name().to_owned() };
    Ok(txn.put(reappraisal_key(&zone.name), stored(&change)?))
}

/// Lets whoever holds certificates that name addresses outside the zone's subnets replace them within an interval.
fn narrowed(txn: Txn, zone: &Zone, now: UnixTime) -> Result<Txn, Refusal> {
    let due = now.plus(zone.timing.reattest_every());
    let narrowing = Narrowing { zone: zone.name.clone(), due, asked: false };
    Ok(txn.put(narrowing_key(&zone.name), stored(&narrowing)?))
}

/// Zones and conduits that fit together; every fault is told at once.
pub(super) fn fitting(zones: Vec<Zone>, conduits: Vec<Conduit>) -> Result<Segmentation, Refusal> {
    Segmentation::new(zones, conduits).map_err(|faults| Refusal::malformed(faults.to_string()))
}

/// A zone with what depends on it.
#[derive(Debug)]
pub struct ZoneView {
    /// The zone.
    pub zone: Zone,
    /// Conduits from or to it.
    pub conduits: Vec<Conduit>,
    /// Devices in it.
    pub devices: usize,
}

/// Every zone in sight.
pub async fn all(plant: &Plant, scope: &Scope) -> Result<Vec<Zone>, Refusal> {
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    Ok(known.zones().filter(|zone| scope.sees(slice::from_ref(&zone.name))).cloned().collect())
}

/// A zone of `known`, if it is in sight.
pub(super) fn in_sight<'a>(
    known: &'a Segmentation,
    scope: &Scope,
    name: &ZoneName,
) -> Result<&'a Zone, Refusal> {
    if !scope.sees(slice::from_ref(name)) {
        return Err(Refusal::NotFound(format!(
            "there is no zone {name}{}; `touchstone zone list` shows what there is",
            scope.phrase()
        )));
    }
    known.zone(name).ok_or_else(|| no_zone(name))
}

/// One zone, if it is in sight.
pub async fn one(plant: &Plant, scope: &Scope, name: &ZoneName) -> Result<ZoneView, Refusal> {
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let zone = in_sight(&known, scope, name)?.clone();
    let touches = |conduit: &&Conduit| conduit.from == *name || conduit.to == *name;
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    Ok(ZoneView {
        zone,
        conduits: known.conduits().iter().filter(touches).cloned().collect(),
        devices: devices.iter().filter(|held| held.record.zones.contains(name)).count(),
    })
}

/// An authority with the certificates that it revoked.
#[derive(Debug)]
pub struct AuthorityView {
    /// The authority.
    pub record: AuthorityRecord,
    /// Certificates that it revoked and that have not ended.
    pub revoked: usize,
}

/// Every authority of a zone in sight, by zone, role and generation.
pub async fn authorities(plant: &Plant, scope: &Scope) -> Result<Vec<AuthorityView>, Refusal> {
    let now = plant.now();
    let records: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), AUTHORITY).await?;
    let mut views = Vec::new();
    let records = records.into_iter().filter(|held| scope.sees(slice::from_ref(&held.record.zone)));
    for Held { record, .. } in records {
        let prefix = revoked_prefix(&record.zone, record.role, record.generation);
        let revoked: Vec<Held<RevokedCertificate>> = list(plant.store.as_ref(), &prefix).await?;
        let revoked = revoked.iter().filter(|held| held.record.not_after >= now).count();
        views.push(AuthorityView { record, revoked });
    }
    Ok(views)
}
