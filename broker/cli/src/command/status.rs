//! `touchstone status`: the morning page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use proto::v1::{Attention, GetStatusRequest, GetStatusResponse};
use serde::Serialize;

use crate::client::failed;
use crate::command::watch::Watch;
use crate::contexts;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output::table::{Table, Tone};
use crate::output::{Page, Report, Session, View, words};

/// Clocks further apart than this are worth a line: challenges and certificates depend on them.
const NOTED_SKEW_SECONDS: u64 = 60;
/// States in the order in which people want to read them.
const STATES: [&str; 7] = ["trusted", "holding", "refused", "quarantined", "pending", "silent", "registered"];

/// How often.
#[derive(Debug, Args)]
#[command(after_help = "Example: touchstone status --watch")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Serialize)]
struct StatusView {
    context: String,
    plant: String,
    broker: BrokerView,
    needs_you: Vec<AttentionView>,
    devices: BTreeMap<String, u32>,
    zones: u32,
    conduits: u32,
    active_releases: u32,
}

#[derive(Debug, Serialize)]
struct BrokerView {
    version: String,
    time: Option<String>,
    clock_skew_seconds: i64,
    plant_epoch: u64,
    store_revision: u64,
    plant_root: String,
    issuing_not_after: Option<String>,
    #[serde(skip)]
    issuing_ends: u64,
}

#[derive(Debug, Serialize)]
struct AttentionView {
    subject: String,
    message: String,
    next_command: String,
    owner: String,
    criticality: String,
}

/// Shows the page; ends with 1 when something needs a person.
pub(crate) async fn run(args: &StatusArgs, session: &Session) -> Result<Report> {
    args.watch.show(session, once).await
}

async fn once(session: &Session) -> Result<Report> {
    let mut client = session.client().await?;
    let answer = client.get_status(GetStatusRequest {}).await.map_err(|s| failed(&s))?.into_inner();
    let context = contexts::label(session.global())?;
    let view = StatusView::new(context, answer, session.now().0);
    let exit = if view.needs_you.is_empty() { Exit::Done } else { Exit::NeedsYou };
    Ok(session.report(&view)?.ending(exit))
}

impl StatusView {
    fn new(context: String, answer: GetStatusResponse, now: u64) -> Self {
        let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let broker = BrokerView {
            version: answer.broker_version,
            time: words::json_time(answer.broker_time),
            clock_skew_seconds: seconds(answer.broker_time).saturating_sub(seconds(now)),
            plant_epoch: answer.plant_epoch,
            store_revision: answer.store_revision,
            plant_root: words::digest(&answer.plant_root),
            issuing_not_after: words::json_time(answer.issuing_not_after),
            issuing_ends: answer.issuing_not_after,
        };
        Self {
            context,
            plant: answer.plant,
            broker,
            needs_you: answer.attention.into_iter().map(AttentionView::from).collect(),
            devices: answer.devices.into_iter().collect(),
            zones: answer.zones,
            conduits: answer.conduits,
            active_releases: answer.active_releases,
        }
    }

    fn devices_text(&self, page: &Page) -> String {
        let known = STATES.iter().filter_map(|state| self.devices.get_key_value(*state));
        let others = self.devices.iter().filter(|(state, _)| !STATES.contains(&state.as_str()));
        let parts: Vec<_> = known
            .chain(others)
            .filter(|(_, count)| **count > 0)
            .map(|(state, count)| {
                Tone::of_state(state).paint(&format!("{count} {}", words::visible(state)), page.colour)
            })
            .collect();
        if parts.is_empty() { "none yet".to_owned() } else { parts.join(", ") }
    }
}

impl From<Attention> for AttentionView {
    fn from(attention: Attention) -> Self {
        Self {
            subject: attention.subject,
            message: attention.message,
            next_command: attention.next_command,
            owner: attention.owner,
            criticality: attention.criticality,
        }
    }
}

impl View for StatusView {
    fn text(&self, page: &Page) -> String {
        let mut text = String::new();
        let broker = &self.broker;
        let _ = writeln!(
            text,
            "{} ({}): broker {} is well; its own certificate ends {}",
            words::visible(&self.plant),
            words::visible(&self.context),
            words::visible(&broker.version),
            words::left(broker.issuing_ends, page.now),
        );
        let skew = broker.clock_skew_seconds.unsigned_abs();
        if skew > NOTED_SKEW_SECONDS {
            let side = if broker.clock_skew_seconds > 0 { "ahead of" } else { "behind" };
            let _ = writeln!(text, "The broker's clock is {} {side} this machine's.", words::span(skew));
        }
        let _ = writeln!(
            text,
            "Devices: {}\nZones: {}, conduits: {}, active golden releases: {}\n",
            self.devices_text(page),
            self.zones,
            self.conduits,
            self.active_releases
        );
        if self.needs_you.is_empty() {
            text.push_str("Nothing needs you.\n");
            return text;
        }
        let mut table = Table::new(["NEEDS YOU", "WHY", "OWNER", "CRITICALITY", "NEXT"]);
        for one in &self.needs_you {
            table.row([
                one.subject.clone(),
                one.message.clone(),
                words::or_dash(&one.owner),
                words::or_dash(&one.criticality),
                one.next_command.clone(),
            ]);
        }
        text.push_str(&table.text("", page.colour));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> GetStatusResponse {
        GetStatusResponse {
            plant: "plant.example".to_owned(),
            broker_version: "0.1.0".to_owned(),
            broker_time: 1_000_000,
            devices: [("trusted".to_owned(), 2), ("refused".to_owned(), 1), ("pending".to_owned(), 0)].into(),
            attention: vec![Attention {
                subject: "press-7".to_owned(),
                message: "refused: kernel is not golden".to_owned(),
                next_command: "touchstone device why press-7".to_owned(),
                ..Attention::default()
            }],
            issuing_not_after: 1_000_000 + 90 * 86_400,
            ..GetStatusResponse::default()
        }
    }

    #[test]
    fn the_page_names_what_needs_you_and_the_next_command() {
        let text = StatusView::new("context".to_owned(), answer(), 1_000_000).text(&Page::plain(1_000_000));
        assert!(text.starts_with(
            "plant.example (context): broker 0.1.0 is well; its own certificate ends in 90 d\n"
        ));
        assert!(text.contains("Devices: 2 trusted, 1 refused\n"), "{text}");
        assert!(text.contains("touchstone device why press-7"), "{text}");
        assert!(!text.contains("clock"), "{text}");
    }

    #[test]
    fn a_skewed_clock_is_named() {
        let text = StatusView::new("context".to_owned(), answer(), 1_000_600).text(&Page::plain(1_000_600));
        assert!(text.contains("The broker's clock is 10 min behind this machine's."), "{text}");
    }

    #[test]
    fn json_has_a_time_for_every_instant() {
        let json = serde_json::to_value(StatusView::new("context".to_owned(), answer(), 1_000_000)).unwrap();
        assert_eq!(json["broker"]["time"], "1970-01-12T13:46:40Z");
        assert_eq!(json["needs_you"][0]["subject"], "press-7");
        assert_eq!(json["devices"]["trusted"], 2);
    }
}
