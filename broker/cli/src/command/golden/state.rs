//! `touchstone golden activate`, `deprecate`, `retire`, `withdraw`: states of releases that the broker has.

use clap::Args;
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use proto::v1::{SetReleaseStateRequest, SetReleaseStateResponse};
use serde::Serialize;

use super::groups::{Outcome, answered, named};
use crate::args::DryRun;
use crate::client::{failed, is_busy};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::{Page, Report, Session, View, agree, words};

/// Which release, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Says first which devices would lose or gain trust, then asks. If somebody else changes the release meanwhile, nothing
is changed and you are told what it is now.
Examples:
  touchstone golden activate edge@1.5
  touchstone golden retire edge@1.3
  touchstone golden deprecate edge@1.4 --until 2030-01-01T00:00:00Z
  touchstone golden withdraw edge@1.4 --reason \"boots with a debug shell\"")]
pub(crate) struct StateArgs {
    /// Release
    #[arg(value_name = "PRODUCT@VERSION")]
    release: ReleaseId,
    /// Why, for the record; needed to withdraw
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Change without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// A deprecation ends.
#[derive(Debug, Args)]
pub(crate) struct DeprecateArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Until when it still passes, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: UnixTime,
}

#[derive(Debug, Serialize)]
struct Change {
    applied: bool,
    release: String,
    before: String,
    state: &'static str,
    loses: Vec<String>,
    gains: Vec<String>,
    unknown: Vec<String>,
    running: Vec<String>,
}

impl Change {
    fn new(request: &SetReleaseStateRequest, state: &'static str, answer: SetReleaseStateResponse) -> Self {
        let groups = answered(answer.groups, answer.forecast);
        Self {
            applied: !request.dry_run,
            release: format!("{}@{}", request.product, request.version),
            state,
            loses: named(&groups, Outcome::Loses),
            gains: named(&groups, Outcome::Gains),
            unknown: named(&groups, Outcome::Unknown),
            before: answer.before.map(|release| release.state).unwrap_or_default(),
            running: answer.running,
        }
    }
}

impl View for Change {
    fn text(&self, _page: &Page) -> String {
        let release = words::visible(&self.release);
        if self.applied {
            return format!("{release} is {}\n", self.state);
        }
        let mut text = format!("{release}, {} now, becoming {}:\n", words::visible(&self.before), self.state);
        let lines = [
            ("would lose trust", &self.loses),
            ("would gain it", &self.gains),
            ("cannot be foreseen", &self.unknown),
            ("last proved to run it and lose their certificates at once where it is enforced", &self.running),
        ];
        // Without a state before, nothing was forecast.
        if !self.before.is_empty() && lines.iter().all(|(_, devices)| devices.is_empty()) {
            text.push_str("No device would gain or lose trust.\n");
        }
        for (what, devices) in lines.into_iter().filter(|(_, devices)| !devices.is_empty()) {
            let names = words::visible(&devices.join(", ")).to_string();
            text.push_str(&format!("{} {what}: {names}\n", words::count(devices.len(), "device")));
        }
        text
    }
}

/// Changes the state to one without an end.
pub(super) async fn run(args: StateArgs, state: &'static str, session: &Session) -> Result<Report> {
    set(args, state, 0, session).await
}

/// Deprecates.
pub(super) async fn deprecate(args: DeprecateArgs, session: &Session) -> Result<Report> {
    set(args.state, "deprecated", args.until.0, session).await
}

async fn set(args: StateArgs, state: &'static str, until: u64, session: &Session) -> Result<Report> {
    if state == "withdrawn" && args.reason.is_empty() {
        return Err(Failure::new(Exit::Usage, "say why the release is withdrawn, with --reason TEXT"));
    }
    agree::possible(args.yes || args.dry_run.dry_run, "this command", "--dry-run")?;
    let mut request = SetReleaseStateRequest {
        product: args.release.product.to_string(),
        version: args.release.version.to_string(),
        state: state.to_owned(),
        until,
        reason: args.reason,
        dry_run: true,
        seen: None,
        grouped: true,
    };
    let mut client = session.patient_client().await?;
    let answer = match client.set_release_state(request.clone()).await {
        // A forecast that somebody else asked for must not keep a release in force that has to go.
        Err(status) if state == "withdrawn" && args.yes && !args.dry_run.dry_run && is_busy(&status) => {
            eprintln!("the broker is busy with another forecast; withdrawing without one");
            SetReleaseStateResponse::default()
        }
        answer => answer.map_err(|s| failed(&s))?.into_inner(),
    };
    let seen = answer.seen.clone();
    let change = Change::new(&request, state, answer);
    if args.dry_run.dry_run {
        return session.report(&change);
    }
    eprint!("{}", change.text(&session.plain_page()));
    agree::settle(args.yes, &format!("Make {} {}?", change.release, change.state))?;
    (request.dry_run, request.seen) = (false, seen);
    let answer = client.set_release_state(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    // What it does was forecast before it was done.
    session.report(&Change { applied: true, running: answer.running, ..change })
}

#[cfg(test)]
mod tests {
    use proto::v1::Release;

    use super::*;

    #[test]
    fn a_forecast_of_nothing_says_so_and_no_forecast_says_nothing() {
        let request = SetReleaseStateRequest { dry_run: true, ..SetReleaseStateRequest::default() };
        let text = |before| {
            let answer = SetReleaseStateResponse { before, ..SetReleaseStateResponse::default() };
            Change::new(&request, "withdrawn", answer).text(&Page::plain(0))
        };
        let active = Release { state: "active".to_owned(), ..Release::default() };
        assert!(text(Some(active)).ends_with("No device would gain or lose trust.\n"));
        assert!(!text(None).contains("No device"), "the broker was busy");
    }
}
