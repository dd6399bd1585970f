//! Golden releases: convert, call, convert.

use std::collections::BTreeMap;

use policy::reference::dsse::MAX_ENVELOPE_BYTES;
use policy::reference::release::{ReleaseId, ReleaseVersion};
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use proto::v1;

use super::{forecast, parse};
use crate::admin::Actor;
use crate::admin::golden::apply::Terms;
use crate::admin::golden::{
    self, apply as application, learn as learning, plan as planning, state as standing,
};
use crate::plant::Plant;
use crate::record::Held;
use crate::record::golden::ReleaseRecord;
use crate::session::Refusal;

pub(super) async fn learn(
    plant: &Plant,
    actor: &Actor,
    request: v1::LearnReleaseRequest,
) -> Result<v1::LearnReleaseResponse, Refusal> {
    let devices = parse::texts("device", &request.devices)?;
    let product = parse::text("product", &request.product)?;
    let version: ReleaseVersion = parse::text("version", &request.version)?;
    let draft = learning::draft(plant, actor.scope(), &devices, product, version, request.one_of).await?;
    let learning::Draft { manifest, notes, warnings } = draft;
    Ok(v1::LearnReleaseResponse { manifest, notes, warnings })
}

pub(super) async fn apply(
    plant: &Plant,
    actor: &Actor,
    request: v1::ApplyReleaseRequest,
) -> Result<v1::ApplyReleaseResponse, Refusal> {
    if request.envelope.len() > MAX_ENVELOPE_BYTES {
        return Err(Refusal::malformed(format!(
            "the envelope has {} bytes, at most {MAX_ENVELOPE_BYTES}",
            request.envelope.len()
        )));
    }
    let terms = Terms {
        to: state(&request.state, request.until)?,
        allow_rollback: parse::optional("allow_rollback", &request.allow_rollback)?,
        seen: parse::seen(request.seen)?,
        base: (request.base > 0).then_some(request.base),
        plan: parse::optional("plan", &request.plan)?,
        reason: request.reason,
        dry_run: request.dry_run,
    };
    let applied = application::apply(plant, actor, &request.envelope, &terms).await?;
    Ok(v1::ApplyReleaseResponse {
        release: applied.release.to_string(),
        forecast: forecast::lines(&applied.forecast, request.grouped)?,
        groups: forecast::groups(&applied.forecast, request.grouped),
        seen: Some(parse::to_wire(applied.seen)),
        base: applied.basis.golden,
        plan: applied.basis.to_string(),
        golden: applied.golden,
    })
}

pub(super) async fn plan(
    plant: &Plant,
    actor: &Actor,
    request: v1::PlanReleaseRequest,
) -> Result<v1::PlanReleaseResponse, Refusal> {
    let to = match request.state.as_str() {
        "" => None,
        word => Some(state(word, request.until)?),
    };
    let subject = match (request.envelope.is_empty(), request.manifest.is_empty()) {
        (true, true) => planning::Subject::Known(release_id(&request.product, &request.version)?),
        (true, false) => planning::Subject::Unsigned(
            String::from_utf8(request.manifest)
                .map_err(|_| Refusal::malformed("the manifest is no text".to_owned()))?,
        ),
        (false, _) => {
            let allow_rollback = parse::optional("allow_rollback", &request.allow_rollback)?;
            planning::Subject::Envelope { envelope: request.envelope, allow_rollback }
        }
    };
    let at = (request.at > 0).then_some(UnixTime(request.at));
    let planned = planning::plan(plant, actor, &subject, to, at).await?;
    Ok(v1::PlanReleaseResponse {
        release: planned.release.to_string(),
        state: planned.state.to_string(),
        forecast: forecast::lines(&planned.lines, request.grouped)?,
        groups: forecast::groups(&planned.lines, request.grouped),
        base: planned.basis.golden,
        unsigned: !planned.signed,
        plan: if at.is_none() { planned.basis.to_string() } else { String::new() },
    })
}

pub(super) async fn set_state(
    plant: &Plant,
    actor: &Actor,
    request: v1::SetReleaseStateRequest,
) -> Result<v1::SetReleaseStateResponse, Refusal> {
    if request.state.is_empty() || request.state == "pending" {
        return Err(Refusal::malformed(
            "state: write one of active, deprecated, retired, withdrawn".to_owned(),
        ));
    }
    let change = standing::Request {
        release: release_id(&request.product, &request.version)?,
        to: state(&request.state, request.until)?,
        reason: request.reason,
        seen: parse::seen(request.seen)?,
        dry_run: request.dry_run,
    };
    let changed = standing::set(plant, actor, &change).await?;
    Ok(v1::SetReleaseStateResponse {
        before: Some(release(&changed.before)),
        forecast: forecast::lines(&changed.forecast, request.grouped)?,
        groups: forecast::groups(&changed.forecast, request.grouped),
        seen: Some(parse::to_wire(changed.seen)),
        running: changed.running.iter().map(ToString::to_string).collect(),
    })
}

