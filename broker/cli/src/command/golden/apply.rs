//! `touchstone golden apply`: forecast, ask, change.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use proto::v1::{ApplyReleaseRequest, ForecastGroup};
use serde::Serialize;

use super::groups::{Groups, answered};
use super::wait::{self, Live};
use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::finding::Finding;
use crate::output::{Page, Report, Session, View, agree, words};

/// What to apply, as what.
#[derive(Debug, Args)]
#[command(after_help = "\
The forecast says what each device's last evidence means under the change. Nothing
changes before you agree or say --yes; --dry-run shows the forecast alone. With --plan, nothing changes if golden
values, zones or TPM roots moved since that plan.
With --wait, follows what devices really come to until each that was foreseen has answered, and ends with code 1 if
one left the forecast or was not heard in time: the release is applied all the same.
Examples:
  touchstone golden apply edge.toml.dsse.json
  touchstone golden apply edge.toml.dsse.json --plan 42-9f86d081884c7d65 --yes --wait --for 10m")]
pub(crate) struct ApplyArgs {
    /// Signed release, as `touchstone golden sign` writes it
    file: PathBuf,
    /// State that the release gets
    #[arg(long, value_enum, default_value_t = State::Active)]
    state: State,
    /// Until when a deprecated release still passes, RFC 3339
    #[arg(long, value_name = "TIME", required_if_eq("state", "deprecated"))]
    until: Option<UnixTime>,
    /// Why, for the record; needed to withdraw
    #[arg(long, value_name = "TEXT", required_if_eq("state", "withdrawn"))]
    reason: Option<String>,
    /// Take this release, the one in FILE, although its counter does not rise
    #[arg(long, value_name = "PRODUCT@VERSION")]
    allow_rollback: Option<ReleaseId>,
    /// Apply what this plan of `golden plan` showed, and nothing else
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    plan: Option<String>,
    /// Then follow the live results, and say who leaves the forecast
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// How long to wait at most
    #[arg(long = "for", value_name = "TIME", requires = "wait", default_value = "5m")]
    patience: Span,
    /// Apply without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// States of a release.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum State {
    /// Known, passes nothing yet
    Pending,
    /// Passes
    Active,
    /// Passes until a date, flagged
    Deprecated,
    /// Passes no more
    Retired,
    /// Refused at once and for ever
    Withdrawn,
}

