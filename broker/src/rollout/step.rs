//! One step of a rollout: decided on what is stored, committed if that still holds.

use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::rollout::{Effect, Member, Plan, Position, Told, decide};
use policy::time::UnixTime;

use super::fleet::{Seen, fleet, named};
use super::last;
use crate::audit::Event;
use crate::golden;
use crate::plant::Plant;
use crate::record::device::{ATTESTED, Admission, Attested, DEVICE, Device, attested_key};
use crate::record::golden::{GOLDEN, GoldenHead, ReleaseRecord, WantedRelease, release_key, wanted_key};
use crate::record::rollout::{Rollout, RolloutState, TellRecord, told_key};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::Txn;

/// Devices of one step: each is written, with rollout, release, golden head and event in the same transaction.
const STEP: usize = 40;

/// Takes the next step of the last rollout of `product`, and says whether there was one to take.
pub async fn step(plant: &Plant, product: &ProductName) -> Result<bool, Refusal> {
    let Some(held) = last(plant, product).await? else { return Ok(false) };
    let rollout = &held.record;
    if rollout.state.is_over() {
        return Ok(false);
    }
    let seen = fleet(plant, product).await?;
    let next = match rollout.state {
        RolloutState::RollingBack { then } => back(plant, rollout, then, &seen).await?,
        _ => forth(plant, rollout, &seen).await?,
    };
    let Some((next, text)) = next else { return Ok(false) };
    let event = Event::new(plant.now(), "broker", next.action, &rollout.plan.id().to_string(), &text);
    let txn = next.txn.unchanged(held.key.clone(), held.version).put(held.key, stored(&next.rollout)?);
    commit(plant, txn.audit(event.entry())).await?;
    tracing::info!(action = next.action, text, "a rollout goes on");
    Ok(true)
}

/// A step: the rollout after it, and what else is written.
struct Next {
    rollout: Rollout,
    txn: Txn,
    action: &'static str,
}

type Taken = Option<(Next, String)>;

async fn forth(plant: &Plant, rollout: &Rollout, seen: &[Seen]) -> Result<Taken, Refusal> {
    let (plan, now) = (&rollout.plan, plant.now());
    let halted = rollout.state != RolloutState::Running;
    let release = release(plant, plan.to()).await?;
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    if !halted && !golden.accepts(plan.to(), now) {
        return Ok(halt(rollout, format!("{} is not accepted any more", plan.to())));
    }
    let members: Vec<Member> = seen.iter().map(|seen| seen.member_of(plan)).collect();
    let effects = decide(plan, rollout.position, halted, &members, now);
    let Some(effect) = effects.into_iter().next() else { return Ok(None) };
    let mut taken = carry_out(plan, rollout, effect, seen, now)?;
    // Whoever withdraws the release in between is not overtaken.
    if let (Some((next, _)), Some(release)) = (&mut taken, release) {
        next.txn = std::mem::take(&mut next.txn).unchanged(release.key, release.version);
    }
    Ok(taken)
}

fn halt(rollout: &Rollout, reason: String) -> Taken {
    let state = RolloutState::Halted { reason: reason.clone() };
    let rollout = Rollout { state, ..rollout.clone() };
    Some((Next { rollout, txn: Txn::new(), action: "rollout.halt" }, reason))
}

