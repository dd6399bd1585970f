//! `touchstone golden apply`: forecast, ask, change.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use proto::v1::{ApplyReleaseRequest, ApplyReleaseResponse, Forecast};
use serde::Serialize;

use super::groups::Groups;
use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::file;
use crate::output::finding::Finding;
use crate::output::{Page, Report, Session, View, agree, words};

/// What to apply, as what.
#[derive(Debug, Args)]
#[command(after_help = "\
The forecast says what each device's last evidence means under the change. Nothing
changes before you agree or say --yes; --dry-run shows the forecast alone.
Example:
  touchstone golden apply edge.toml.dsse.json")]
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
    groups: Groups,
    forecast: Vec<ForecastView>,
}

impl From<Forecast> for ForecastView {
    fn from(forecast: Forecast) -> Self {
        Self {
            device: forecast.device,
            before: forecast.before,
            after: forecast.after,
            evidence_age_seconds: forecast.evidence_age_seconds,
            findings: forecast.findings.into_iter().map(Finding::from).collect(),
        }
    }
}

impl Change {
    fn new(answer: ApplyReleaseResponse, state: State, applied: bool) -> Self {
        let groups = Groups::of(&answer.forecast);
        let forecast = answer.forecast.into_iter().map(Into::into).collect();
        Self { applied, release: answer.release, state: state.word(), groups, forecast }
    }
}

impl View for Change {
    fn text(&self, page: &Page) -> String {
        if self.applied {
            return format!("{} is {}\n", words::visible(&self.release), self.state);
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
        reason: args.reason.unwrap_or_default(),
    };
    let mut client = session.client().await?;
    let answer = client.apply_release(request.clone()).await.map_err(|s| failed(&s))?;
    let answer = answer.into_inner();
    // Whoever changes the release meanwhile is not overwritten.
    request.seen = answer.seen.clone();
    // What was shown is what is done: not on golden values that moved since.
    request.base = answer.base;
    let forecast = Change::new(answer, args.state, false);
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
    let answer = client.apply_release(request).await.map_err(|s| failed(&s))?;
    let mut done = Change::new(answer.into_inner(), args.state, true);
    if done.forecast.is_empty() {
        (done.forecast, done.groups) = (forecast.forecast, forecast.groups);
    }
    session.report(&done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

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
        let answer = ApplyReleaseResponse {
            release: "edge@1.5".to_owned(),
            forecast: vec![line],
            ..Default::default()
        };
        let text = Change::new(answer, State::Active, false).text(&Page::plain(0));
        assert!(text.starts_with("edge@1.5 becoming active:\n"), "{text}");
        assert!(
            text.contains("press-7  loses trust") && text.contains("kernel is not in edge@1.5"),
            "{text}"
        );
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
