//! `touchstone audit`: what was done, decided and refused.

use clap::{Args, Subcommand};
use policy::id::DeviceName;
use proto::v1::ListAuditEventsRequest;
use serde::Serialize;

use crate::client::failed;
use crate::failure::Result;
use crate::output::table::Table;
use crate::output::{Page, Report, Session, View, words};

/// Verbs of `audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The latest events
    List(ListArgs),
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only events of this device
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceName>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
}

#[derive(Debug, Serialize)]
struct EventView {
    at: Option<String>,
    actor: String,
    action: String,
    subject: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct Events {
    events: Vec<EventView>,
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

/// Runs a verb.
pub(crate) async fn run(command: AuditCommand, session: &Session) -> Result<Report> {
    let AuditCommand::List(args) = command;
    let request = ListAuditEventsRequest {
        device: args.device.map(|name| name.to_string()).unwrap_or_default(),
        limit: args.limit,
    };
    let answer = session.client().await?.list_audit_events(request).await.map_err(|s| failed(&s))?;
    let events = answer
        .into_inner()
        .events
        .into_iter()
        .map(|event| EventView {
            at: words::json_time(event.at),
            actor: event.actor,
            action: event.action,
            subject: event.subject,
            text: event.text,
        })
        .collect();
    session.report(&Events { events })
}