/// What an effect writes.
fn carry_out(
    plan: &Plan,
    rollout: &Rollout,
    effect: Effect,
    seen: &[Seen],
    now: UnixTime,
) -> Result<Taken, Refusal> {
    let mut next = Next { rollout: rollout.clone(), txn: Txn::new(), action: "rollout.wave" };
    let wave = rollout.position.wave.saturating_add(1);
    let text = match effect {
        Effect::Proven(mut devices) => {
            devices.truncate(STEP);
            next.action = "rollout.proven";
            next.txn = note(plan, seen, &devices, |seen| {
                let told = seen.member_of(plan).told?;
                Some(Told { proven: Some(now), ..told })
            })?;
            format!("{} run {} and are well", named(&devices), plan.to())
        }
        Effect::Tell(mut devices) => {
            devices.truncate(STEP);
            next.action = "rollout.tell";
            next.txn = note(plan, seen, &devices, |seen| {
                Some(Told { at: now, baseline: seen.record.baseline(), proven: None })
            })?;
            format!("{} is wanted of {}", plan.to(), named(&devices))
        }
        Effect::WaveDone => {
            next.rollout.position.done_at = Some(now);
            format!("wave {wave} is done; the next begins in {} s", plan.hold())
        }
        Effect::NextWave => {
            next.rollout.position = Position { wave: rollout.position.wave.saturating_add(1), done_at: None };
            format!("wave {} begins", wave.saturating_add(1))
        }
        Effect::Halt(reason) => return Ok(halt(rollout, reason.to_string())),
        Effect::Finished => {
            next.rollout.state = RolloutState::Finished { at: now };
            next.action = "rollout.finish";
            let by = rollout.started_by.clone();
            let wanted = WantedRelease { release: plan.to().clone(), since: now, by };
            next.txn = std::mem::take(&mut next.txn).put(wanted_key(&plan.id().product), stored(&wanted)?);
            format!("{} is wanted of every device", plan.to())
        }
    };
    Ok(Some((next, text)))
}

/// Writes what `devices` were told.
fn note(
    plan: &Plan,
    seen: &[Seen],
    devices: &[DeviceName],
    told: impl Fn(&Seen) -> Option<Told>,
) -> Result<Txn, Refusal> {
    let mut txn = Txn::new();
    for seen in seen.iter().filter(|seen| devices.contains(&seen.member.device)) {
        let Some(told) = told(seen) else { continue };
        let record = TellRecord { rollout: plan.id().number, release: plan.to().clone(), told };
        txn = txn.put(told_key(&plan.id().product, &seen.member.device), stored(&record)?);
    }
    Ok(txn)
}

/// The way back: whoever was told is told the former release, and once none proves the new one any more, that gets
/// the state that was asked for.
async fn back(
    plant: &Plant,
    rollout: &Rollout,
    then: Option<ReleaseState>,
    seen: &[Seen],
) -> Result<Taken, Refusal> {
    let (to, now) = (rollout.plan.to(), plant.now());
    let Some(from) = &rollout.from else { return Ok(None) };
    let plan = rollout.plan.back(from.clone());
    let concerned = seen.iter().filter(|seen| seen.has_been_on(to, plan.id().number));
    let members: Vec<Member> = concerned.map(|seen| seen.member_of(&plan)).collect();
    let told_back = |member: &Member| member.told.is_some() && member.running.as_ref() != Some(to);
    if members.iter().all(told_back) && !is_run(plant, to).await? {
        return left(plant, rollout, then, now).await.map(Some);
    }
    // Whether devices come back is shown, and is no reason to stop telling them.
    let effects = decide(&plan, Position::default(), false, &members, now);
    let telling = effects.into_iter().find(|effect| matches!(effect, Effect::Tell(_) | Effect::Proven(_)));
    telling.map_or(Ok(None), |effect| carry_out(&plan, rollout, effect, seen, now))
}

/// Whether the last quote of any device that is not retired proves `release`: quarantined ones too.
async fn is_run(plant: &Plant, release: &ReleaseId) -> Result<bool, Refusal> {
    let attested: Vec<Held<Attested>> = list(plant.store.as_ref(), ATTESTED).await?;
    let on: Vec<String> = attested
        .into_iter()
        .filter(|held| held.record.running().contains(release))
        .map(|held| held.key)
        .collect();
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let in_use = |held: &Held<Device>| held.record.admission != Admission::Retired;
    Ok(devices.iter().filter(|held| in_use(held)).any(|held| on.contains(&attested_key(&held.record.name))))
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
    let mut next = Next { rollout, txn: Txn::new(), action: "rollout.rolled-back" };
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
