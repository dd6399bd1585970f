//! `touchstone audit list`: the latest events.

use std::str::FromStr;

use clap::Args;
use policy::id::DeviceName;
use policy::time::UnixTime;
use proto::v1::ListAuditEventsRequest;
use serde::Serialize;

use crate::args::Span;
use crate::client::failed;
use crate::failure::Result;
use crate::output::table::Table;
use crate::output::{Page, Report, Session, View, words};

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only events of this device
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceName>,
    /// Only events that this administrator, device or `broker` caused
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this action, `device.admit`, or all of a noun, `device`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only events since then: a time as RFC 3339, or how long ago, for example 30d
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only events before then
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// How many at most, up to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// A moment: `2026-01-31T06:00:00Z`, or how long ago, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// A time.
    At(UnixTime),
    /// So many seconds ago.
    Ago(Span),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let ago = || text.parse().map(Self::Ago);
        text.parse().map(Self::At).or_else(|_| ago()).map_err(|_| {
            format!("`{text}` is no time; write for example 2026-01-31T06:00:00Z, or 30d for 30 days ago")
        })
    }
}

impl Moment {
    /// The time, counted from `now`; 0 for none.
    pub(super) fn seconds(moment: Option<Self>, now: UnixTime) -> u64 {
        match moment {
            None => 0,
            Some(Self::At(at)) => at.0,
            Some(Self::Ago(Span(seconds))) => now.minus(seconds.into()).0,
        }
    }
}

#[derive(Debug, Serialize)]
struct EventView {
    at: Option<String>,
    actor: String,
    action: String,
    subject: String,
    text: String,
    serials: Vec<String>,
    evidence: String,
}

#[derive(Debug, Serialize)]
struct Events {
    events: Vec<EventView>,
    incomplete: bool,
}

impl View for Events {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["TIME", "WHO", "ACTION", "SUBJECT", "WHAT"]);
        for event in &self.events {
            table.row([
                event.at.clone().unwrap_or_default(),
                event.actor.clone(),
                event.action.clone(),
                event.subject.clone(),
                event.text.clone(),
            ]);
        }
        table.text("no events", page.colour)
    }
}

/// Lists.
pub(super) async fn run(args: ListArgs, session: &Session) -> Result<Report> {
    let request = ListAuditEventsRequest {
        device: args.device.map(|name| name.to_string()).unwrap_or_default(),
        limit: args.limit,
        actor: args.actor.unwrap_or_default(),
        action: args.action.unwrap_or_default(),
        since: Moment::seconds(args.since, session.now()),
        until: Moment::seconds(args.until, session.now()),
    };
    let answer = session.client().await?.list_audit_events(request).await.map_err(|s| failed(&s))?;
    let answer = answer.into_inner();
    let view = |event: proto::v1::AuditEvent| EventView {
        at: words::json_time(event.at),
        actor: event.actor,
        action: event.action,
        subject: event.subject,
        text: event.text,
        serials: event.serials,
        evidence: words::digest(&event.evidence),
    };
    let events =
        Events { events: answer.events.into_iter().map(view).collect(), incomplete: answer.incomplete };
    let report = session.report(&events)?;
    Ok(match events.incomplete {
        true => report.aside("older records were not looked at; `touchstone audit export` has them all"),
        false => report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_how_long_ago() {
        let now = UnixTime(1_800_000_000);
        let seconds = |text: &str| Moment::seconds(Some(text.parse().unwrap()), now);
        assert_eq!((seconds("1h"), seconds("1970-01-01T00:01:00Z")), (1_799_996_400, 60));
        assert!("yesterday".parse::<Moment>().unwrap_err().contains("30d"));
    }
}
