//! Rollouts, as administrators start, watch, halt, resume and roll them back.

use policy::id::{DeviceName, ProductName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::reference::state::{ReleaseState, Standing};
use policy::rollout::{Budget, Holders, Member, Plan, PlanError, Position, RolloutId, Stage, Trust, Wave};
use policy::time::UnixTime;
use policy::zone::Segmentation;
use std::collections::BTreeSet;

use super::Actor;
use super::actor::Act;
use super::bounds::{MAX_REASON, printable};
use super::change::{Draft, Seen, commit};
use super::device::no_zone;
use super::golden::apply::zones_of;
use super::reach::{Reach, Scope};
use crate::golden::{self, Golden};
use crate::plant::Plant;
use crate::record::golden::{GOLDEN, WantedRelease, wanted_key};
use crate::record::rollout::{Rollout, RolloutState, rollout_key};
use crate::record::{Held, fetch, stored};
use crate::rollout::fleet::{most_run, scene};
use crate::rollout::{Roster, all, last, roster};
use crate::session::Refusal;
use crate::store::{Revision, Txn};
use crate::trust;

/// Longest part of a reason that says what somebody saw.
const MAX_SEEN: usize = 100;

/// What a rollout is to do, as it is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The release that becomes wanted.
    pub to: ReleaseId,
    /// Its waves.
    pub waves: Vec<Wave>,
    /// What it may cost.
    pub budget: Budget,
    /// Seconds between two waves.
    pub hold: u64,
    /// Seconds that a device has to prove the release.
    pub deadline: u64,
}

/// A rollout with the devices in sight.
#[derive(Debug)]
pub struct View {
    /// Its record.
    pub rollout: Rollout,
    /// The revision that last wrote it; 0: it is not stored yet.
    pub revision: Revision,
    /// Each device in sight.
    pub devices: Vec<Line>,
}

/// How far a device is.
#[derive(Debug)]
pub struct Line {
    /// The device.
    pub device: DeviceName,
    /// Its wave, from 0: the first that selects it.
    pub wave: usize,
    /// How far it is.
    pub stage: Stage,
    /// When it was told.
    pub told_at: Option<UnixTime>,
    /// Whether it is trusted now.
    pub trusted: bool,
    /// Whether something else told it to update.
    pub moving: bool,
    /// The release of the product that it proves.
    pub running: Option<ReleaseId>,
    /// Which devices keep it from being told.
    pub held_by: Vec<DeviceName>,
}

/// The last rollout of each product, or of `product` alone.
pub async fn list(plant: &Plant, scope: &Scope, product: Option<&ProductName>) -> Result<Vec<View>, Refusal> {
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let mut views = Vec::new();
    for held in all(plant).await? {
        let of = &held.record.plan.id().product;
        if product.is_none_or(|product| product == of) && scope.sees(&zones_of(plant, of).await?) {
            let roster = roster(plant).await?;
            views.push(view(held.record, held.version, (&roster, &zones), scope, plant.now()));
        }
    }
    Ok(views)
}

fn view(
    rollout: Rollout,
    revision: Revision,
    (roster, zones): (&Roster, &Segmentation),
    scope: &Scope,
    now: UnixTime,
) -> View {
    let (plan, members) = scene(&rollout, roster, zones, now);
    let visible: BTreeSet<&DeviceName> =
        members.iter().filter(|member| scope.sees(&member.zones)).map(|member| &member.device).collect();
    let holders = Holders::new(&plan, &members, now);
    let line = |member: &Member| {
        let stage = member.stage(&plan, now);
        let held_by = if stage == Stage::Waiting { holders.of(member) } else { Vec::new() };
        Line {
            device: member.device.clone(),
            wave: plan.waves().iter().position(|wave| wave.selects(plan.id(), member)).unwrap_or(0),
            stage,
            told_at: member.told.map(|told| told.at),
            trusted: member.trust == Trust::Trusted,
            moving: member.moving,
            running: member.running.clone(),
            held_by: held_by.into_iter().filter(|name| visible.contains(name)).cloned().collect(),
        }
    };
    let shown = members.iter().filter(|member| !member.outside && visible.contains(&member.device));
    View { devices: shown.map(line).collect(), rollout, revision }
}

/// Starts a rollout, or, for a dry run, shows whom each wave would tell.
pub async fn start(plant: &Plant, actor: &Actor, request: &Request, dry_run: bool) -> Result<View, Refusal> {
    commit(plant, || begin(plant, actor, request, dry_run)).await
}