impl State {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Retired => "retired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

#[derive(Debug, Serialize)]
struct ForecastView {
    device: String,
    before: String,
    after: String,
    evidence_age_seconds: u64,
    findings: Vec<Finding>,
}

/// A change, forecast or made.
#[derive(Debug, Serialize)]
struct Change {
    applied: bool,
    release: String,
    state: &'static str,
    plan: Option<String>,
    groups: Groups,
    forecast: Vec<ForecastView>,
    /// What devices really came to, if it was followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

/// A line for each device of the groups, by name.
fn lines(groups: &[ForecastGroup]) -> Vec<ForecastView> {
    let lines = groups.iter().flat_map(|group| {
        let findings: Vec<Finding> = group.findings.iter().cloned().map(Finding::from).collect();
        group.devices.iter().map(move |device| ForecastView {
            device: device.device.clone(),
            before: group.before.clone(),
            after: group.after.clone(),
            evidence_age_seconds: device.evidence_age_seconds,
            findings: findings.clone(),
        })
    });
    let mut lines: Vec<ForecastView> = lines.collect();
    lines.sort_by(|one, other| one.device.cmp(&other.device));
    lines
}

impl Change {
    fn foreseen(release: &str, plan: &str, foreseen: &[ForecastGroup], state: State) -> Self {
        Self {
            applied: false,
            release: release.to_owned(),
            state: state.word(),
            plan: (!plan.is_empty()).then(|| plan.to_owned()),
            groups: Groups::of(foreseen),
            forecast: lines(foreseen),
            live: None,
        }
    }
}

impl View for Change {
    fn text(&self, page: &Page) -> String {
        if self.applied {
            let live = self.live.as_ref().map_or_else(String::new, |live| live.text(page));
            return format!("{} is {}\n{live}", words::visible(&self.release), self.state);
        }
        format!("{} becoming {}:\n{}", words::visible(&self.release), self.state, self.groups.text(page))
    }
}

/// Shows the forecast, asks, applies.
pub(super) async fn run(args: ApplyArgs, session: &Session) -> Result<Report> {
    agree::possible(args.yes || args.dry_run.dry_run, "golden apply", "--dry-run")?;
    let mut request = ApplyReleaseRequest {
        envelope: file::read(&args.file)?,
        dry_run: true,
        state: args.state.word().to_owned(),
        until: args.until.map_or(0, |until| until.0),
        allow_rollback: args.allow_rollback.map(|release| release.to_string()).unwrap_or_default(),
        seen: None,
        base: 0,
        grouped: true,
        plan: args.plan.unwrap_or_default(),
        reason: args.reason.unwrap_or_default(),
    };
    let waiting = session.waiting("the broker appraises the fleet");
    let mut client = session.patient_client().await?;
    let answer = client.apply_release(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !request.plan.is_empty() && request.plan != answer.plan {
        let what = "this broker knows no plans, so it cannot tell whether anything moved since";
        return Err(Failure::new(Exit::Internal, what).next("update the broker, or apply without --plan"));
    }
    let foreseen = answered(answer.groups, answer.forecast);
    drop(waiting);
    // Whoever changes the release meanwhile is not overwritten.
    request.seen = answer.seen.clone();
    // What was shown is what is done: not on golden values that moved since.
    let forecast = Change::foreseen(&answer.release, &answer.plan, &foreseen, args.state);
    (request.base, request.plan) = (answer.base, answer.plan);
    if args.dry_run.dry_run {
        return session.report(&forecast);
    }
    if session.is_json() {
        eprint!("{}", forecast.text(&session.plain_page()));
    } else {
        session.report(&forecast)?.print();
    }
    agree::settle(args.yes, &format!("Make {} {}?", forecast.release, forecast.state))?;
    request.dry_run = false;
    let answer = client.apply_release(request).await.map_err(|s| failed(&s))?.into_inner();
    let mut done = Change { applied: true, ..forecast };
    if !args.wait {
        return session.report(&done);
    }
    let live = wait::follow(session, &answer.release, answer.golden, &foreseen, args.patience).await?;
    let exit = if live.is_as_foreseen() { Exit::Done } else { Exit::NeedsYou };
    done.live = Some(live);
    Ok(session.report(&done)?.ending(exit))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proto::v1::Forecast;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn the_forecast_says_who_loses_and_why() {
        let line = Forecast {
            device: "press-7".to_owned(),
            before: "trusted".to_owned(),
            after: "refused".to_owned(),
            evidence_age_seconds: 300,
            reason: "kernel is not in edge@1.5".to_owned(),
            ..Forecast::default()
        };
        let foreseen = answered(Vec::new(), vec![line]);
        let text = Change::foreseen("edge@1.5", "", &foreseen, State::Active).text(&Page::plain(0));
        assert!(text.starts_with("edge@1.5 becoming active:\n"), "{text}");
        assert!(
            text.contains("press-7  loses trust") && text.contains("kernel is not in edge@1.5"),
            "{text}"
        );
    }

    #[test]
    fn a_plan_without_an_id_is_not_the_same_as_no_plan() {
        let parse = |id| Cli::try_parse_from(["touchstone", "golden", "apply", "f", "--plan", id]);
        assert_eq!(parse("").unwrap_err().kind(), clap::error::ErrorKind::InvalidValue);
        assert!(parse("42-9f86d081884c7d65").is_ok());
    }

    #[test]
    fn a_deprecated_release_needs_its_end() {
        let parse = |rest: &[&str]| {
            Cli::try_parse_from(["touchstone", "golden", "apply", "f"].iter().chain(rest).copied())
        };
        let error = parse(&["--state", "deprecated"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::MissingRequiredArgument);
        assert!(parse(&["--state", "deprecated", "--until", "2030-01-01T00:00:00Z"]).is_ok());
        assert!(parse(&["--state", "deprecated", "--until", "soon"]).is_err());
        assert!(parse(&["--state", "withdrawn"]).is_err(), "a withdrawal has a reason");
        assert!(parse(&["--state", "withdrawn", "--reason", "debug shell"]).is_ok());
    }
}
