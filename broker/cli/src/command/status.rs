//! `touchstone status`: the morning page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use proto::v1::{Attention, AuditEvent, GetStatusRequest, GetStatusResponse, ZoneOutlook};
use serde::Serialize;

use crate::client::failed;
use crate::command::watch::Watch;
use crate::contexts;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output::moment::Moment;
use crate::output::table::{Table, Tone};
use crate::output::{Page, Report, Session, View, words};

/// Clocks further apart than this are worth a line: challenges and certificates depend on them.
const NOTED_SKEW_SECONDS: u64 = 60;
/// Lines of a list on the page, so that it stays one screen; JSON has them all.
const SHOWN: usize = 6;
/// Changes on the page.
const CHANGES_SHOWN: usize = 4;
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
    changes: Vec<ChangeView>,
    outlook: Vec<OutlookView>,
    /// When the certificate of whoever asks ends.
    your_certificate_ends: Option<Moment>,
}

/// What somebody changed in the last day.
#[derive(Debug, Serialize)]
struct ChangeView {
    at: Option<String>,
    actor: String,
    action: String,
    subject: String,
    text: String,
    #[serde(skip)]
    seconds: u64,
}

/// How far a zone is covered, and how long it lasts without the broker.
#[derive(Debug, Serialize)]
struct OutlookView {
    zone: String,
    observes: bool,
    released: bool,
    devices: u32,
    silent: u32,
    late: u32,
    first_ends: Option<String>,
    outlive_seconds: u64,
    #[serde(skip)]
    ends: u64,
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
    let ends = session.context()?.identity.and_then(|identity| identity.validity());
    let ends = ends.map(|validity| Moment(validity.not_after.0));
    let view =
        StatusView { your_certificate_ends: ends, ..StatusView::new(context, answer, session.now().0) };
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
            changes: answer.changes.into_iter().map(ChangeView::from).collect(),
            outlook: answer.outlook.into_iter().map(OutlookView::from).collect(),
            your_certificate_ends: None,
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

impl StatusView {
    /// The zones that end first come first; those that hold no certificate come last.
    fn outlook_text(&self, text: &mut String, page: &Page) {
        if self.outlook.is_empty() {
            return;
        }
        let mut zones: Vec<_> = self.outlook.iter().collect();
        zones.sort_by_key(|zone| if zone.ends == 0 { u64::MAX } else { zone.ends });
        let mut table =
            Table::new(["ZONE", "MODE", "RELEASE", "DEVICES", "SILENT", "LATE", "WITHOUT BROKER"]);
        for zone in zones.into_iter().take(SHOWN) {
            let reserve = if zone.ends == 0 {
                "-".to_owned()
            } else {
                words::span(zone.ends.saturating_sub(page.now.0))
            };
            table.row([
                zone.zone.clone(),
                if zone.observes { "observe" } else { "enforce" }.to_owned(),
                if zone.released { "yes" } else { "none" }.to_owned(),
                zone.devices.to_string(),
                zone.silent.to_string(),
                zone.late.to_string(),
                format!("{reserve} of {}", words::span(zone.outlive_seconds)),
            ]);
        }
        text.push_str(&table.text("", page.colour));
        more(text, self.outlook.len());
        text.push('\n');
    }

    /// What ends next, and what would if the broker were away from now on.
    fn ends_text(&self, text: &mut String, page: &Page) {
        let zones = self.outlook.iter().filter(|zone| zone.ends > 0);
        let alone = zones
            .min_by_key(|zone| zone.ends)
            .map(|zone| (zone.ends, format!("without the broker, a certificate of zone {}", zone.zone)));
        let yours = self.your_certificate_ends.map(|ends| (ends.0, "your certificate".to_owned()));
        let broker = (self.broker.issuing_ends > 0)
            .then(|| (self.broker.issuing_ends, "the broker's certificate".to_owned()));
        let mut ends: Vec<_> = alone.into_iter().chain(yours).chain(broker).collect();
        ends.sort();
        let ends: Vec<_> =
            ends.into_iter().map(|(at, what)| format!("{what} {}", words::left(at, page.now))).collect();
        if !ends.is_empty() {
            let _ = writeln!(text, "Ends next: {}\n", words::visible(&ends.join("; ")));
        }
    }

    fn changes_text(&self, text: &mut String, page: &Page) {
        if self.changes.is_empty() {
            return;
        }
        text.push_str("Changed in the last day:\n");
        for one in self.changes.iter().take(CHANGES_SHOWN) {
            let line = format!(
                "{}, {}: {} {}",
                words::age(one.seconds, page.now),
                one.actor,
                one.action,
                one.subject
            );
            let _ = writeln!(text, "  {}", words::visible(&line));
        }
        if self.changes.len() > CHANGES_SHOWN {
            text.push_str("  and more: touchstone audit list\n");
        }
        text.push('\n');
    }
}

/// Says that a list is longer than it was shown.
fn more(text: &mut String, all: usize) {
    if let Some(rest) = all.checked_sub(SHOWN).filter(|rest| *rest > 0) {
        let _ = writeln!(text, "  and {rest} more: touchstone status -o json");
    }
}

impl AttentionView {
    /// Whom it is about and why, and below it the command that helps.
    fn text(&self) -> String {
        let about = [("owner ", &self.owner), ("criticality ", &self.criticality)];
        let about: Vec<_> = about
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(label, value)| format!("{label}{value}"))
            .collect();
        let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
        let mut text = format!("  {}", words::visible(&format!("{}{about}: {}", self.subject, self.message)));
        if !self.next_command.is_empty() {
            let _ = write!(text, "\n    {}", words::visible(&self.next_command));
        }
        text
    }
}

impl From<AuditEvent> for ChangeView {
    fn from(event: AuditEvent) -> Self {
        Self {
            at: words::json_time(event.at),
            actor: event.actor,
            action: event.action,
            subject: event.subject,
            text: event.text,
            seconds: event.at,
        }
    }
}

impl From<ZoneOutlook> for OutlookView {
    fn from(zone: ZoneOutlook) -> Self {
        Self {
            zone: zone.zone,
            observes: zone.observes,
            released: zone.released,
            devices: zone.devices,
            silent: zone.silent,
            late: zone.late,
            first_ends: words::json_time(zone.first_ends),
            outlive_seconds: zone.outlive_seconds,
            ends: zone.first_ends,
        }
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
        self.outlook_text(&mut text, page);
        self.ends_text(&mut text, page);
        self.changes_text(&mut text, page);
        if self.needs_you.is_empty() {
            text.push_str("Nothing needs you.\n");
            return text;
        }
        text.push_str("Needs you:\n");
        for one in self.needs_you.iter().take(SHOWN) {
            let _ = writeln!(text, "{}", one.text());
        }
        more(&mut text, self.needs_you.len());
        text
    }
}

#[cfg(test)]
mod tests;