async fn begin(plant: &Plant, actor: &Actor, request: &Request, dry: bool) -> Result<Draft<View>, Refusal> {
    let (to, now) = (&request.to, plant.now());
    let product = &to.product;
    actor.reach(plant, &zones_of(plant, product).await?).await?;
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    rollable(to, &golden)?;
    let before = last(plant, product).await?;
    let given_up_from = match &before {
        Some(held) => given_up(&held.record, to, &golden, now)?,
        None => None,
    };
    let number = before.as_ref().map_or(0, |held| held.record.plan.id().number).saturating_add(1);
    let id = RolloutId { product: product.clone(), number };
    let times = (request.hold, request.deadline);
    let plan = Plan::new(id, to.clone(), request.waves.clone(), request.budget, times).map_err(unfit)?;
    let mut rollout = Rollout {
        plan,
        from: None,
        state: RolloutState::Running,
        position: Position::default(),
        started_at: now,
        started_by: actor.name().to_owned(),
        given_up_from,
    };
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let wanted: Option<Held<WantedRelease>> = fetch(plant.store.as_ref(), wanted_key(product)).await?;
    let (shown, reach) = {
        let roster = roster(plant).await?;
        let (_, members) = scene(&rollout, &roster, &zones, now);
        rollout.from = golden::wanted(plant, product)
            .await
            .map_err(Refusal::internal)?
            .or_else(|| most_run(&members, to));
        aimed(&rollout.plan, &members, &zones)?;
        let reach = reach_fleet(plant, actor, product, &members).await?;
        (view(rollout.clone(), Revision(0), (&roster, &zones), actor.scope(), now), reach)
    };
    if rollout.from.as_ref() == Some(to) {
        return Err(Refusal::Conflict(format!("{to} is wanted of every device of {product} already")));
    }
    let mut text = started(&rollout);
    let given_up = before.as_ref().filter(|_| given_up_from.is_some());
    text.extend(given_up.map(|held| format!("; rollout {} is given up", held.record.plan.id())));
    let deed = reach.deed(&rollout.plan.id().to_string(), &text);
    let key = rollout_key(product);
    let txn = match before {
        Some(held) => Txn::new().unchanged(key.clone(), held.version),
        None => Txn::new().absent(key.clone()),
    };
    let txn = same_wish(txn, product, wanted.as_ref());
    let txn = txn.unchanged(GOLDEN, golden.version).put(key, stored(&rollout)?);
    Ok(Draft::unless(dry, shown, txn, deed))
}

