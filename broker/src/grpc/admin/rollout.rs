//! Rollouts: convert, call, convert.

use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::rollout::{Budget, MAX_WAVES, Stage, Wave};
use policy::time::UnixTime;
use proto::v1;

use super::parse;
use crate::admin::Actor;
use crate::admin::rollout::{self as rollouts, Line, Request, View};
use crate::plant::Plant;
use crate::record::rollout::RolloutState;
use crate::session::Refusal;

/// Budget unless told otherwise: one device at a time, and none more once it is lost.
const BUDGET: u32 = 1;
/// Seconds that a device has unless told otherwise.
const DEADLINE: u64 = 3_600;
/// Devices told by name: the answer has to stay below gRPC's 4 MiB.
const MAX_DEVICES: usize = 500;

pub(super) async fn start(
    plant: &Plant,
    actor: &Actor,
    request: v1::StartRolloutRequest,
) -> Result<v1::StartRolloutResponse, Refusal> {
    let or = |given: u64, default: u64| if given == 0 { default } else { given };
    let budget = |given: u32| if given == 0 { BUDGET } else { given };
    if request.waves.len() > MAX_WAVES {
        return Err(Refusal::malformed(format!("waves: {}, at most {MAX_WAVES}", request.waves.len())));
    }
    let asked = Request {
        to: ReleaseId {
            product: parse::text("product", &request.product)?,
            version: parse::text("version", &request.version)?,
        },
        waves: parse::texts::<Wave>("wave", &request.waves)?,
        budget: Budget { trust: budget(request.trust_budget), health: budget(request.health_budget) },
        hold: request.hold_seconds,
        deadline: or(request.deadline_seconds, DEADLINE),
    };
    let view = rollouts::start(plant, actor, &asked, request.dry_run).await?;
    let mut rollout = wire(&view);
    name(&mut rollout.waves, &view);
    Ok(v1::StartRolloutResponse { rollout: Some(rollout) })
}

pub(super) async fn list(
    plant: &Plant,
    actor: &Actor,
    request: v1::ListRolloutsRequest,
) -> Result<v1::ListRolloutsResponse, Refusal> {
    let product = parse::optional("product", &request.product)?;
    let views = rollouts::list(plant, actor.scope(), product.as_ref()).await?;
    Ok(v1::ListRolloutsResponse { rollouts: views.iter().map(wire).collect() })
}

pub(super) async fn halt(
    plant: &Plant,
    actor: &Actor,
    request: v1::HaltRolloutRequest,
) -> Result<v1::HaltRolloutResponse, Refusal> {
    let product = parse::text("product", &request.product)?;
    let view = rollouts::halt(plant, actor, &product, &request.reason, request.dry_run).await?;
    Ok(v1::HaltRolloutResponse { rollout: Some(wire(&view)) })
}

pub(super) async fn resume(
    plant: &Plant,
    actor: &Actor,
    request: v1::ResumeRolloutRequest,
) -> Result<v1::ResumeRolloutResponse, Refusal> {
    let product = parse::text("product", &request.product)?;
    let given = |budget: u32| (budget > 0).then_some(budget);
    let budgets = (given(request.trust_budget), given(request.health_budget));
    let seen = parse::seen(request.seen)?;
    let view = rollouts::resume(plant, actor, (&product, seen.as_ref()), budgets, request.dry_run).await?;
    Ok(v1::ResumeRolloutResponse { rollout: Some(wire(&view)) })
}

pub(super) async fn rollback(
    plant: &Plant,
    actor: &Actor,
    request: v1::RollbackRequest,
) -> Result<v1::RollbackResponse, Refusal> {
    let product = parse::text("product", &request.product)?;
    let then = match request.then.as_str() {
        "" | "active" => None,
        "deprecated" if request.until > plant.now().0 => {
            Some(ReleaseState::Deprecated { until: UnixTime(request.until) })
        }
        "deprecated" => return Err(Refusal::malformed("until: give a time to come".to_owned())),
        "retired" => Some(ReleaseState::Retired),
        _ => return Err(Refusal::malformed("then: write one of active, deprecated, retired".to_owned())),
    };
    let view = rollouts::rollback(plant, actor, &product, then, request.dry_run).await?;
    Ok(v1::RollbackResponse { rollout: Some(wire(&view)) })
}

