//! One step of a rollout: decided on what is stored, committed if that still holds.

use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::rollout::{Effect, Member, Plan, Position, Told, decide};
use policy::time::UnixTime;

use super::fleet::{named, scene};
use super::{Known, Roster, last, roster};
use crate::admin::device::view::State;
use crate::audit::Event;
use crate::golden;
use crate::plant::Plant;
use crate::record::golden::{GOLDEN, GoldenHead, ReleaseRecord, WantedRelease, release_key, wanted_key};
use crate::record::rollout::{Rollout, RolloutState, TellRecord, told_key};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::Txn;
use crate::trust;

/// Devices of one step: each is written, with rollout, release, golden head and event in the same transaction.
const STEP: usize = 40;

/// Takes the next step of the last rollout of `product`, and says whether there was one to take.
pub async fn step(plant: &Plant, product: &ProductName) -> Result<bool, Refusal> {
    let Some(held) = last(plant, product).await? else { return Ok(false) };
    let rollout = &held.record;
    if rollout.state.is_over() {
        return Ok(false);
    }
    let zones = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let next = {
        let roster = roster(plant).await?;
        let (plan, members) = scene(rollout, &roster, &zones, plant.now());
        let scene = Scene { rollout, plan, members, roster: &roster };
        match rollout.state {
            RolloutState::RollingBack { then } => back(plant, &scene, then).await?,
            _ => forth(plant, &scene).await?,
        }
    };
    let Some((next, text)) = next else { return Ok(false) };
    let event = Event::new(plant.now(), "broker", next.action, &rollout.plan.id().to_string(), &text);
    let mut txn = next.txn.unchanged(held.key.clone(), held.version);
    if let Some(next) = &next.rollout {
        txn = txn.put(held.key, stored(next)?);
    }
    commit(plant, txn.audit(event.entry())).await?;
    tracing::info!(action = next.action, text, "a rollout goes on");
    Ok(true)
}

/// What a step is decided on.
struct Scene<'a> {
    rollout: &'a Rollout,
    /// What it follows now: on the way back another plan than it was started with.
    plan: Plan,
    members: Vec<Member>,
    roster: &'a Roster,
}

/// A step: the rollout after it, and what else is written.
struct Next {
    /// Written even where it is the same, so that of two steps that tell somebody one fails. None: what devices
    /// proved changes nothing of it.
    rollout: Option<Rollout>,
    txn: Txn,
    action: &'static str,
}

type Taken = Option<(Next, String)>;

async fn forth(plant: &Plant, scene: &Scene<'_>) -> Result<Taken, Refusal> {
    let (rollout, plan, now) = (scene.rollout, &scene.plan, plant.now());
    let halted = rollout.state != RolloutState::Running;
    let release = release(plant, plan.to()).await?;
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    if !halted && !golden.accepts(plan.to(), now) {
        return Ok(halt(rollout, format!("{} is not accepted any more", plan.to())));
    }
    let effects = decide(plan, rollout.position, halted, &scene.members, now);
    let Some(effect) = effects.into_iter().next() else { return Ok(None) };
    let mut taken = carry_out(scene, effect, now)?;
    // Whoever withdraws the release in between is not overtaken.
    if let (Some((next, _)), Some(release)) = (&mut taken, release) {
        next.txn = std::mem::take(&mut next.txn).unchanged(release.key, release.version);
    }
    Ok(taken)
}

fn halt(rollout: &Rollout, reason: String) -> Taken {
    let state = RolloutState::Halted { reason: reason.clone() };
    let rollout = Rollout { state, ..rollout.clone() };
    Some((Next { rollout: Some(rollout), txn: Txn::new(), action: "rollout.halt" }, reason))
}

/// What an effect writes.
fn carry_out(scene: &Scene<'_>, effect: Effect, now: UnixTime) -> Result<Taken, Refusal> {
    let (plan, rollout) = (&scene.plan, scene.rollout);
    let wave = rollout.position.wave.saturating_add(1);
    let goes_on = |change: &dyn Fn(&mut Rollout)| {
        let mut rollout = rollout.clone();
        change(&mut rollout);
        Next { rollout: Some(rollout), txn: Txn::new(), action: "rollout.wave" }
    };
    let taken = match effect {
        Effect::Proven(mut devices) => {
            devices.truncate(STEP);
            let txn = prove(scene, &devices, now)?;
            let text = format!("{} run {} and are well", named(&devices), plan.to());
            (Next { rollout: None, txn, action: "rollout.proven" }, text)
        }
        Effect::Tell(mut devices) => {
            devices.truncate(STEP);
            let txn = tell(scene, &devices, now)?;
            let text = format!("{} is wanted of {}", plan.to(), named(&devices));
            (Next { txn, action: "rollout.tell", ..goes_on(&|_| {}) }, text)
        }
        Effect::WaveDone => (
            goes_on(&|rollout| rollout.position.done_at = Some(now)),
            format!("wave {wave} is done; the next begins in {} s", plan.hold()),
        ),
        Effect::NextWave => (
            goes_on(&|rollout| rollout.position = Position { wave, done_at: None }),
            format!("wave {} begins", wave.saturating_add(1)),
        ),
        Effect::Halt(reason) => return Ok(halt(rollout, reason.to_string())),
        Effect::Finished => {
            let by = rollout.started_by.clone();
            let wanted = WantedRelease { release: plan.to().clone(), since: now, by };
            let txn = Txn::new().put(wanted_key(&plan.id().product), stored(&wanted)?);
            let next = goes_on(&|rollout| rollout.state = RolloutState::Finished { at: now });
            (
                Next { txn, action: "rollout.finish", ..next },
                format!("{} is wanted of every device", plan.to()),
            )
        }
    };
    Ok(Some(taken))
}

