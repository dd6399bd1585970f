//! `touchstone golden plan`: what a change of golden values would do, before anybody does it.

use std::path::{Path, PathBuf};

use clap::Args;
use policy::reference::release::ReleaseId;
use policy::time::UnixTime;
use proto::v1::{PlanReleaseRequest, PlanReleaseResponse};
use serde::Serialize;

use super::apply::State;
use super::groups::{Groups, Outcome, answered};
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::moment::Moment;
use crate::output::{Page, Report, Session, View, words};

/// What to plan.
#[derive(Debug, Args)]
#[command(after_help = "\
Appraises the last evidence of every device under the change. What cannot be foreseen counts as a loss unless
--unknown-is-ok. With --fail-on-loss, more losses than that end with code 3.
A manifest can be planned before anybody signs it; the plan says so, and only a signed one can be applied.
  touchstone golden plan edge-1.5.toml.dsse.json --fail-on-loss 0
  touchstone golden plan edge-1.5.toml
  touchstone golden plan edge@1.4 --state retired
  touchstone golden plan edge@1.4 --at 2030-01-01T00:00:00Z")]
pub(crate) struct PlanArgs {
    /// Signed release, manifest, or PRODUCT@VERSION of a release that the broker has
    #[arg(value_name = "FILE|PRODUCT@VERSION")]
    what: PathBuf,
    /// State that the release would get [default: active; as it is for a known release]
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Until when a deprecated release would still pass, RFC 3339
    #[arg(long, value_name = "TIME", required_if_eq("state", "deprecated"))]
    until: Option<UnixTime>,
    /// What it would be at this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<UnixTime>,
    /// Plan for this release, the one in FILE, although its counter does not rise
    #[arg(long, value_name = "PRODUCT@VERSION")]
    allow_rollback: Option<ReleaseId>,
    /// End with code 3 if more devices than this would lose trust
    #[arg(long, value_name = "N")]
    fail_on_loss: Option<usize>,
    /// Do not count devices as lost whose evidence says nothing
    #[arg(long, requires = "fail_on_loss")]
    unknown_is_ok: bool,
}

#[derive(Debug, Serialize)]
struct Plan {
    release: String,
    signed: bool,
    plan: Option<String>,
    state: String,
    at: Option<Moment>,
    base: u64,
    loses: usize,
    gains: usize,
    unknown: usize,
    groups: Groups,
}

impl Plan {
    fn new(answer: PlanReleaseResponse, at: Option<UnixTime>) -> Self {
        let groups = Groups::of(&answered(answer.groups, answer.forecast));
        Self {
            signed: !answer.unsigned,
            plan: (!answer.plan.is_empty()).then_some(answer.plan),
            release: answer.release,
            state: answer.state,
            at: at.map(|at| Moment(at.0)),
            base: answer.base,
            loses: groups.count(Outcome::Loses),
            gains: groups.count(Outcome::Gains),
            unknown: groups.count(Outcome::Unknown),
            groups,
        }
    }
}

impl View for Plan {
    fn text(&self, page: &Page) -> String {
        let at = self.at.map_or_else(String::new, |at| format!(" on {at}"));
        let mut text = format!(
            "{} {}{at}:\n{}",
            words::visible(&self.release),
            words::visible(&self.state),
            self.groups.text(page)
        );
        if !self.signed {
            text.push_str(
                "Nobody has signed this manifest: it cannot be applied before `touchstone golden sign`.\n",
            );
        }
        if let Some(plan) = &self.plan {
            let plan = words::visible(plan);
            text.push_str(&format!(
                "Plan {plan}: `golden apply --plan {plan}` refuses if anything moved since.\n"
            ));
        }
        text
    }
}

/// A file where there is one, else a release by its name.
fn subject(what: &Path) -> Result<PlanReleaseRequest> {
    let named = what.to_str().and_then(|text| text.parse::<ReleaseId>().ok());
    match named.filter(|_| !what.exists()) {
        Some(release) => Ok(PlanReleaseRequest {
            product: release.product.to_string(),
            version: release.version.to_string(),
            ..PlanReleaseRequest::default()
        }),
        None => {
            let content = file::read(what)?;
            // An envelope is JSON, an object; a manifest is TOML, which never begins with a brace.
            let signed = content.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
            let (envelope, manifest) = if signed { (content, Vec::new()) } else { (Vec::new(), content) };
            Ok(PlanReleaseRequest { envelope, manifest, ..PlanReleaseRequest::default() })
        }
    }
}

/// Plans.
pub(super) async fn run(args: PlanArgs, session: &Session) -> Result<Report> {
    let request = PlanReleaseRequest {
        state: args.state.map(|state| state.word().to_owned()).unwrap_or_default(),
        until: args.until.map_or(0, |until| until.0),
        at: args.at.map_or(0, |at| at.0),
        allow_rollback: args.allow_rollback.map(|release| release.to_string()).unwrap_or_default(),
        grouped: true,
        ..subject(&args.what)?
    };
    if request.envelope.is_empty() && request.manifest.is_empty() && request.product.is_empty() {
        return Err(Failure::unusable(format!("{}: empty, no release", args.what.display())));
    }
    let waiting = session.waiting("the broker appraises the fleet");
    let answer = session.patient_client().await?.plan_release(request).await.map_err(|s| failed(&s))?;
    drop(waiting);
    let plan = Plan::new(answer.into_inner(), args.at);
    let lost = if args.unknown_is_ok { plan.loses } else { plan.loses.saturating_add(plan.unknown) };
    let report = session.report(&plan)?;
    match args.fail_on_loss {
        Some(most) if lost > most => {
            let why = format!("{lost} would be lost or cannot be foreseen, at most {most} may be");
            Ok(report.aside(why).ending(Exit::Negative))
        }
        _ => Ok(report),
    }
}