pub(super) async fn want(
    plant: &Plant,
    actor: &Actor,
    request: v1::WantReleaseRequest,
) -> Result<v1::WantReleaseResponse, Refusal> {
    let product = parse::text("product", &request.product)?;
    let version: Option<ReleaseVersion> = parse::optional("version", &request.version)?;
    let seen = parse::seen(request.seen)?;
    let wish =
        golden::want::want(plant, actor, &product, version.as_ref(), seen.as_ref(), request.dry_run).await?;
    let text = |version: Option<ReleaseVersion>| version.map(|v| v.to_string()).unwrap_or_default();
    Ok(v1::WantReleaseResponse {
        before: text(wish.before),
        wanted: text(wish.wanted),
        seen: Some(parse::to_wire(wish.seen)),
    })
}

fn release_id(product: &str, version: &str) -> Result<ReleaseId, Refusal> {
    Ok(ReleaseId { product: parse::text("product", product)?, version: parse::text("version", version)? })
}

fn state(word: &str, until: u64) -> Result<ReleaseState, Refusal> {
    match word {
        "" | "active" => Ok(ReleaseState::Active),
        "pending" => Ok(ReleaseState::Pending),
        "deprecated" if until > 0 => Ok(ReleaseState::Deprecated { until: UnixTime(until) }),
        "deprecated" => Err(Refusal::malformed("until: say when a deprecated release ends".to_owned())),
        "retired" => Ok(ReleaseState::Retired),
        "withdrawn" => Ok(ReleaseState::Withdrawn),
        _ => Err(Refusal::malformed(
            "state: write one of pending, active, deprecated, retired, withdrawn".to_owned(),
        )),
    }
}

pub(super) async fn list(
    plant: &Plant,
    _: &Actor,
    _: v1::ListReleasesRequest,
) -> Result<v1::ListReleasesResponse, Refusal> {
    let running = golden::running::counts(plant).await?;
    let mut releases = Vec::new();
    for held in golden::held(plant).await? {
        releases.push(placed(plant, &held, &running).await?);
    }
    Ok(v1::ListReleasesResponse { releases })
}

pub(super) async fn one(
    plant: &Plant,
    _: &Actor,
    request: v1::GetReleaseRequest,
) -> Result<v1::GetReleaseResponse, Refusal> {
    let id = release_id(&request.product, &request.version)?;
    let (held, manifest) = golden::one(plant, &id).await?;
    let running = golden::running::counts(plant).await?;
    Ok(v1::GetReleaseResponse { release: Some(placed(plant, &held, &running).await?), manifest })
}

/// A release with what is wanted, accepted and running of it.
async fn placed(
    plant: &Plant,
    held: &Held<ReleaseRecord>,
    running: &BTreeMap<ReleaseId, usize>,
) -> Result<v1::Release, Refusal> {
    let id = held.record.id();
    let golden = crate::golden::current(plant).await.map_err(Refusal::internal)?;
    let wanted = crate::golden::wanted(plant, &held.record.product).await.map_err(Refusal::internal)?;
    let void = id.as_ref().and_then(|id| golden.void.get(id)).cloned();
    Ok(v1::Release {
        accepted: id.as_ref().is_some_and(|id| golden.accepts(id, plant.now())),
        void: void.unwrap_or_default(),
        wanted: id.is_some() && wanted == id,
        running: parse::count(id.and_then(|id| running.get(&id).copied()).unwrap_or_default()),
        seen: Some(parse::to_wire(golden::seen(held))),
        ..release(&held.record)
    })
}

fn release(record: &ReleaseRecord) -> v1::Release {
    let (state, until) = match record.state {
        ReleaseState::Pending => ("pending", 0),
        ReleaseState::Active => ("active", 0),
        ReleaseState::Deprecated { until } => ("deprecated", until.0),
        ReleaseState::Retired => ("retired", 0),
        ReleaseState::Withdrawn => ("withdrawn", 0),
    };
    v1::Release {
        product: record.product.to_string(),
        version: record.version.clone(),
        counter: record.counter,
        state: state.to_owned(),
        until,
        digest: record.manifest.0.to_vec(),
        signers: record.signers.clone(),
        needed: u32::from(record.needed.get()),
        applied_at: record.applied_at.0,
        applied_by: record.applied_by.clone(),
        changed_at: record.changed.as_ref().map_or(0, |change| change.at.0),
        changed_by: record.changed.as_ref().map(|change| change.by.clone()).unwrap_or_default(),
        reason: record.changed.as_ref().map(|change| change.reason.clone()).unwrap_or_default(),
        ..v1::Release::default()
    }
}