/// Refuses a wave of a zone that is not there, or of an inventory value that no device has: a wave for nobody ends at
/// once, and the rest would go without the trial that was meant.
fn aimed(plan: &Plan, members: &[Member], zones: &Segmentation) -> Result<(), Refusal> {
    let moved = || members.iter().filter(|member| !member.outside);
    for wave in plan.waves() {
        match wave {
            Wave::Zone(zone) if zones.zone(zone).is_none() => return Err(no_zone(zone)),
            Wave::Label { name, value } if !moved().any(|member| wave.selects(plan.id(), member)) => {
                return Err(Refusal::Conflict(format!(
                    "no device of {} has `{value}` as its inventory value {name}, so the wave {wave} would be nobody's; `touchstone device show NAME` shows what a device has",
                    plan.id().product
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The proof that `actor` may move every device of the fleet: a gateway's other zones are touched too.
async fn reach_fleet(
    plant: &Plant,
    actor: &Actor,
    product: &ProductName,
    members: &[Member],
) -> Result<Reach, Refusal> {
    let accepting: BTreeSet<ZoneName> = zones_of(plant, product).await?.into_iter().collect();
    let moved = members.iter().filter(|member| !member.outside).flat_map(|member| member.zones.iter());
    let all: BTreeSet<&ZoneName> = accepting.iter().chain(moved).collect();
    actor.reach(plant, &all.into_iter().cloned().collect::<Vec<_>>()).await
}

/// The transaction, if what is wanted of the product is still what was read.
fn same_wish(txn: Txn, product: &ProductName, wanted: Option<&Held<WantedRelease>>) -> Txn {
    match wanted {
        Some(held) => txn.unchanged(held.key.clone(), held.version),
        None => txn.absent(wanted_key(product)),
    }
}

/// Refuses a release that would cost a device its trust.
fn rollable(to: &ReleaseId, golden: &Golden) -> Result<(), Refusal> {
    match golden.values.release(to).map(policy::reference::Release::state) {
        Some(ReleaseState::Active) => Ok(()),
        Some(state) => Err(Refusal::Conflict(format!(
            "{to} is {state}; a device that installs it would lose trust: make it active first with `touchstone golden apply`"
        ))),
        None => Err(Refusal::NotFound(format!(
            "there is no release {to}; `touchstone golden list` shows what there is"
        ))),
    }
}

/// Whether `known` is given up for a rollout to `to`: a person may move on from one that is halted to another
/// release, and from a way back that leads nowhere. None: it has ended.
fn given_up(known: &Rollout, to: &ReleaseId, golden: &Golden, now: UnixTime) -> Result<Option<u64>, Refusal> {
    let moves_on = match &known.state {
        state if state.is_over() => return Ok(None),
        RolloutState::Halted { .. } => known.plan.to() != to,
        RolloutState::RollingBack { .. } => {
            !known.from.as_ref().is_some_and(|from| is_accepted(from, golden, now))
        }
        _ => false,
    };
    if moves_on { Ok(Some(*known.speaks_for().start())) } else { Err(busy(known)) }
}

fn is_accepted(release: &ReleaseId, golden: &Golden, now: UnixTime) -> bool {
    let state = golden.values.release(release).map(policy::reference::Release::state);
    state.is_some_and(|state| matches!(state.standing(now), Standing::Accepted { .. }))
}

fn started(rollout: &Rollout) -> String {
    let Budget { trust, health } = rollout.plan.budget();
    let waves: Vec<String> = rollout.plan.waves().iter().map(ToString::to_string).collect();
    let to = rollout.plan.to();
    format!("{to} in waves {}; budgets {trust} for trust and {health} for health", waves.join(", "))
}

pub(super) fn busy(rollout: &Rollout) -> Refusal {
    let (id, state) = (rollout.plan.id(), rollout.state.name());
    let product = &id.product;
    let next = match rollout.state {
        RolloutState::Halted { .. } => format!(
            "let it go on with `touchstone golden rollout resume {product}`, go back with `touchstone golden rollback {product}`, or roll out another release"
        ),
        _ => format!("let it end, or go back with `touchstone golden rollback {product}`"),
    };
    Refusal::Conflict(format!(
        "rollout {id} to {} is {state}, and a product has one at a time; {next}",
        rollout.plan.to()
    ))
}

fn unfit(error: PlanError) -> Refusal {
    Refusal::malformed(error.to_string())
}

/// Halts the rollout of `product`.
pub async fn halt(
    plant: &Plant,
    actor: &Actor,
    product: &ProductName,
    reason: &str,
    dry_run: bool,
) -> Result<View, Refusal> {
    let why = printable("reason", reason, MAX_REASON)?;
    let reason = format!("{} says: {why}", actor.name());
    change(plant, actor, (product, None), dry_run, &|rollout| match rollout.state {
        RolloutState::Running => {
            rollout.state = RolloutState::Halted { reason: reason.clone() };
            Ok(format!("halted: {why}"))
        }
        _ => Err(idle(rollout, "halted")),
    })
    .await
}

/// Lets a halted rollout of `product` go on, with other budgets where they are given. It halts again at once if
/// they are used up. Whoever says that they saw another halt than there is now is told so.
pub async fn resume(
    plant: &Plant,
    actor: &Actor,
    (product, seen): (&ProductName, Option<&Seen>),
    (trust, health): (Option<u32>, Option<u32>),
    dry_run: bool,
) -> Result<View, Refusal> {
    change(plant, actor, (product, seen), dry_run, &|rollout| match rollout.state {
        RolloutState::Halted { .. } => {
            let now = rollout.plan.budget();
            let budget = Budget { trust: trust.unwrap_or(now.trust), health: health.unwrap_or(now.health) };
            rollout.plan = rollout.plan.clone().with_budget(budget).map_err(unfit)?;
            rollout.state = RolloutState::Running;
            Ok(format!("goes on; budgets {} for trust and {} for health", budget.trust, budget.health))
        }
        _ => Err(idle(rollout, "resumed")),
    })
    .await
}

/// Makes the former release of `product` wanted again. The new one stays accepted until no device proves it any more,
/// and then gets the state `then`.
pub async fn rollback(
    plant: &Plant,
    actor: &Actor,
    product: &ProductName,
    then: Option<ReleaseState>,
    dry_run: bool,
) -> Result<View, Refusal> {
    change(plant, actor, (product, None), dry_run, &|rollout| {
        let from = rollout.from.clone().ok_or_else(|| {
            Refusal::Conflict(format!(
                "nothing was wanted before {}; roll out the release that devices should run",
                rollout.plan.to()
            ))
        })?;
        match rollout.state {
            RolloutState::RolledBack { .. } => return Err(idle(rollout, "rolled back")),
            _ => rollout.state = RolloutState::RollingBack { then },
        }
        Ok(format!("{from} is wanted again instead of {}", rollout.plan.to()))
    })
    .await
}

fn idle(rollout: &Rollout, verb: &str) -> Refusal {
    let (id, state) = (rollout.plan.id(), rollout.state.name());
    Refusal::Conflict(format!("rollout {id} is {state} and cannot be {verb}"))
}

/// What a verb makes of a rollout, with what it did for people.
type Verb<'a> = &'a (dyn Fn(&mut Rollout) -> Result<String, Refusal> + Sync);

async fn change(
    plant: &Plant,
    actor: &Actor,
    (product, seen): (&ProductName, Option<&Seen>),
    dry: bool,
    verb: Verb<'_>,
) -> Result<View, Refusal> {
    commit(plant, || decide(plant, actor, (product, seen), dry, verb)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    (product, seen): (&ProductName, Option<&Seen>),
    dry: bool,
    verb: Verb<'_>,
) -> Result<Draft<View>, Refusal> {
    let accepting = actor.reach(plant, &zones_of(plant, product).await?).await?;
    let held: Held<Rollout> = last(plant, product).await?.ok_or_else(|| {
        Refusal::NotFound(format!(
            "{product} has no rollout; `touchstone golden rollout PRODUCT@VERSION --wave 100%` starts one"
        ))
    })?;
    let look = "touchstone golden rollout status";
    Seen::of(Some(&held), words, "none").expected(seen, &format!("the rollout of {product}"), None, look)?;
    let mut rollout = held.record.clone();
    let text = verb(&mut rollout)?;
    let txn = Txn::new().unchanged(held.key.clone(), held.version).put(held.key.clone(), stored(&rollout)?);
    let txn = match rollout.state {
        RolloutState::RollingBack { .. } => go_back(plant, txn, &held.record, &rollout, actor).await?,
        _ => txn,
    };
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let (shown, reach) = {
        let roster = roster(plant).await?;
        // Stopping a rollout must not wait for whoever reaches its gateways' other zones.
        let reach = match actor.act() {
            Act::HaltRollout => accepting,
            _ => {
                let (_, members) = scene(&rollout, &roster, &zones, plant.now());
                reach_fleet(plant, actor, product, &members).await?
            }
        };
        (view(rollout.clone(), held.version, (&roster, &zones), actor.scope(), plant.now()), reach)
    };
    let deed = reach.deed(&rollout.plan.id().to_string(), &text);
    Ok(Draft::unless(dry, shown, txn, deed))
}

/// The state of a rollout as somebody saw it.
fn words(rollout: &Rollout) -> String {
    let reason = match &rollout.state {
        RolloutState::Halted { reason } => reason.chars().take(MAX_SEEN).collect(),
        _ => String::new(),
    };
    let between = if reason.is_empty() { "" } else { ": " };
    format!("{}{between}{reason}", rollout.state.name())
}

/// Makes the former release wanted again, if that is what it would be: nobody is sent back to a release that would
/// cost them their trust, or away from one that somebody made wanted since.
async fn go_back(
    plant: &Plant,
    txn: Txn,
    before: &Rollout,
    rollout: &Rollout,
    actor: &Actor,
) -> Result<Txn, Refusal> {
    let (Some(from), product) = (&rollout.from, &rollout.plan.id().product) else {
        return Err(Refusal::internal(format!("rollout {} has no former release", rollout.plan.id())));
    };
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    if !is_accepted(from, &golden, plant.now()) {
        return Err(Refusal::Conflict(format!(
            "{from} is not accepted any more, so devices that went back to it would lose trust; make it active with `touchstone golden apply`, or roll out another"
        )));
    }
    let wanted: Option<Held<WantedRelease>> = fetch(plant.store.as_ref(), wanted_key(product)).await?;
    let other = wanted.as_ref().map(|held| &held.record.release).filter(|now| *now != rollout.plan.to());
    if let (RolloutState::Finished { .. }, Some(other)) = (&before.state, other) {
        return Err(Refusal::Conflict(format!(
            "{other} was made wanted after rollout {} had ended; roll out the release that devices should run",
            rollout.plan.id()
        )));
    }
    let wish = WantedRelease { release: from.clone(), since: plant.now(), by: actor.name().to_owned() };
    let txn = same_wish(txn, product, wanted.as_ref()).unchanged(GOLDEN, golden.version);
    Ok(txn.put(wanted_key(product), stored(&wish)?))
}

/// Rollouts in sight that are halted: each waits for a person.
pub(super) async fn halted(
    plant: &Plant,
    scope: &Scope,
) -> Result<Vec<(RolloutId, ReleaseId, String)>, Refusal> {
    let mut halted = Vec::new();
    for held in all(plant).await? {
        let plan = &held.record.plan;
        if let RolloutState::Halted { reason } = &held.record.state
            && scope.sees(&zones_of(plant, &plan.id().product).await?)
        {
            halted.push((plan.id().clone(), plan.to().clone(), reason.clone()));
        }
    }
    Ok(halted)
}
