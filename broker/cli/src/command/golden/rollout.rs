//! `touchstone golden rollout`: the wanted release in waves, and how far it is.

use std::time::Duration;

use clap::{Args, Subcommand};
use policy::id::ProductName;
use policy::reference::release::ReleaseId;
use policy::rollout::Wave;
use policy::time::UnixTime;
use proto::v1::{
    HaltRolloutRequest, ListRolloutsRequest, ResumeRolloutRequest, RollbackRequest, StartRolloutRequest,
};

use super::progress::{RolloutView, Rollouts};
use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::{Report, Session, View, agree};

/// How often `--watch` asks.
const LOOK: Duration = Duration::from_secs(2);

/// Starts a rollout, or does something to one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Devices are told wave by wave; each device's own updater installs, and its next quote
proves it. As many are updated at a time as the budgets have, so even if all of those
fail they are kept; a budget that is used up halts the rollout. Two devices that name
the same thing, or each other, in their inventory value depends_on are never updated
at once, of whatever product they are. Shows first who is in which wave, who cannot be
told, and who would lose trust if the former release were retired, and asks.

Example:
  touchstone golden rollout edge@1.5 --wave zone=staging --wave label=line=7 \\
      --wave 10% --wave 100% --budget-trust 3 --hold 30m
  touchstone golden rollout edge@1.5 --wave 10% --wave 100% --plan
  touchstone golden rollout status --watch     ends with 1 if one is halted")]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    start: StartArgs,
}

