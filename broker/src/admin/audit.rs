//! The audit for people: the latest events, and everything for whoever keeps or verifies it elsewhere.
//!
//! A chain is read from its end: its last record is found by bisection, because the store scans
//! forward only. What cannot be read as an event is told, not hidden.

pub mod follow;

use policy::audit::{AuditRecord, ChainHead, Event, Seal, SignedSeal};
use policy::time::UnixTime;
use tokio::sync::mpsc;

use super::Actor;
use super::sight::Sight;
use crate::audit::{chains, seal};
use crate::plant::Plant;
use crate::record::audit::SEALS;
use crate::session::Refusal;
use crate::store::MAX_SCAN;
use crate::store::record::decode;

/// Events of an answer that asks for none or too many.
const MAX_EVENTS: usize = 1000;
/// Records that are read at most to find those that are asked for.
const MAX_READ: u64 = 50_000;
/// Records of one message of an export: below 512 KiB, for a gRPC message has at most 4 MiB by default.
const CHUNK: usize = 100;

/// Which events; an empty word is any.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Actor or subject.
    pub device: String,
    /// Actor.
    pub actor: String,
    /// Action, or what it begins with before a dot: `device` is every `device.…`.
    pub action: String,
    /// Not before.
    pub since: UnixTime,
    /// Before; 0 is no bound.
    pub until: UnixTime,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        let is = |asked: &str, known: &str| asked.is_empty() || asked == known;
        let begins = event.action.strip_prefix(&self.action).is_some_and(|rest| rest.starts_with('.'));
        (is(&self.device, &event.subject) || event.actor == self.device)
            && is(&self.actor, &event.actor)
            && (is(&self.action, &event.action) || begins)
            && event.at >= self.since
            && (self.until.0 == 0 || event.at < self.until)
    }
}

/// The latest events that were asked for.
#[derive(Debug)]
pub struct Latest {
    /// Newest first.
    pub events: Vec<Event>,
    /// Older records were not looked at.
    pub incomplete: bool,
}

/// The latest events in sight that `filter` takes, newest first.
pub async fn latest(plant: &Plant, actor: &Actor, filter: &Filter, limit: usize) -> Result<Latest, Refusal> {
    let sight = Sight::of(plant, actor).await?;
    let limit = if limit == 0 { MAX_EVENTS } else { limit.min(MAX_EVENTS) };
    let mut events = Vec::new();
    let mut budget = MAX_READ;
    for writer in chains::writers(plant).await?.into_values().flat_map(|writers| writers.into_iter().rev()) {
        let mut end = chains::last(plant, &writer).await?;
        while end > 0 && budget > 0 && events.len() < limit {
            let step = u64::try_from(MAX_SCAN).unwrap_or(1).min(budget);
            let begin = end.saturating_sub(step);
            let page = read(plant, &writer, begin, end).await?.into_iter();
            events.extend(page.filter(|event| filter.takes(event) && sight.shows(event)));
            budget = budget.saturating_sub(end.saturating_sub(begin));
            end = begin;
        }
        if budget == 0 || events.len() >= limit {
            break;
        }
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    let incomplete = budget == 0 && events.len() < limit;
    events.truncate(limit);
    Ok(Latest { events, incomplete })
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
    let mut found = Vec::new();
    let mut budget = MAX_READ;
    for writer in chains::writers(plant).await?.into_values().flat_map(|writers| writers.into_iter().rev()) {
        let mut end = chains::last(plant, &writer).await?;
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

/// The events with numbers above `begin` up to `end`, newest first.
async fn read(plant: &Plant, writer: &str, begin: u64, end: u64) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::new();
    let page = chains::page(plant, writer, begin, MAX_SCAN).await?;
    for (number, bytes) in page.into_iter().filter(|(number, _)| *number <= end) {
        let record = AuditRecord::parse(&bytes).map_err(Refusal::internal)?;
        match Event::parse(&record.entry) {
            Ok(event) => events.push(event),
            Err(error) => tracing::warn!(writer, number, %error, "an audit record holds no event"),
        }
    }
    events.reverse();
    Ok(events)
}

/// A part of an export: every seal comes before the first record.
#[derive(Debug)]
pub enum Part {
    /// Seals.
    Seals(Vec<SignedSeal>),
    /// Records as stored, in the order of broker, start and number.
    Records(Vec<Vec<u8>>),
}

/// Sends the seals that are kept, and every record from `since` on up to the newest seal, which is made now.
pub async fn export(plant: &Plant, since: UnixTime, out: &mpsc::Sender<Part>) -> Result<(), Refusal> {
    let gone = |_| Refusal::internal("the reader of an audit export is gone".to_owned());
    let newest = seal::newest(plant).await?;
    let bounds = seal::read(&newest)?;
    let mut after: Option<String> = None;
    loop {
        let page = plant.store.scan(SEALS, after.as_deref(), CHUNK).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        let seals = page.iter().map(|(key, found)| decode(key, &found.value).map_err(Refusal::internal));
        out.send(Part::Seals(seals.collect::<Result<_, _>>()?)).await.map_err(gone)?;
    }
    out.send(Part::Seals(vec![newest])).await.map_err(gone)?;
    for (broker, writers) in chains::writers(plant).await? {
        let Some(span) = Span::of(&bounds, &broker) else { continue };
        let mut begun = false;
        for writer in writers {
            let Some((mut after, end)) = span.within(&writer) else { continue };
            while after < end {
                let page = chains::page(plant, &writer, after, CHUNK).await?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                let mut records = Vec::new();
                for (number, bytes) in page {
                    begun = begun || from(&bytes, since);
                    if begun && number <= end {
                        records.push(bytes);
                    }
                }
                out.send(Part::Records(records)).await.map_err(gone)?;
            }
        }
    }
    Ok(())
}

/// Whether the record is from `since` or later; one that cannot be read is for the verifier to find.
fn from(bytes: &[u8], since: UnixTime) -> bool {
    let event = AuditRecord::parse(bytes).ok().and_then(|record| Event::parse(&record.entry).ok());
    event.is_none_or(|event| event.at >= since)
}

/// The records of a broker that a seal covers: after one, up to another.
struct Span {
    after: Option<(u64, u64)>,
    last: (u64, u64),
}

impl Span {
    fn of(seal: &Seal, broker: &str) -> Option<Self> {
        let place = |head: &ChainHead| head.place().map(|(_, start)| (start, head.sequence));
        let find = |heads: &[ChainHead]| {
            heads.iter().find(|head| head.place().is_some_and(|(of, _)| of == broker)).and_then(place)
        };
        Some(Self { after: find(&seal.archived), last: find(&seal.heads)? })
    }

    /// Numbers of the records of `writer`: after the first, up to the second.
    fn within(&self, writer: &str) -> Option<(u64, u64)> {
        let start: u64 = writer.rsplit_once('.').and_then(|(_, start)| start.parse().ok())?;
        let after = match self.after {
            Some((begins, _)) if start < begins => return None,
            Some((begins, number)) if start == begins => number,
            Some(_) | None => 0,
        };
        match self.last {
            (ends, _) if start > ends => None,
            (ends, number) if start == ends => Some((after, number)),
            _ => Some((after, u64::MAX)),
        }
    }
}