fn wire(view: &View) -> v1::Rollout {
    let rollout = &view.rollout;
    let plan = &rollout.plan;
    let (reason, ended_at) = match &rollout.state {
        RolloutState::Halted { reason } => (reason.clone(), 0),
        RolloutState::Finished { at } | RolloutState::RolledBack { at } => (String::new(), at.0),
        RolloutState::Running | RolloutState::RollingBack { .. } => (String::new(), 0),
    };
    let told = || view.devices.iter().filter(|line| is_told(line));
    v1::Rollout {
        id: plan.id().to_string(),
        product: plan.id().product.to_string(),
        from: rollout.from.as_ref().map(ToString::to_string).unwrap_or_default(),
        to: plan.to().to_string(),
        state: rollout.state.name().to_owned(),
        reason,
        wave: parse::count(rollout.position.wave),
        wave_done_at: rollout.position.done_at.map_or(0, |at| at.0),
        waves: waves(view),
        trust_budget: plan.budget().trust,
        health_budget: plan.budget().health,
        hold_seconds: plan.hold(),
        deadline_seconds: plan.deadline(),
        started_at: rollout.started_at.0,
        started_by: rollout.started_by.clone(),
        devices: told().take(MAX_DEVICES).map(device).collect(),
        ended_at,
        devices_left_out: parse::count(told().skip(MAX_DEVICES).count()),
        revision: view.revision.0,
    }
}

/// Whether something is to be said of a device: it is on its way, lost, or cannot be told.
fn is_told(line: &Line) -> bool {
    match line.stage {
        Stage::Waiting => !line.trusted || line.moving || !line.held_by.is_empty(),
        Stage::Running => false,
        Stage::InFlight | Stage::Lost | Stage::Missing | Stage::Sick => true,
    }
}

/// The waves that were asked for, or the one of the way back.
fn waves(view: &View) -> Vec<v1::RolloutWave> {
    let back =
        matches!(view.rollout.state, RolloutState::RollingBack { .. } | RolloutState::RolledBack { .. });
    let names: Vec<String> = match back {
        true => vec!["100%".to_owned()],
        false => view.rollout.plan.waves().iter().map(ToString::to_string).collect(),
    };
    let wave = |(number, selects): (usize, String)| {
        let count = |wanted: &dyn Fn(Stage) -> bool| {
            parse::count(view.devices.iter().filter(|line| line.wave == number && wanted(line.stage)).count())
        };
        v1::RolloutWave {
            selects,
            devices: count(&|_| true),
            waiting: count(&|stage| stage == Stage::Waiting),
            told: count(&|stage| stage == Stage::InFlight),
            running: count(&|stage| stage == Stage::Running),
            lost: count(&Stage::costs_trust),
            unhealthy: count(&|stage| stage == Stage::Sick),
            names: Vec::new(),
        }
    };
    names.into_iter().enumerate().map(wave).collect()
}

/// Names the devices of each wave, as many as one answer holds.
fn name(waves: &mut [v1::RolloutWave], view: &View) {
    for line in view.devices.iter().take(MAX_DEVICES) {
        if let Some(wave) = waves.get_mut(line.wave) {
            wave.names.push(line.device.to_string());
        }
    }
}

fn device(line: &Line) -> v1::RolloutDevice {
    let stage = match line.stage {
        Stage::Waiting if !line.trusted => "not-trusted",
        Stage::Waiting if line.moving => "updating-otherwise",
        stage => stage.name(),
    };
    v1::RolloutDevice {
        device: line.device.to_string(),
        wave: parse::count(line.wave),
        stage: stage.to_owned(),
        told_at: line.told_at.map_or(0, |at| at.0),
        held_by: line.held_by.iter().map(ToString::to_string).collect(),
        running: line.running.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
