//! `touchstone conduit`: which zone may open which service of another.

mod why;

use clap::{Args, Subcommand};
use policy::id::{ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Schedule;
use proto::convert;
use proto::v1::{AllowConduitRequest, CloseConduitRequest, Conduit, ListConduitsRequest, Seen};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Verbs of `conduit`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConduitCommand {
    /// Let one zone open one service of another
    Allow(AllowArgs),
    /// Take that back; sessions that are open are not cut
    #[command(after_help = "Example: touchstone conduit close --from cell-3 --to historian --service opcua")]
    Close(CloseArgs),
    /// May a device open a service, and if not, why
    Why(why::WhyArgs),
    /// Every conduit
    #[command(after_help = "Example: touchstone conduit list")]
    List,
}

/// Who may open what.
#[derive(Debug, Args)]
#[command(after_help = "\
A service that no device of the zone offers, while they offer others, is refused: it may be misspelt. While they offer
nothing, as in a zone whose devices are yet to come, any name is taken; `touchstone zone check` names what nobody offers.
Examples:
  touchstone conduit allow --from cell-3 --to historian --service opcua
  touchstone conduit allow --from vendor --to cell-3 --service ssh --schedule 'sat,sun 22:00-04:00 in Europe/Berlin'")]
pub(crate) struct AllowArgs {
    #[command(flatten)]
    ends: Ends,
    /// Hours of the week in which it is open, by the clock of a time zone, or else of UTC; devices keep them without the broker
    #[arg(long, value_name = "HOURS")]
    schedule: Option<Schedule>,
    /// When it closes by itself, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = end)]
    until: Option<UnixTime>,
    /// Accept that the opening zone is in observe and so not appraised
    #[arg(long)]
    accept_observed: bool,
    /// Open it although the devices of the zone offer other services and not this one yet
    #[arg(long)]
    unoffered: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// An end: the first moment there is means none to the broker.
fn end(text: &str) -> std::result::Result<UnixTime, String> {
    match text.parse::<UnixTime>() {
        Ok(UnixTime(0)) => Err("that is past; give a later end, or leave it out for none".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// Which conduit.
#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    #[command(flatten)]
    ends: Ends,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Args)]
struct Ends {
    /// Zone that opens connections
    #[arg(long, value_name = "ZONE")]
    from: ZoneName,
    /// Zone that offers the service
    #[arg(long, value_name = "ZONE")]
    to: ZoneName,
    /// Name of the service
    #[arg(long, value_name = "SERVICE")]
    service: ServiceName,
}

impl From<Ends> for Conduit {
    fn from(ends: Ends) -> Self {
        Self {
            from: ends.from.to_string(),
            to: ends.to.to_string(),
            service: ends.service.to_string(),
            ..Self::default()
        }
    }
}

/// A conduit as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConduitView {
    from: String,
    to: String,
    service: String,
    schedule: Option<String>,
    until: Option<String>,
    accept_observed: bool,
    #[serde(skip)]
    ends: u64,
}

impl From<Conduit> for ConduitView {
    fn from(conduit: Conduit) -> Self {
        Self {
            from: conduit.from,
            to: conduit.to,
            service: conduit.service,
            schedule: (!conduit.schedule.is_empty()).then_some(conduit.schedule),
            until: words::json_time(conduit.expires_at),
            accept_observed: conduit.accept_observed,
            ends: conduit.expires_at,
        }
    }
}

impl ConduitView {
    /// Which one it is.
    pub(crate) fn name(&self) -> String {
        format!("{} -> {} {}", self.from, self.to, self.service)
    }

    /// The conduit in one line.
    pub(crate) fn line(&self) -> String {
        let hours = self.schedule.as_ref().map_or_else(String::new, |hours| format!(", {hours}"));
        let until = self.until.as_ref().map_or_else(String::new, |until| format!(", until {until}"));
        format!("{}{hours}{until}", self.name())
    }

    /// The table of conduits.
    pub(crate) fn table(conduits: &[Self], page: &Page) -> String {
        let mut table = Table::new(["FROM", "TO", "SERVICE", "HOURS", "ENDS", "NOTE"]);
        for conduit in conduits {
            let note = if conduit.accept_observed { "from a zone in observe" } else { "-" };
            table.row([
                conduit.from.clone(),
                conduit.to.clone(),
                conduit.service.clone(),
                conduit.schedule.clone().unwrap_or_else(|| "always".to_owned()),
                words::left(conduit.ends, page.now),
                note.to_owned(),
            ]);
        }
        table.text("no conduits; what no conduit allows is refused", page.colour)
    }
}

#[derive(Debug, Serialize)]
struct Conduits {
    conduits: Vec<ConduitView>,
}

impl View for Conduits {
    fn text(&self, page: &Page) -> String {
        ConduitView::table(&self.conduits, page)
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    dry_run: bool,
    conduit: ConduitView,
    /// What it was, in words; none from a broker that does not say.
    before: Option<String>,
    affected: Vec<String>,
    /// Why it opens nothing yet, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_nothing: Option<String>,
}

/// Runs a verb.
pub(crate) async fn run(command: ConduitCommand, session: &Session) -> Result<Report> {
    match command {
        ConduitCommand::Allow(args) => allow(args, session).await,
        ConduitCommand::Close(args) => close(args, session).await,
        ConduitCommand::Why(args) => why::run(args, session).await,
        ConduitCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_conduits(ListConduitsRequest {}).await.map_err(|s| failed(&s))?;
            let conduits = answer.into_inner().conduits.into_iter().map(Into::into).collect();
            session.report(&Conduits { conduits })
        }
    }
}

async fn allow(args: AllowArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let conduit = Conduit {
        schedule: convert::schedule_to_wire(args.schedule.as_ref()),
        expires_at: args.until.map_or(0, |until| until.0),
        accept_observed: args.accept_observed,
        ..args.ends.into()
    };
    let mut request = AllowConduitRequest {
        conduit: Some(conduit.clone()),
        dry_run: true,
        unoffered: args.unoffered,
        seen: None,
    };
    let mut client = session.client().await?;
    let mut answer = client.allow_conduit(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !dry_run {
        // Whoever changes the conduit between the two calls is not overwritten.
        (request.dry_run, request.seen) = (false, answer.seen);
        answer = client.allow_conduit(request).await.map_err(|s| failed(&s))?.into_inner();
    }
    let verb = if dry_run { "would be allowed to open" } else { "may open" };
    let opens_nothing = Some(answer.nobody_offers).filter(|sentence| !sentence.is_empty());
    let change = Changed {
        dry_run,
        conduit: conduit.into(),
        before: words_of(answer.seen),
        affected: answer.affected,
        opens_nothing: opens_nothing.clone(),
    };
    let report = changed(session, verb, change)?;
    Ok(match opens_nothing {
        None => report,
        Some(sentence) => report.aside(format!("look: {}", words::visible(&sentence))),
    })
}

async fn close(args: CloseArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let conduit = Conduit::from(args.ends);
    let mut request = CloseConduitRequest { conduit: Some(conduit.clone()), dry_run: true, seen: None };
    let mut client = session.client().await?;
    let mut answer = client.close_conduit(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !dry_run {
        (request.dry_run, request.seen) = (false, answer.seen);
        answer = client.close_conduit(request).await.map_err(|s| failed(&s))?.into_inner();
    }
    let verb = if dry_run { "would no longer be allowed to open" } else { "may no longer open" };
    let change = Changed {
        dry_run,
        conduit: conduit.into(),
        before: words_of(answer.seen),
        affected: answer.affected,
        opens_nothing: None,
    };
    changed(session, verb, change)
}

fn words_of(seen: Option<Seen>) -> Option<String> {
    seen.map(|seen| seen.words)
}

fn changed(session: &Session, verb: &str, change: Changed) -> Result<Report> {
    let Changed { conduit, before, affected, .. } = &change;
    let text = format!(
        "{} {verb} {} of {}{}; trust files change on {}: {}",
        conduit.from,
        conduit.service,
        conduit.to,
        before.as_ref().map_or_else(String::new, |before| format!(", which was {before}")),
        words::count(affected.len(), "device"),
        words::list(affected)
    );
    session.report(&Sentence { text, fields: change })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_moment_is_no_end() {
        assert!(end("1970-01-01T00:00:00Z").unwrap_err().starts_with("that is past"));
        assert_eq!(end("1970-01-01T00:00:01Z"), Ok(UnixTime(1)));
    }

    #[test]
    fn a_conduit_from_observe_and_one_that_ends_are_marked() {
        let conduit = Conduit {
            from: "lab".to_owned(),
            to: "historian".to_owned(),
            service: "opcua".to_owned(),
            expires_at: 10_000,
            accept_observed: true,
            schedule: "sun 02:00-06:00".to_owned(),
        };
        let text = ConduitView::table(&[conduit.into()], &Page::plain(100));
        assert!(
            text.contains("lab   historian  opcua    sun 02:00-06:00  in 2 h  from a zone in observe"),
            "{text}"
        );
        let none = ConduitView::table(&[], &Page::plain(100));
        assert_eq!(none, "no conduits; what no conduit allows is refused\n");
    }
}
