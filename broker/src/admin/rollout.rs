//! Rollouts, as administrators start, watch, halt, resume and roll them back.

use policy::id::{DeviceName, ProductName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::rollout::{Budget, Member, Plan, PlanError, Position, RolloutId, Stage, Trust, Wave, holders};
use policy::time::UnixTime;

use super::Actor;
use super::bounds::{MAX_REASON, printable};
use super::change::{Draft, commit};
use super::golden::apply::zones_of;
use super::reach::Scope;
use crate::golden;
use crate::plant::Plant;
use crate::record::Held;
use crate::record::golden::{WantedRelease, wanted_key};
use crate::record::rollout::{Rollout, RolloutState, rollout_key};
use crate::record::stored;
use crate::rollout::fleet::{Seen, fleet, most_run};
use crate::rollout::{all, last};
use crate::session::Refusal;
use crate::store::Txn;

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
    /// Each device in sight with the wave that it is in, none if no wave selects it.
    pub devices: Vec<Line>,
}

/// How far a device is.
#[derive(Debug)]
pub struct Line {
    /// The device.
    pub device: DeviceName,
    /// Its wave, from 0.
    pub wave: usize,
    /// How far it is.
    pub stage: Stage,
    /// When it was told.
    pub told_at: Option<UnixTime>,
    /// Whether it is trusted now.
    pub trusted: bool,
    /// Which devices keep it from being told.
    pub held_by: Vec<DeviceName>,
}

/// The last rollout of each product, or of `product` alone.
pub async fn list(plant: &Plant, scope: &Scope, product: Option<&ProductName>) -> Result<Vec<View>, Refusal> {
    let mut views = Vec::new();
    for held in all(plant).await? {
        let of = &held.record.plan.id().product;
        if product.is_none_or(|product| product == of) && scope.sees(&zones_of(plant, of).await?) {
            let seen = fleet(plant, of).await?;
            views.push(view(held.record, &seen, scope, plant.now()));
        }
    }
    Ok(views)
}

fn view(rollout: Rollout, seen: &[Seen], scope: &Scope, now: UnixTime) -> View {
    let plan = match (&rollout.state, &rollout.from) {
        (RolloutState::RollingBack { .. } | RolloutState::RolledBack { .. }, Some(from)) => {
            rollout.plan.back(from.clone())
        }
        _ => rollout.plan.clone(),
    };
    let members: Vec<Member> = seen.iter().map(|seen| seen.member_of(&plan)).collect();
    let visible =
        |name: &DeviceName| members.iter().any(|member| member.device == *name && scope.sees(&member.zones));
    let line = |member: &Member| {
        let stage = member.stage(&plan, now);
        let held_by = match stage {
            Stage::Waiting => holders(&plan, &members, member, now),
            _ => Vec::new(),
        };
        Line {
            device: member.device.clone(),
            wave: plan.waves().iter().position(|wave| wave.selects(plan.id(), member)).unwrap_or(0),
            stage,
            told_at: member.told.map(|told| told.at),
            trusted: member.trust == Trust::Trusted,
            held_by: held_by.into_iter().filter(|name| visible(name)).cloned().collect(),
        }
    };
    let shown = members.iter().filter(|member| scope.sees(&member.zones));
    View { devices: shown.map(line).collect(), rollout }
}

/// Starts a rollout, or, for a dry run, shows whom each wave would tell.
pub async fn start(plant: &Plant, actor: &Actor, request: &Request, dry_run: bool) -> Result<View, Refusal> {
    commit(plant, || begin(plant, actor, request, dry_run)).await
}

