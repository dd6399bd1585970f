//! `touchstone golden`: golden releases, from learning to applying.

mod apply;
mod draft;
pub(crate) mod envelope;
mod learn;
mod learn_folder;
mod predict;
mod progress;
mod rollout;
mod show;
mod sign;
mod view;

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
    /// Apply a signed release: forecast first, then ask, then change
    Apply(apply::ApplyArgs),
    /// Move the wanted release through devices in waves, and see how far it is
    Rollout(rollout::RolloutArgs),
    /// Make the former release wanted again
    Rollback(rollout::RollbackArgs),
    /// Every release with its state
    List,
}

/// Runs a verb.
pub(crate) async fn run(command: GoldenCommand, session: &Session) -> Result<Report> {
    match command {
        GoldenCommand::Learn(args) => learn::run(args, session).await,
        GoldenCommand::Predict(args) => predict::run(args, session),
        GoldenCommand::Show(args) => show::run(args, session).await,
        GoldenCommand::Sign(args) => sign::run(args, session),
        GoldenCommand::Apply(args) => apply::run(args, session).await,
        GoldenCommand::Rollout(args) => rollout::run(args, session).await,
        GoldenCommand::Rollback(args) => rollout::rollback(args, session).await,
        GoldenCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_releases(ListReleasesRequest {}).await.map_err(|s| failed(&s))?;
            session.report(&view::Releases::from(answer.into_inner().releases))
        }
    }
}
