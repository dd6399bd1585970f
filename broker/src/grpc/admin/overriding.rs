//! Overrides: convert, call, convert.

use policy::zone::NamedMismatch;
use proto::{convert, v1};

use super::parse;
use crate::admin::Actor;
use crate::admin::overriding::{self, Request};
use crate::plant::Plant;
use crate::record::overriding::OverrideRecord;
use crate::session::Refusal;

pub(super) async fn accept(
    plant: &Plant,
    actor: &Actor,
    request: v1::OverrideDeviceRequest,
) -> Result<v1::OverrideDeviceResponse, Refusal> {
    let seen = match request.mismatches.as_slice() {
        [] => None,
        bytes => Some(parse::digest("mismatches", bytes)?),
    };
    let request = Request {
        device: parse::text("device", &request.name)?,
        reason: request.reason,
        lifetime: request.lifetime_seconds,
        seen,
        dry_run: request.dry_run,
    };
    let accepted = overriding::accept(plant, actor, &request).await?;
    Ok(v1::OverrideDeviceResponse {
        findings: accepted.findings.iter().map(convert::finding).collect(),
        mismatches: accepted.digest.0.to_vec(),
        until: accepted.until.0,
    })
}

pub(super) async fn end(
    plant: &Plant,
    actor: &Actor,
    request: v1::EndOverrideRequest,
) -> Result<v1::EndOverrideResponse, Refusal> {
    overriding::end(plant, actor, &parse::text("device", &request.name)?).await?;
    Ok(v1::EndOverrideResponse {})
}

pub(super) async fn list(
    plant: &Plant,
    actor: &Actor,
    _: v1::ListOverridesRequest,
) -> Result<v1::ListOverridesResponse, Refusal> {
    let all = overriding::all(plant, actor.scope()).await?;
    Ok(v1::ListOverridesResponse { overrides: all.iter().map(state).collect() })
}

/// An override as it is shown.
pub(super) fn state(record: &OverrideRecord) -> v1::OverrideState {
    v1::OverrideState {
        device: record.device.to_string(),
        at: record.at.0,
        until: record.excused.until.0,
        by: record.by.clone(),
        approved_by: record.approved_by.clone(),
        reason: record.reason.clone(),
        mismatches: record.excused.mismatches.iter().map(line).collect(),
    }
}

fn line(mismatch: &NamedMismatch) -> String {
    let pcr = mismatch.pcr.map_or_else(String::new, |pcr| format!("PCR {pcr} "));
    let name = mismatch.name.as_deref().map_or_else(String::new, |name| format!("{name} "));
    format!("{pcr}{name}{}", mismatch.seen)
}
