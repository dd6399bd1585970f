//! `touchstone inspect eventlog`: a firmware event log, replayed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use policy::budget::MAX_EVENT_LOG_BYTES;
use policy::cause::chain;
use policy::eventlog::event::describe;
use policy::eventlog::replay::replay_all;
use policy::eventlog::tcg::{Event, EventLog, EventLogError, Format};
use policy::tpm::alg::HashAlg;
use policy::tpm::pcr::PcrValues;
use serde::Serialize;

use super::Pcrs;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::{Page, Report, Session, View, words};

/// Which log, and how much of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 read, 2 malformed: one line names the offset and what is wrong.
With --events, each line is: position, PCR, type, SHA-256 digest, description; separated by tabs,
- for what is not there. Descriptions are what the log says of itself; nothing vouches for them.
Example: touchstone inspect eventlog binary_bios_measurements --events")]
pub(crate) struct EventlogArgs {
    /// Log as /sys/kernel/security/tpm0/binary_bios_measurements has it
    file: PathBuf,
    /// Every event instead of the PCRs
    #[arg(long)]
    events: bool,
}

/// What the log amounts to.
#[derive(Debug, Serialize)]
struct LogView {
    format: &'static str,
    events: usize,
    startup_locality: Option<u8>,
    pcrs: BTreeMap<&'static str, Pcrs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_list: Option<Vec<EventView>>,
}

#[derive(Debug, Serialize)]
struct EventView {
    position: usize,
    pcr: Option<u8>,
    #[serde(rename = "type")]
    event_type: String,
    sha256: Option<String>,
    description: Option<String>,
}

impl LogView {
    fn new(log: &EventLog<'_>, with_events: bool) -> Self {
        let of_bank = |values: &PcrValues| (values.bank().name(), super::pcrs_of(values));
        let pcrs = replay_all(log).iter().map(of_bank).collect();
        Self {
            format: match log.format() {
                Format::CryptoAgile => "crypto-agile",
                Format::Sha1 => "tcg1.2",
            },
            events: log.events().len(),
            startup_locality: log.startup_locality(),
            pcrs,
            event_list: with_events.then(|| log.events().iter().map(EventView::from).collect()),
        }
    }
}

impl From<&Event<'_>> for EventView {
    fn from(event: &Event<'_>) -> Self {
        Self {
            position: event.position,
            pcr: event.pcr.map(|pcr| pcr.number()),
            event_type: event.event_type.to_string(),
            sha256: event.digest(HashAlg::Sha256).map(|digest| hex::encode(digest.as_bytes())),
            description: describe(event),
        }
    }
}

impl EventView {
    fn line(&self) -> String {
        let pcr = self.pcr.map_or_else(|| "-".to_owned(), |pcr| pcr.to_string());
        let sha256 = self.sha256.as_deref().unwrap_or("-");
        let description = words::visible(self.description.as_deref().unwrap_or("-"));
        format!("{}\t{pcr}\t{}\t{sha256}\t{description}\n", self.position, self.event_type)
    }
}

impl View for LogView {
    fn text(&self, page: &Page) -> String {
        if let Some(events) = &self.event_list {
            return events.iter().map(EventView::line).collect();
        }
        let locality = self.startup_locality.map_or_else(|| "none".to_owned(), |at| at.to_string());
        let events = words::count(self.events, "event");
        let table = super::pcr_table(&self.pcrs, "no event extends a PCR", page);
        format!("{} log, {events}, startup locality {locality}\n\n{table}", self.format)
    }
}

/// The bytes of a log, as many as are looked at.
pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    let limit = u64::try_from(MAX_EVENT_LOG_BYTES).unwrap_or(u64::MAX);
    let bytes = file::read_up_to(file, limit)?;
    if bytes.len() > MAX_EVENT_LOG_BYTES {
        let why = format!("offset {limit}: the log goes on, at most {limit} bytes are read");
        return Err(malformed(file, &why));
    }
    Ok(bytes)
}

/// Parses a log; a malformed one is told in one line.
pub(super) fn parse<'a>(file: &Path, bytes: &'a [u8]) -> Result<EventLog<'a>> {
    EventLog::parse(bytes).map_err(|error| match error {
        EventLogError::Empty => malformed(file, &format!("offset 0: {error}")),
        error => malformed(file, &chain(&error)),
    })
}

fn malformed(file: &Path, why: &str) -> Failure {
    Failure::unusable(format!("{}: {why}", file.display()))
}

/// Replays the log.
pub(super) fn run(args: &EventlogArgs, session: &Session) -> Result<Report> {
    let bytes = read(&args.file)?;
    let log = parse(&args.file, &bytes)?;
    session.report(&LogView::new(&log, args.events))
}