/// What to start.
#[derive(Debug, Args)]
struct StartArgs {
    /// The release that becomes wanted, PRODUCT@VERSION; it must be active
    #[arg(required = true)]
    release: Option<ReleaseId>,
    /// A wave: zone=NAME, label=NAME=VALUE or a share; repeat it, and end with 100%
    #[arg(long = "wave", value_name = "WAVE", required = true)]
    waves: Vec<Wave>,
    /// Devices that may lose trust or not come back: as many are updated at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    budget_trust: u32,
    /// Devices whose own health command may begin to fail
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    budget_health: u32,
    /// Time between two waves
    #[arg(long, value_name = "TIME")]
    hold: Option<Span>,
    /// Time that a device has to prove the release before it counts as lost
    #[arg(long, value_name = "TIME", default_value = "1h")]
    deadline: Span,
    /// Show the forecast and start nothing
    #[arg(long)]
    plan: bool,
    /// Start without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// What to do to a rollout.
#[derive(Debug, Subcommand)]
enum Verb {
    /// How far rollouts are, wave by wave, and which devices are in the way
    #[command(after_help = "Example: touchstone golden rollout status edge --watch")]
    Status {
        /// Only of this product
        product: Option<ProductName>,
        /// Go on showing it until all have ended or halted
        #[arg(long)]
        watch: bool,
    },
    /// Tell nobody any more; devices that were told go on
    #[command(after_help = "Example: touchstone golden rollout halt edge --reason 'line 3 stands'")]
    Halt {
        /// Whose rollout
        product: ProductName,
        /// Why, for the audit chain
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Let a halted rollout go on, with larger budgets where they are used up
    #[command(after_help = "Example: touchstone golden rollout resume edge --budget-trust 5")]
    Resume {
        /// Whose rollout
        product: ProductName,
        /// New budget for trust
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        budget_trust: Option<u32>,
        /// New budget for health
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        budget_health: Option<u32>,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

/// What to go back from.
#[derive(Debug, Args)]
#[command(after_help = "\
The release that was wanted before is wanted again. The new one stays accepted until no
device proves it any more, and becomes what --then says only then: nobody loses trust.

Example:
  touchstone golden rollback edge --then retired")]
pub(crate) struct RollbackArgs {
    /// Whose last rollout
    product: ProductName,
    /// What becomes of the new release once the last device has left it
    #[arg(long, value_name = "STATE", default_value = "active", value_parser = ["active", "deprecated", "retired"])]
    then: String,
    /// Until when a deprecated release still passes, RFC 3339
    #[arg(long, value_name = "TIME", required_if_eq("then", "deprecated"))]
    until: Option<UnixTime>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Runs a verb of `rollout`.
pub(super) async fn run(args: RolloutArgs, session: &Session) -> Result<Report> {
    match args.verb {
        None => start(args.start, session).await,
        Some(Verb::Status { product, watch }) => status(product, watch, session).await,
        Some(Verb::Halt { product, reason, dry_run: DryRun { dry_run } }) => {
            let request = HaltRolloutRequest { product: product.to_string(), reason, dry_run };
            let answer = session.client().await?.halt_rollout(request).await.map_err(|s| failed(&s))?;
            session.report(&RolloutView::of(answer.into_inner().rollout, dry_run)?)
        }
        Some(Verb::Resume { product, budget_trust, budget_health, dry_run }) => {
            resume(&product, (budget_trust, budget_health), dry_run.dry_run, session).await
        }
    }
}

/// Resumes what was looked at: if it halted again for another reason meanwhile, that is told instead.
async fn resume(
    product: &ProductName,
    (trust, health): (Option<u32>, Option<u32>),
    dry_run: bool,
    session: &Session,
) -> Result<Report> {
    let mut client = session.client().await?;
    let looked = ListRolloutsRequest { product: product.to_string() };
    let found = client.list_rollouts(looked).await.map_err(|s| failed(&s))?.into_inner();
    let request = ResumeRolloutRequest {
        product: product.to_string(),
        trust_budget: trust.unwrap_or_default(),
        health_budget: health.unwrap_or_default(),
        dry_run,
        seen: Rollouts::from(found.rollouts).first().map(RolloutView::seen),
    };
    let answer = client.resume_rollout(request).await.map_err(|s| failed(&s))?;
    session.report(&RolloutView::of(answer.into_inner().rollout, dry_run)?)
}

async fn start(args: StartArgs, session: &Session) -> Result<Report> {
    let release = args.release.ok_or_else(|| Failure::new(Exit::Usage, "name the release to roll out"))?;
    let only_plan = args.plan || args.dry_run.dry_run;
    agree::possible(args.yes || only_plan, "golden rollout", "--plan")?;
    let request = StartRolloutRequest {
        product: release.product.to_string(),
        version: release.version.to_string(),
        waves: args.waves.iter().map(ToString::to_string).collect(),
        trust_budget: args.budget_trust,
        health_budget: args.budget_health,
        hold_seconds: args.hold.map_or(0, |hold| hold.0.into()),
        deadline_seconds: args.deadline.0.into(),
        dry_run: true,
    };
    let mut client = session.client().await?;
    let answer = client.start_rollout(request.clone()).await.map_err(|s| failed(&s))?;
    let forecast = RolloutView::forecast(answer.into_inner().rollout)?;
    if only_plan {
        return session.report(&forecast);
    }
    eprint!("{}", forecast.text(&session.plain_page()));
    agree::settle(args.yes, &format!("Roll out {release}?"))?;
    let request = StartRolloutRequest { dry_run: false, ..request };
    let answer = client.start_rollout(request).await.map_err(|s| failed(&s))?;
    session.report(&RolloutView::of(answer.into_inner().rollout, false)?)
}

async fn status(product: Option<ProductName>, watch: bool, session: &Session) -> Result<Report> {
    let mut client = session.client().await?;
    let product = product.map(|product| product.to_string()).unwrap_or_default();
    let mut shown = None;
    loop {
        let request = ListRolloutsRequest { product: product.clone() };
        let answer = client.list_rollouts(request).await.map_err(|s| failed(&s))?.into_inner();
        let rollouts = Rollouts::from(answer.rollouts);
        let report = session.report(&rollouts)?;
        if !watch {
            return Ok(report);
        }
        if !rollouts.go_on() {
            return Ok(if rollouts.need_you() { report.ending(Exit::NeedsYou) } else { report });
        }
        // Said again only when something moved.
        if shown.as_ref() != Some(&rollouts) {
            report.print();
            shown = Some(rollouts);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs `rollback`.
pub(super) async fn rollback(args: RollbackArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let request = RollbackRequest {
        product: args.product.to_string(),
        then: args.then,
        until: args.until.map_or(0, |until| until.0),
        dry_run,
    };
    let answer = session.client().await?.rollback(request).await.map_err(|s| failed(&s))?;
    session.report(&RolloutView::of(answer.into_inner().rollout, dry_run)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Cli;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let words = "touchstone golden ".split_whitespace().chain(line.split_whitespace());
        Cli::try_parse_from(words)
    }

    #[test]
    fn a_rollout_is_started_or_looked_at() {
        for good in [
            "rollout edge@1.5 --wave zone=staging --wave label=line=7 --wave 10% --wave 100% --hold 30m",
            "rollout edge@1.5 --wave 100% --plan",
            "rollout edge@1.5 --wave 100% --yes",
            "rollout status",
            "rollout status edge --watch",
            "rollout halt edge --reason smoke",
            "rollout resume edge --budget-trust 3",
            "rollback edge --then deprecated --until 2030-01-01T00:00:00Z",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good).err());
        }
        for bad in [
            "rollout",
            "rollout edge@1.5",
            "rollout edge --wave 100%",
            "rollout edge@1.5 --wave most",
            "rollout edge@1.5 --wave 100% --budget-trust 0",
            "rollout halt edge",
            "rollback edge --then withdrawn",
            "rollback edge --then deprecated",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