/// Writes that `devices` are told, and what is known of each now.
fn tell(scene: &Scene<'_>, devices: &[DeviceName], now: UnixTime) -> Result<Txn, Refusal> {
    let id = scene.plan.id();
    let mut txn = Txn::new();
    for known in devices.iter().filter_map(|name| scene.roster.device(name)) {
        let record = TellRecord {
            rollout: id.number,
            release: scene.plan.to().clone(),
            told: Told { at: now, baseline: known.health.baseline(), proven: None },
            ran: known.running.iter().find(|release| release.product == id.product).cloned(),
            depends_on: known.depends_on.as_ref().clone(),
            until: now.plus(scene.plan.deadline()),
        };
        txn = txn.put(told_key(&id.product, &known.device), stored(&record)?);
    }
    Ok(txn)
}

/// Writes that `devices` proved what they were told.
fn prove(scene: &Scene<'_>, devices: &[DeviceName], now: UnixTime) -> Result<Txn, Refusal> {
    let product = &scene.plan.id().product;
    let mut txn = Txn::new();
    for known in devices.iter().filter_map(|name| scene.roster.device(name)) {
        let Some(record) = known.tells.get(product) else { continue };
        let told = Told { proven: Some(now), ..record.told };
        let record = TellRecord { told, ..record.clone() };
        txn = txn.put(told_key(product, &known.device), stored(&record)?);
    }
    Ok(txn)
}

/// The way back: whoever was told is told the former release, and once none proves the new one any more, that gets
/// the state that was asked for.
async fn back(plant: &Plant, scene: &Scene<'_>, then: Option<ReleaseState>) -> Result<Taken, Refusal> {
    let (rollout, to, now) = (scene.rollout, scene.rollout.plan.to(), plant.now());
    let told_back = |member: &Member| member.outside || member.told.is_some();
    if scene.members.iter().all(told_back) && !is_run(scene.roster, to) {
        return left(plant, rollout, then, now).await.map(Some);
    }
    // Whether devices come back is shown, and is no reason to stop telling them.
    let effects = decide(&scene.plan, Position::default(), false, &scene.members, now);
    let telling = effects.into_iter().find(|effect| matches!(effect, Effect::Tell(_) | Effect::Proven(_)));
    telling.map_or(Ok(None), |effect| carry_out(scene, effect, now))
}

/// Whether the last quote of any device that is not retired proves `release`: quarantined ones too.
fn is_run(roster: &Roster, release: &ReleaseId) -> bool {
    let runs = |known: &Known| known.state != State::Retired && known.running.contains(release);
    roster.devices().any(runs)
}

/// The rollout is rolled back, and the release that every device has left gets its state.
async fn left(
    plant: &Plant,
    rollout: &Rollout,
    then: Option<ReleaseState>,
    now: UnixTime,
) -> Result<(Next, String), Refusal> {
    let to = rollout.plan.to();
    let state = RolloutState::RolledBack { at: now };
    let rollout = Rollout { state, ..rollout.clone() };
    let mut next = Next { rollout: Some(rollout), txn: Txn::new(), action: "rollout.rolled-back" };
    let mut text = format!("no device runs {to} any more");
    let held = release(plant, to).await?;
    let goal = held.as_ref().zip(then).and_then(|(held, then)| after(held.record.state, then, now));
    if let (Some(mut held), Some(state)) = (held, goal) {
        held.record.state = state;
        let head: Option<Held<GoldenHead>> = fetch(plant.store.as_ref(), GOLDEN.to_owned()).await?;
        let head =
            head.ok_or_else(|| Refusal::internal("a release is stored without golden head".to_owned()))?;
        text.push_str(&format!("; it is {state}"));
        next.txn = std::mem::take(&mut next.txn)
            .unchanged(head.key.clone(), head.version)
            .put(head.key, stored(&GoldenHead { n: head.record.n.saturating_add(1) })?)
            .unchanged(held.key.clone(), held.version)
            .put(held.key, stored(&held.record)?);
    }
    Ok((next, text))
}

/// The state that a release gets; none where somebody gave it one meanwhile that has no such step. An active one is
/// retired by way of deprecated, which nobody notices: no device runs it.
fn after(state: ReleaseState, then: ReleaseState, now: UnixTime) -> Option<ReleaseState> {
    let by_way = |state: ReleaseState| state.change_to(ReleaseState::Deprecated { until: now });
    state.change_to(then).or_else(|_| by_way(state).and_then(|state| state.change_to(then))).ok()
}

async fn release(plant: &Plant, id: &ReleaseId) -> Result<Option<Held<ReleaseRecord>>, Refusal> {
    Ok(fetch(plant.store.as_ref(), release_key(&id.product, id.version.as_str())).await?)
}
