//! `touchstone calendar`: everything that ends, and what begins by the clock.

use std::collections::BTreeMap;

use clap::Args;
use policy::time::UnixTime;
use proto::v1::{CalendarEntry, GetCalendarRequest, GetCalendarResponse};
use serde::Serialize;

use crate::args::Format;
use crate::client::failed;
use crate::failure::Result;
use crate::output::ics::{self, Event};
use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, Report, Session, View, words};

/// Nothing to choose.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  touchstone calendar
  touchstone calendar -o ics > plant.ics     for calendar programs; a date keeps its identity from run to run")]
pub(crate) struct CalendarArgs {}

#[derive(Debug, Serialize)]
struct EntryView {
    kind: String,
    subject: String,
    at: Moment,
    until: Moment,
    text: String,
    next_command: Option<String>,
}

impl From<CalendarEntry> for EntryView {
    fn from(entry: CalendarEntry) -> Self {
        let CalendarEntry { kind, subject, at, until, text, next_command } = entry;
        let next_command = (!next_command.is_empty()).then_some(next_command);
        Self { kind, subject, at: Moment(at), until: Moment(until), text, next_command }
    }
}

#[derive(Debug, Serialize)]
struct Calendar {
    plant: String,
    entries: Vec<EntryView>,
}

impl View for Calendar {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["WHEN", "LEFT", "KIND", "WHAT", "NEXT"]);
        for entry in &self.entries {
            table.row([
                entry.at.to_string(),
                words::left(entry.at.0, page.now),
                entry.kind.clone(),
                entry.text.clone(),
                words::or_dash(entry.next_command.as_deref().unwrap_or_default()),
            ]);
        }
        table.text("nothing ends", page.colour)
    }
}

impl Calendar {
    /// For calendar programs. What a date is about names it, not when it is: one that moves is the same date.
    fn to_ics(&self, now: UnixTime) -> String {
        let (mut seen, mut uids) = (BTreeMap::new(), Vec::new());
        for entry in &self.entries {
            let subject = format!("{}/{}", entry.kind, entry.subject);
            // A device on its way may have the way back planned: two dates about one thing.
            let nth = seen.entry(subject.clone()).and_modify(|nth| *nth += 1).or_insert(1_usize);
            let nth = if *nth == 1 { String::new() } else { format!("/{nth}") };
            uids.push(format!("{subject}{nth}@{}", self.plant));
        }
        let time = |at: Moment| (at.0 != 0).then_some(UnixTime(at.0));
        let events = self.entries.iter().zip(&uids).map(|(entry, uid)| Event {
            uid,
            at: UnixTime(entry.at.0),
            until: time(entry.until),
            summary: &entry.text,
            description: entry.next_command.as_deref().unwrap_or_default(),
            category: &entry.kind,
        });
        let events: Vec<Event<'_>> = events.collect();
        ics::write(&self.plant, &events, now)
    }
}

pub(crate) async fn run(_: &CalendarArgs, session: &Session) -> Result<Report> {
    let answer = session.client().await?.get_calendar(GetCalendarRequest {}).await.map_err(|s| failed(&s))?;
    let GetCalendarResponse { plant, entries } = answer.into_inner();
    let calendar = Calendar { plant, entries: entries.into_iter().map(Into::into).collect() };
    match session.format() {
        Format::Ics => Ok(Report::raw(calendar.to_ics(session.now()))),
        Format::Table | Format::Json | Format::Yaml => session.report(&calendar),
    }
}
