//! `touchstone golden apply`: forecast, ask, change.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use proto::v1::{ApplyReleaseRequest, ApplyReleaseResponse, Forecast};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::finding::Finding;
use crate::output::table::Table;
use crate::output::{Page, Report, Session, View, words};

/// Reasons shown for each device in the forecast; `-o json` has them all.
const SHOWN_REASONS: usize = 3;

/// What to apply, as what.
#[derive(Debug, Args)]
#[command(after_help = "\
The forecast says what each device's last evidence means under the change. Nothing
changes before you agree or say --yes; --dry-run shows the forecast alone.")]
pub(crate) struct ApplyArgs {
    /// Signed release, as `touchstone golden sign` writes it
    file: PathBuf,
    /// State that the release gets
    #[arg(long, value_enum, default_value_t = State::Active)]
    state: State,
    /// Until when a deprecated release still passes, RFC 3339
    #[arg(long, value_name = "TIME", required_if_eq("state", "deprecated"))]
    until: Option<UnixTime>,
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
enum State {
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
    const fn word(self) -> &'static str {
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

impl ForecastView {
    fn why(&self) -> String {
        let mut reasons: Vec<_> = self.findings.iter().take(SHOWN_REASONS).map(Finding::sentence).collect();
        let more = self.findings.len().saturating_sub(SHOWN_REASONS);
        if more > 0 {
            reasons.push(format!("and {more} more"));
        }
        words::or_dash(&reasons.join("; "))
    }
}

impl Change {
    fn new(answer: ApplyReleaseResponse, state: State, applied: bool) -> Self {
        let forecast = answer.forecast.into_iter().map(Into::into).collect();
        Self { applied, release: answer.release, state: state.word(), forecast }
    }

    fn count(&self, wanted: impl Fn(&ForecastView) -> bool) -> usize {
        self.forecast.iter().filter(|one| wanted(one)).count()
    }

    fn summary(&self) -> String {
        let loses = self.count(|one| one.before == "trusted" && one.after == "refused");
        let gains = self.count(|one| one.before != "trusted" && one.after == "trusted");
        let unknown = self.count(|one| one.after == "unknown");
        let devices = words::count(self.forecast.len(), "device");
        format!(
            "Of {devices}, {loses} would lose trust, {gains} would gain it, {unknown} cannot be foreseen."
        )
    }
}

impl View for Change {
    fn text(&self, page: &Page) -> String {
        if self.applied {
            return format!("{} is {}\n", words::visible(&self.release), self.state);
        }
        let mut text = format!("{} becoming {}:\n", words::visible(&self.release), self.state);
        let mut table = Table::new(["DEVICE", "NOW", "THEN", "EVIDENCE", "WHY"]);
        for one in &self.forecast {
            table.row([
                one.device.clone(),
                one.before.clone(),
                one.after.clone(),
                format!("{} old", words::span(one.evidence_age_seconds)),
                one.why(),
            ]);
        }
        text.push_str(&table.text("no device has evidence that this release is about", page.colour));
        let _ = writeln!(text, "{}", self.summary());
        text
    }
}

/// Shows the forecast, asks, applies.
pub(super) async fn run(args: ApplyArgs, session: &Session) -> Result<Report> {
    let may_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !args.yes && !args.dry_run.dry_run && !may_ask {
        return Err(Failure::new(
            Exit::Usage,
            "golden apply asks before it changes anything, and this is no terminal",
        )
        .next("say --yes to apply without asking, or --dry-run to see the forecast"));
    }
    let mut request = ApplyReleaseRequest {
        envelope: file::read(&args.file)?,
        dry_run: true,
        state: args.state.word().to_owned(),
        until: args.until.map_or(0, |until| until.0),
        allow_rollback: args.allow_rollback.map(|release| release.to_string()).unwrap_or_default(),
        seen: None,
    };
    let mut client = session.client().await?;
    let answer = client.apply_release(request.clone()).await.map_err(|s| failed(&s))?;
    let answer = answer.into_inner();
    // Whoever changes the release meanwhile is not overwritten.
    request.seen = answer.seen.clone();
    let forecast = Change::new(answer, args.state, false);
    if args.dry_run.dry_run {
        return session.report(&forecast);
    }
    if session.is_json() {
        eprint!("{}", forecast.text(&session.plain_page()));
    } else {
        session.report(&forecast)?.print();
    }
    if !args.yes && !agreed(&forecast) {
        return Err(Failure::new(Exit::Negative, "nothing was applied"));
    }
    request.dry_run = false;
    let answer = client.apply_release(request).await.map_err(|s| failed(&s))?;
    let mut done = Change::new(answer.into_inner(), args.state, true);
    if done.forecast.is_empty() {
        done.forecast = forecast.forecast;
    }
    session.report(&done)
}

/// Asks at the terminal; anything but yes is no.
fn agreed(forecast: &Change) -> bool {
    eprint!("Make {} {}? [y/N] ", words::visible(&forecast.release), forecast.state);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn change() -> Change {
        let one = |device: &str, before: &str, after: &str| Forecast {
            device: device.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            evidence_age_seconds: 300,
            findings: vec![proto::v1::Finding {
                pcr: Some(4),
                message: "kernel is not in edge@1.5".to_owned(),
                ..proto::v1::Finding::default()
            }],
        };
        let forecast = vec![
            one("press-7", "trusted", "refused"),
            one("press-8", "refused", "trusted"),
            one("press-9", "trusted", "unknown"),
        ];
        Change::new(
            ApplyReleaseResponse { release: "edge@1.5".to_owned(), forecast, ..Default::default() },
            State::Active,
            false,
        )
    }

    #[test]
    fn the_forecast_says_who_loses_and_why() {
        let text = change().text(&Page::plain(0));
        assert!(
            text.contains("press-7  trusted  refused  5 min old  PCR 4: kernel is not in edge@1.5"),
            "{text}"
        );
        assert!(
            text.ends_with("Of 3 devices, 1 would lose trust, 1 would gain it, 1 cannot be foreseen.\n"),
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
    }
}
