//! The latest events of the audit chains.
//!
//! A chain is read from its end: its last record is found by bisection, because the store scans
//! forward only. What cannot be read as an event is told, not hidden.

use policy::id::DeviceName;
use policy::time::UnixTime;

use super::Actor;
use super::sight::Sight;
use crate::audit::Event;
use crate::plant::Plant;
use crate::session::Refusal;
use crate::store::record::decode;
use crate::store::{AUDIT_PREFIX, AuditRecord, MAX_SCAN};

/// Events of an answer that asks for none or too many.
const MAX_EVENTS: usize = 1000;
/// Records that are read at most to find those of one device.
const MAX_READ: u64 = 50_000;
/// Highest number of a record: 20 digits fit a `u64`.
const MAX_SEQUENCE: u64 = u64::MAX >> 1;

/// The latest events in sight, newest first; of one device, if it is named.
pub async fn latest(
    plant: &Plant,
    actor: &Actor,
    device: Option<&DeviceName>,
    limit: usize,
) -> Result<Vec<Event>, Refusal> {
    let sight = Sight::of(plant, actor).await?;
    let limit = if limit == 0 { MAX_EVENTS } else { limit.min(MAX_EVENTS) };
    let mut writers = writers(plant).await?;
    // The chains of one broker are numbered by its starts.
    writers.sort_by_key(|writer| std::cmp::Reverse(start_of(writer)));
    let mut events = Vec::new();
    let mut budget = MAX_READ;
    for writer in writers {
        let mut end = last(plant, &writer).await?;
        while end > 0 && budget > 0 && events.len() < limit {
            let step = u64::try_from(MAX_SCAN).unwrap_or(1).min(budget);
            let begin = end.saturating_sub(step);
            events.extend(
                read(plant, &writer, begin, end)
                    .await?
                    .into_iter()
                    .filter(|event| about(event, device) && sight.shows(event)),
            );
            budget = budget.saturating_sub(end.saturating_sub(begin));
            end = begin;
        }
        if budget == 0 || events.len() >= limit {
            break;
        }
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    events.truncate(limit);
    Ok(events)
}

/// What people changed since `since`, newest first, at most `limit`; `changes` tells a change by its action.
pub async fn changes(
    plant: &Plant,
    actor: &Actor,
    since: UnixTime,
    limit: usize,
    changes: impl Fn(&str) -> bool,
) -> Result<Vec<Event>, Refusal> {
    let sight = Sight::of(plant, actor).await?;
    let mut writers = writers(plant).await?;
    writers.sort_by_key(|writer| std::cmp::Reverse(start_of(writer)));
    let mut found = Vec::new();
    let mut budget = MAX_READ;
    for writer in writers {
        let mut end = last(plant, &writer).await?;
        while end > 0 && budget > 0 && found.len() < limit {
            let begin = end.saturating_sub(u64::try_from(MAX_SCAN).unwrap_or(1).min(budget));
            let events = read(plant, &writer, begin, end).await?;
            let is_past = events.last().is_some_and(|oldest| oldest.at < since);
            let wanted = |event: &Event| event.at >= since && changes(&event.action) && sight.shows(event);
            found.extend(events.into_iter().filter(wanted));
            budget = budget.saturating_sub(end.saturating_sub(begin));
            end = if is_past { 0 } else { begin };
        }
    }
    found.sort_by_key(|event| std::cmp::Reverse(event.at));
    found.truncate(limit);
    Ok(found)
}

fn about(event: &Event, device: Option<&DeviceName>) -> bool {
    device.is_none_or(|name| event.subject == name.as_str() || event.actor == name.as_str())
}

fn key(writer: &str, sequence: u64) -> String {
    format!("{AUDIT_PREFIX}{writer}/{sequence:020}")
}

fn start_of(writer: &str) -> u64 {
    writer.rsplit_once('.').and_then(|(_, start)| start.parse().ok()).unwrap_or(0)
}

/// Every chain, found by leaping over its records.
async fn writers(plant: &Plant) -> Result<Vec<String>, Refusal> {
    let mut writers = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let next = plant.store.scan(AUDIT_PREFIX, after.as_deref(), 1).await?;
        let Some((found, _)) = next.first() else { return Ok(writers) };
        let rest = found.strip_prefix(AUDIT_PREFIX).unwrap_or_default();
        let Some((writer, _)) = rest.split_once('/') else { return Ok(writers) };
        // Above every digit: the next chain follows.
        after = Some(format!("{AUDIT_PREFIX}{writer}/~"));
        writers.push(writer.to_owned());
    }
}

/// Number of the last record of a chain, 0 if there is none.
async fn last(plant: &Plant, writer: &str) -> Result<u64, Refusal> {
    let prefix = format!("{AUDIT_PREFIX}{writer}/");
    let (mut low, mut high) = (0, MAX_SEQUENCE);
    while low < high {
        let middle = low + (high - low) / 2;
        let later = plant.store.scan(&prefix, Some(&key(writer, middle)), 1).await?;
        if later.is_empty() { high = middle } else { low = middle.saturating_add(1) }
    }
    Ok(low)
}

/// The events with numbers above `begin` up to `end`, newest first.
async fn read(plant: &Plant, writer: &str, begin: u64, end: u64) -> Result<Vec<Event>, Refusal> {
    let prefix = format!("{AUDIT_PREFIX}{writer}/");
    let page = plant.store.scan(&prefix, Some(&key(writer, begin)), MAX_SCAN).await?;
    let last = key(writer, end);
    let mut events = Vec::new();
    for (key, value) in page.into_iter().filter(|(key, _)| *key <= last) {
        let record: AuditRecord = decode(&key, &value.value).map_err(Refusal::internal)?;
        match serde_json::from_slice(&record.entry) {
            Ok(event) => events.push(event),
            Err(error) => tracing::warn!(%key, %error, "an audit record holds no event"),
        }
    }
    events.reverse();
    Ok(events)
}
