//! `touchstone golden`: golden releases, from learning to applying.

mod apply;
mod draft;
pub(crate) mod envelope;
mod groups;
mod key;
mod learn;
mod learn_folder;
mod outside;
mod plan;
mod predict;
mod progress;
mod rollout;
mod show;
mod sign;
mod signed;
mod state;
mod view;
mod wait;
mod want;

use clap::Subcommand;
use proto::v1::ListReleasesRequest;

use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Session};

/// Verbs of `golden`.
#[derive(Debug, Subcommand)]
pub(crate) enum GoldenCommand {
    /// Write a release from what attested devices run now, to be reviewed and signed
    Learn(learn::LearnArgs),
    /// Write a release from built artefacts before any device boots them; asks no broker
    Predict(predict::PredictArgs),
    /// A release in canonical form, from a file or from the broker
    Show(show::ShowArgs),
    /// Sign a reviewed manifest with a release key; asks no broker
    Sign(sign::SignArgs),
    /// Write the bytes to be signed by a release key that is kept elsewhere; asks no broker
    Payload(outside::PayloadArgs),
    /// Add a signature that was made elsewhere; asks no broker
    Attach(outside::AttachArgs),
    /// Release keys: who may sign, and how many must
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Say what a change would do to every device; changes nothing
    Plan(plan::PlanArgs),
    /// Apply a signed release: forecast first, then ask, then change
    Apply(apply::ApplyArgs),
    /// Let a known release keep trust
    Activate(state::StateArgs),
    /// Let a release keep trust until a date, flagged
    Deprecate(state::DeprecateArgs),
    /// Let a deprecated release keep trust no longer
    Retire(state::StateArgs),
    /// Deny a release at once and for ever: devices that run it lose their certificates
    Withdraw(state::StateArgs),
    /// Tell devices which accepted release to install
    Want(want::WantArgs),
    /// Move the wanted release through devices in waves, and see how far it is
    Rollout(rollout::RolloutArgs),
    /// Make the former release wanted again
    Rollback(rollout::RollbackArgs),
    /// Every release: its state, whether it is wanted, and how many devices run it
    #[command(after_help = "Example: touchstone golden list")]
    List,
}

/// Runs a verb.
pub(crate) async fn run(command: GoldenCommand, session: &Session) -> Result<Report> {
    match command {
        GoldenCommand::Learn(args) => learn::run(args, session).await,
        GoldenCommand::Predict(args) => predict::run(args, session),
        GoldenCommand::Show(args) => show::run(args, session).await,
        GoldenCommand::Sign(args) => sign::run(args, session),
        GoldenCommand::Payload(args) => outside::payload(args, session),
        GoldenCommand::Attach(args) => outside::attach(args, session),
        GoldenCommand::Key(command) => key::run(command, session).await,
        GoldenCommand::Plan(args) => plan::run(args, session).await,
        GoldenCommand::Apply(args) => apply::run(args, session).await,
        GoldenCommand::Activate(args) => state::run(args, "active", session).await,
        GoldenCommand::Deprecate(args) => state::deprecate(args, session).await,
        GoldenCommand::Retire(args) => state::run(args, "retired", session).await,
        GoldenCommand::Withdraw(args) => state::run(args, "withdrawn", session).await,
        GoldenCommand::Want(args) => want::run(args, session).await,
        GoldenCommand::Rollout(args) => rollout::run(args, session).await,
        GoldenCommand::Rollback(args) => rollout::rollback(args, session).await,
        GoldenCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_releases(ListReleasesRequest {}).await.map_err(|s| failed(&s))?;
            session.report(&view::Releases::from(answer.into_inner().releases))
        }
    }
}
