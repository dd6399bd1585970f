//! `touchstone golden`: golden releases, from learning to applying.

mod apply;
mod learn;
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
    /// Apply a signed release: forecast first, then ask, then change
    Apply(apply::ApplyArgs),
    /// Every release with its state
    List,
}

/// Runs a verb.
pub(crate) async fn run(command: GoldenCommand, session: &Session) -> Result<Report> {
    match command {
        GoldenCommand::Learn(args) => learn::run(args, session).await,
        GoldenCommand::Apply(args) => apply::run(args, session).await,
        GoldenCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_releases(ListReleasesRequest {}).await.map_err(|s| failed(&s))?;
            session.report(&view::Releases::from(answer.into_inner().releases))
        }
    }
}
