//! A zone is changed: its numbers, what it asks of devices, how it is administered.
//!
//! Promises: every setting is checked with the others before anything is written; who is judged otherwise than before
//! proves itself again, connected or not; what stands in the authorities' certificates comes with their next generation.
//! What a zone keeps for life, its name and whether it allows software keys, is not among the settings.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use policy::appraisal::claims::{Claim, ClaimValue, LeastClaims};
use policy::appraisal::policy::Mode;
use policy::id::{ProductName, ZoneName};
use policy::zone::difference::{PeerChanges, peer_changes};
use policy::zone::document::changed_fields;
use policy::zone::span::Span;
use policy::zone::{
    Conduit, DrillBounds, Function, GateFail, GateRules, IntraZone, NameConstraint, OnSilence, Segmentation,
    Subnet, Timing, Zone,
};

use super::confine::confined;
use super::{bounded, changed, drills, reappraised};
use crate::admin::Actor;
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::change::{Draft, Seen, commit};
use crate::admin::conduit;
use crate::admin::device::no_zone;
use crate::admin::enforcement::{Loses, losing};
use crate::admin::graph::members;
use crate::admin::second::enough_people;
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::{GOLDEN, GoldenHead};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust;
use crate::withdrawal::{Longer, longer};

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
    /// How often a device proves itself, in seconds.
    pub reattest_every: Option<u64>,
    /// How long everything runs without the broker, in seconds.
    pub outlive_broker: Option<u64>,
    /// The silence that is told of, in seconds.
    pub silent_after: Option<u64>,
    /// What it is for, or that it is for nothing that is said.
    pub function: Option<Option<Function>>,
    /// Whether its devices open each other's services.
    pub intra_zone: Option<IntraZone>,
    /// The products that it has instead.
    pub products: Option<BTreeSet<ProductName>>,
    /// The worst that it accepts for these claims; none: nothing is asked of the claim any more.
    pub least: BTreeMap<Claim, Option<ClaimValue>>,
    /// Whether a join token that is bound to no EK admits.
    pub token_admits: Option<bool>,
    /// How its authorities carry their name constraint, from their next generation on.
    pub name_constraint: Option<NameConstraint>,
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
    pub fn is_empty(&self) -> bool {
        let Self { accept_observed, reason, seen, .. } = self;
        let nothing = Self {
            accept_observed: *accept_observed,
            reason: reason.clone(),
            seen: seen.clone(),
            ..Self::default()
        };
        *self == nothing
    }

    /// `zone` with these settings.
    fn onto(&self, mut zone: Zone) -> Result<Zone, Refusal> {
        zone.two_person = self.two_person.unwrap_or(zone.two_person);
        zone.mode = self.mode.unwrap_or(zone.mode);
        zone.timing = self.timing(&zone.timing)?;
        zone.function = self.function.unwrap_or(zone.function);
        zone.intra_zone = self.intra_zone.unwrap_or(zone.intra_zone);
        zone.products = self.products.clone().unwrap_or(zone.products);
        zone.least = self.least(&zone.least);
        zone.token_admits = self.token_admits.unwrap_or(zone.token_admits);
        zone.idevid_admits = self.idevid_admits.unwrap_or(zone.idevid_admits);
        zone.name_constraint = self.name_constraint.unwrap_or(zone.name_constraint);
        zone.subnets = self.subnets.clone().unwrap_or(zone.subnets);
        zone.drills = self.drills.unwrap_or(zone.drills);
        zone.on_silence = self.on_silence.unwrap_or(zone.on_silence);
        let drain = self.gate_drain.unwrap_or_else(|| zone.gate.drain());
        let fail = self.gate_fail.unwrap_or_else(|| zone.gate.fail());
        zone.gate = GateRules::new(drain, fail).map_err(|e| Refusal::malformed(e.to_string()))?;
        Ok(zone)
    }

    /// The three numbers. Silence that was the default, three times the interval, follows the interval.
    fn timing(&self, old: &Timing) -> Result<Timing, Refusal> {
        let by_default = old.silent_after() == old.reattest_every().saturating_mul(3);
        let silent = self.silent_after.or_else(|| (!by_default).then(|| old.silent_after()));
        let reattest = self.reattest_every.unwrap_or_else(|| old.reattest_every());
        let outlive = self.outlive_broker.unwrap_or_else(|| old.outlive_broker());
        Timing::new(reattest, outlive, silent).map_err(|error| Refusal::malformed(error.to_string()))
    }

    fn least(&self, old: &LeastClaims) -> LeastClaims {
        let mut least: BTreeMap<Claim, ClaimValue> = old.iter().collect();
        for (claim, worst) in &self.least {
            match worst {
                Some(worst) => least.insert(*claim, *worst),
                None => least.remove(claim),
            };
        }
        LeastClaims::new(least)
    }
}

