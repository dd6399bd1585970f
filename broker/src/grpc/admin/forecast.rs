//! Forecasts of the fleet, and what devices really come to, on the wire.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use policy::appraisal::Finding;
use proto::{convert, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Administration, parse};
use crate::admin::Actor;
use crate::admin::golden::follow::{self, Live};
use crate::admin::golden::forecast::{Group, Line, Outlook, grouped};
use crate::grpc::status::status;
use crate::session::Refusal;

/// Lines for a tool that asks for no groups: with their reasons they stay within what it takes, 32 MiB.
const MAX_LINES: usize = 50_000;
/// Devices whose reasons are told in full then.
const MAX_EXPLAINED: usize = 500;
/// Devices that groups name: with the longest names and owners they stay within the same.
const MAX_NAMED: usize = 200_000;
/// Results that wait for a reader.
const WAITING: usize = 8;

/// A line for each device.
pub(super) fn lines(lines: &[Line], grouped: bool) -> Result<Vec<v1::Forecast>, Refusal> {
    if grouped {
        return Ok(Vec::new());
    }
    if lines.len() > MAX_LINES {
        return Err(Refusal::malformed(format!(
            "the forecast is of {} devices, too many for a line each; update the tool, which then asks for groups",
            lines.len()
        )));
    }
    Ok(lines.iter().enumerate().map(|(place, each)| line(each, place < MAX_EXPLAINED)).collect())
}

fn line(line: &Line, explained: bool) -> v1::Forecast {
    let findings: &[Finding] = if explained { &line.findings } else { &[] };
    v1::Forecast {
        device: line.device.to_string(),
        before: line.before.name().to_owned(),
        after: line.after.name().to_owned(),
        evidence_age_seconds: line.age,
        findings: findings.iter().map(convert::finding).collect(),
        reason: line.reason.to_string(),
        zones: line.zones.iter().map(ToString::to_string).collect(),
        owner: line.owner.to_string(),
        criticality: line.criticality.to_string(),
        would_refuse: line.would_refuse,
    }
}

/// The same in groups.
pub(super) fn groups(lines: &[Line], as_groups: bool) -> Vec<v1::ForecastGroup> {
    if !as_groups {
        return Vec::new();
    }
    let mut groups = grouped(lines);
    // Should there be too many to name, those to which nothing happens go first.
    let stays = |group: &Group<'_>| {
        group.lines.first().is_some_and(|line| {
            (line.before, line.after, line.would_refuse) == (Outlook::Trusted, Outlook::Trusted, false)
        })
    };
    groups.sort_by_key(stays);
    let mut room = MAX_NAMED;
    groups.iter().filter_map(|each| group(each, &mut room)).collect()
}

fn group(group: &Group<'_>, room: &mut usize) -> Option<v1::ForecastGroup> {
    let first = group.lines.first()?;
    let named = group.lines.len().min(*room);
    *room = room.saturating_sub(named);
    Some(v1::ForecastGroup {
        before: first.before.name().to_owned(),
        after: first.after.name().to_owned(),
        would_refuse: first.would_refuse,
        reason: group.reason.to_owned(),
        findings: group.findings.iter().map(convert::finding).collect(),
        varies: group.varies,
        zones: group.zones.iter().map(ToString::to_string).collect(),
        criticality: group.criticality.to_owned(),
        count: parse::count(group.lines.len()),
        devices: group.lines.iter().take(named).map(|line| device(line)).collect(),
    })
}

fn device(line: &Line) -> v1::ForecastDevice {
    v1::ForecastDevice {
        device: line.device.to_string(),
        evidence_age_seconds: line.age,
        reset_count: line.boot.reset_count,
        restart_count: line.boot.restart_count,
        owner: line.owner.to_string(),
    }
}

/// Results as they come.
pub(super) type Results = std::pin::Pin<Box<dyn Stream<Item = Result<v1::LiveResults, Status>> + Send>>;

/// Follows the results of a product until the reader is gone.
pub(super) fn follow(
    service: &Administration,
    actor: Actor,
    request: &v1::FollowResultsRequest,
) -> Result<Results, Refusal> {
    let product = parse::text("product", &request.product)?;
    let place = Arc::clone(&service.followers).try_acquire_owned().map_err(|_| Refusal::TryLater {
        why: "as many follow results already as the broker serves".to_owned(),
        seconds: 30,
    })?;
    let (plant, golden) = (Arc::clone(&service.plant), request.golden);
    let (data, results) = mpsc::channel(WAITING);
    let (failed, failure) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        if let Err(refusal) = follow::results(&plant, actor.scope(), &product, golden, &data).await {
            // A reader that is gone needs no reason.
            let _ = failed.send(status(&plant, &refusal)).await;
        }
    });
    let results = ReceiverStream::new(results)
        .map(|page: Vec<Live>| Ok(v1::LiveResults { results: page.into_iter().map(live).collect() }));
    Ok(Box::pin(results.chain(ReceiverStream::new(failure).map(Err))))
}

fn live(live: Live) -> v1::LiveResult {
    v1::LiveResult {
        device: live.device,
        outcome: live.outcome.name().to_owned(),
        would_refuse: live.would_refuse,
        reason: live.reason,
        at: live.at.0,
    }
}