async fn begin(plant: &Plant, actor: &Actor, request: &Request, dry: bool) -> Result<Draft<View>, Refusal> {
    let (to, now) = (&request.to, plant.now());
    let product = &to.product;
    let reach = actor.reach(plant, &zones_of(plant, product).await?).await?;
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    match golden.values.release(to).map(policy::reference::Release::state) {
        Some(ReleaseState::Active) => {}
        Some(state) => {
            return Err(Refusal::Conflict(format!(
                "{to} is {state}; a device that installs it would lose trust: make it active first with `touchstone golden apply`"
            )));
        }
        None => {
            return Err(Refusal::NotFound(format!(
                "there is no release {to}; `touchstone golden list` shows what there is"
            )));
        }
    }
    let before = last(plant, product).await?;
    if let Some(known) = before.as_ref().filter(|held| !held.record.state.is_over()) {
        return Err(busy(&known.record));
    }
    let seen = fleet(plant, product).await?;
    let wanted = golden::wanted(plant, product).await.map_err(Refusal::internal)?;
    let from = wanted.or_else(|| most_run(&seen, to));
    if from.as_ref() == Some(to) {
        return Err(Refusal::Conflict(format!("{to} is wanted of every device of {product} already")));
    }
    let number = before.as_ref().map_or(0, |held| held.record.plan.id().number).saturating_add(1);
    let id = RolloutId { product: product.clone(), number };
    let times = (request.hold, request.deadline);
    let plan = Plan::new(id, to.clone(), request.waves.clone(), request.budget, times).map_err(unfit)?;
    let rollout = Rollout {
        plan,
        from,
        state: RolloutState::Running,
        position: Position::default(),
        started_at: now,
        started_by: actor.name().to_owned(),
    };
    let deed = reach.deed(&rollout.plan.id().to_string(), &started(&rollout));
    let key = rollout_key(product);
    let txn = match before {
        Some(held) => Txn::new().unchanged(key.clone(), held.version),
        None => Txn::new().absent(key.clone()),
    };
    let txn = txn.unchanged(crate::record::golden::GOLDEN, golden.version).put(key, stored(&rollout)?);
    Ok(Draft::unless(dry, view(rollout, &seen, actor.scope(), now), txn, deed))
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
    Refusal::Conflict(format!(
        "rollout {id} to {} is {state}, and a product has one at a time; let it end, or go back with `touchstone golden rollback {product}`",
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
    change(plant, actor, product, dry_run, &|rollout| match rollout.state {
        RolloutState::Running => {
            rollout.state = RolloutState::Halted { reason: reason.clone() };
            Ok(format!("halted: {why}"))
        }
        _ => Err(idle(rollout, "halted")),
    })
    .await
}

/// Lets a halted rollout of `product` go on, with other budgets where they are given. It halts again at once if
/// they are used up.
pub async fn resume(
    plant: &Plant,
    actor: &Actor,
    product: &ProductName,
    (trust, health): (Option<u32>, Option<u32>),
    dry_run: bool,
) -> Result<View, Refusal> {
    change(plant, actor, product, dry_run, &|rollout| match rollout.state {
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
    change(plant, actor, product, dry_run, &|rollout| {
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
    product: &ProductName,
    dry: bool,
    verb: Verb<'_>,
) -> Result<View, Refusal> {
    commit(plant, || decide(plant, actor, product, dry, verb)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    product: &ProductName,
    dry: bool,
    verb: Verb<'_>,
) -> Result<Draft<View>, Refusal> {
    let zones: Vec<ZoneName> = zones_of(plant, product).await?;
    let reach = actor.reach(plant, &zones).await?;
    let held: Held<Rollout> = last(plant, product).await?.ok_or_else(|| {
        Refusal::NotFound(format!(
            "{product} has no rollout; `touchstone golden rollout PRODUCT@VERSION` starts one"
        ))
    })?;
    let mut rollout = held.record;
    let text = verb(&mut rollout)?;
    if let (RolloutState::RollingBack { .. }, Some(from)) = (&rollout.state, &rollout.from) {
        accepted(plant, from).await?;
    }
    let deed = reach.deed(&rollout.plan.id().to_string(), &text);
    let mut txn = Txn::new().unchanged(held.key.clone(), held.version).put(held.key, stored(&rollout)?);
    if let (RolloutState::RollingBack { .. }, Some(from)) = (&rollout.state, &rollout.from) {
        let (since, by) = (plant.now(), actor.name().to_owned());
        let wanted = WantedRelease { release: from.clone(), since, by };
        txn = txn.put(wanted_key(product), stored(&wanted)?);
    }
    let seen = fleet(plant, product).await?;
    Ok(Draft::unless(dry, view(rollout, &seen, actor.scope(), plant.now()), txn, deed))
}

/// Nobody is sent back to a release that would cost them their trust.
async fn accepted(plant: &Plant, from: &ReleaseId) -> Result<(), Refusal> {
    use policy::reference::state::Standing::Accepted;
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    let release = golden.values.release(from);
    match release.map(|release| release.state().standing(plant.now())) {
        Some(Accepted { .. }) => Ok(()),
        _ => Err(Refusal::Conflict(format!(
            "{from} is not accepted any more, so devices that went back to it would lose trust; make it active with `touchstone golden apply`, or roll out another"
        ))),
    }
}