/// A zone that was changed, or that would be.
#[derive(Debug, Clone)]
pub struct Changed {
    /// As it is then.
    pub zone: Zone,
    /// What is another, each as `field: old -> new`.
    pub fields: Vec<String>,
    /// Devices that lose their certificates by its new rules.
    pub loses: Vec<Loses>,
    /// What lives longer than its shortened numbers say.
    pub(crate) longer: Option<Longer>,
    /// Who gains and loses which peer, now, where devices of the zone open each other's services, or do not any more.
    pub peers: PeerChanges,
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
        let (every, outlive) = (Span(zone.timing.reattest_every()), Span(zone.timing.outlive_broker()));
        format!("{mode}, proven every {every}, outliving the broker by {outlive}, changed by {people}")
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
) -> Result<Changed, Refusal> {
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
) -> Result<Draft<Changed>, Refusal> {
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
        let (fields, loses, peers) = (Vec::new(), Vec::new(), PeerChanges::default());
        return Ok(Draft::nothing(Changed { zone, fields, loses, longer: None, peers }));
    }
    bounded(&zone)?;
    if zone.two_person && !record.two_person {
        enough_people(plant, &record).await?;
    }
    fits(&known, &zone, &accepted)?;
    let mut txn = txn.unchanged(key.clone(), version).put(key, stored(&zone)?);
    if zone.policy() != record.policy() {
        txn = judged_anew(plant, txn, &accepted).await?;
        txn = reappraised(txn, &zone, actor.name(), plant.now())?;
    }
    txn = confined(plant, txn, (&record, &zone), published).await?;
    let mut told = told(&record, &zone);
    told.extend((!settings.reason.is_empty()).then(|| settings.reason.clone()));
    let deed = reach.deed(name.as_str(), &told.join("; "));
    let deed = accepted.iter().fold(deed, |deed, one| deed.and(&one.to_string(), &conduit::state(one)));
    Ok(Draft::unless(dry_run, consequences(plant, &known, &record, zone).await?, txn, deed))
}

/// What the change means for devices.
async fn consequences(
    plant: &Plant,
    known: &Segmentation,
    before: &Zone,
    zone: Zone,
) -> Result<Changed, Refusal> {
    let loses = match zone.policy() == before.policy() {
        true => Vec::new(),
        false => losing(plant, &zone).await?,
    };
    let shorter = zone.timing.certificate_lifetime() < before.timing.certificate_lifetime();
    let shorter: Vec<&Zone> = shorter.then_some(&zone).into_iter().collect();
    let longer = longer(plant, &shorter).await?.pop();
    let peers = match zone.intra_zone == before.intra_zone {
        true => PeerChanges::default(),
        false => inside(plant, known, &zone).await?,
    };
    Ok(Changed { fields: changed_fields(before, &zone), zone, loses, longer, peers })
}

/// Who gains and loses which peer within `zone`, as it is from now on.
async fn inside(plant: &Plant, known: &Segmentation, zone: &Zone) -> Result<PeerChanges, Refusal> {
    // Nothing else is another, as between its devices no conduit counts.
    let only = |zone: &Zone| Segmentation::new(vec![zone.clone()], Vec::new()).map_err(Refusal::internal);
    let Some(before) = known.zone(&zone.name) else { return Ok(PeerChanges::default()) };
    let members = members(plant).await?;
    Ok(peer_changes(&only(before)?, &only(zone)?, &members, plant.now()))
}

/// What is another from now on, for the audit chain.
fn told(before: &Zone, zone: &Zone) -> Vec<String> {
    let mut told = Vec::new();
    if zone.mode != before.mode {
        told.push(match zone.mode {
            Mode::Enforce => "enforces from now on".to_owned(),
            Mode::Observe => "only observes from now on".to_owned(),
        });
    }
    if zone.subnets != before.subnets {
        let listed: Vec<String> = zone.subnets.iter().map(ToString::to_string).collect();
        told.push(format!("its subnets are now: {}", listed.join(", ")));
    }
    if zone.two_person != before.two_person {
        let people = if zone.two_person {
            "changes need two people from now on"
        } else {
            "one person changes it again"
        };
        told.push(people.to_owned());
    }
    told.extend(other_rules(before, zone));
    told
}

/// Rules that are told as they are from now on, and the rest as the file of the graph writes it.
fn other_rules(before: &Zone, zone: &Zone) -> Vec<String> {
    let in_words = Zone {
        mode: zone.mode,
        subnets: zone.subnets.clone(),
        two_person: zone.two_person,
        drills: zone.drills,
        idevid_admits: zone.idevid_admits,
        gate: zone.gate,
        on_silence: zone.on_silence,
        ..before.clone()
    };
    let mut told = changed_fields(&in_words, zone);
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

/// Refuses a `zone` that does not fit to the others and their conduits any more.
fn fits(known: &Segmentation, zone: &Zone, accepted: &[Conduit]) -> Result<(), Refusal> {
    let begins_to_observe =
        zone.mode == Mode::Observe && known.zone(&zone.name).is_some_and(|old| old.mode != zone.mode);
    let zones = known.zones().map(|other| if other.name == zone.name { zone } else { other }).cloned();
    let others =
        known.conduits().iter().filter(|one| !accepted.iter().any(|other| conduit::same(one, other)));
    // What was accepted of a time when the zone observed is not accepted of this one.
    let anew = |one: &Conduit| Conduit {
        accept_observed: one.accept_observed && !(one.from == zone.name && begins_to_observe),
        ..one.clone()
    };
    changed(known, zones.collect(), others.map(anew).chain(accepted.iter().cloned()).collect()).map(drop)
}

/// A zone whose verdicts mean something else: every device proves itself again.
async fn judged_anew(plant: &Plant, mut txn: Txn, accepted: &[Conduit]) -> Result<Txn, Refusal> {
    for one in accepted {
        txn = txn.put(conduit::key(one), stored(one)?);
    }
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let head = GoldenHead { n: golden.n.saturating_add(1) };
    Ok(txn.unchanged(GOLDEN, golden.version).put(GOLDEN, stored(&head)?))
}
