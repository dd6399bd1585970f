//! Golden releases: convert, call, convert.

use policy::reference::dsse::MAX_ENVELOPE_BYTES;
use policy::reference::release::{ReleaseId, ReleaseVersion};
use policy::reference::state::ReleaseState;
use policy::time::UnixTime;
use proto::{convert, v1};

use super::parse;
use crate::admin::Actor;
use crate::admin::golden::forecast::Line;
use crate::admin::golden::{self, apply as application, learn as learning};
use crate::plant::Plant;
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
    let draft = learning::draft(plant, actor.scope(), &devices, product, version).await?;
    Ok(v1::LearnReleaseResponse { manifest: draft.manifest, notes: draft.notes })
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
    let to = state(&request.state, request.until)?;
    let applied = application::apply(plant, actor, &request.envelope, to, request.dry_run).await?;
    Ok(v1::ApplyReleaseResponse {
        release: applied.release.to_string(),
        forecast: applied.forecast.iter().map(forecast).collect(),
    })
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

fn forecast(line: &Line) -> v1::Forecast {
    v1::Forecast {
        device: line.device.to_string(),
        before: line.before.name().to_owned(),
        after: line.after.name().to_owned(),
        evidence_age_seconds: line.age,
        findings: line.findings.iter().map(convert::finding).collect(),
    }
}

pub(super) async fn list(
    plant: &Plant,
    _: &Actor,
    _: v1::ListReleasesRequest,
) -> Result<v1::ListReleasesResponse, Refusal> {
    Ok(v1::ListReleasesResponse { releases: golden::all(plant).await?.iter().map(release).collect() })
}

pub(super) async fn one(
    plant: &Plant,
    _: &Actor,
    request: v1::GetReleaseRequest,
) -> Result<v1::GetReleaseResponse, Refusal> {
    let id = ReleaseId {
        product: parse::text("product", &request.product)?,
        version: parse::text("version", &request.version)?,
    };
    let (record, manifest) = golden::one(plant, &id).await?;
    Ok(v1::GetReleaseResponse { release: Some(release(&record)), manifest })
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
        applied_at: record.applied_at.0,
        applied_by: record.applied_by.clone(),
    }
}
