//! `touchstone golden key rotate`: puts a new key in the place of another.

use std::path::PathBuf;

use clap::Args;
use proto::v1;
use serde::Serialize;

use super::super::groups::{Groups, answered};
use super::super::outside::public_key;
use super::lost::Lost;
use super::view::KeyView;
use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Page, Report, Session, View, agree, words};

/// Which key, by which.
#[derive(Debug, Args)]
#[command(after_help = "\
The new key has the same name and products. What the former signed counts on; with --compromised, because others may
have it, releases count for nothing for which too few other keys vouch. You are shown which before you are asked; sign
them again with the new key.
  touchstone golden key rotate build --public new.pub
  touchstone golden key rotate build --public new.pub --compromised --reason \"laptop was stolen\"")]
pub(crate) struct RotateArgs {
    /// Name of the key, or its digest
    #[arg(value_name = "NAME|DIGEST")]
    key: String,
    /// Public key that takes its place, PEM
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    /// Others may have the former key
    #[arg(long)]
    compromised: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Rotate without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Rotation {
    dry_run: bool,
    key: KeyView,
    /// The key that it replaces.
    before: KeyView,
    compromised: bool,
    #[serde(flatten)]
    lost: Lost,
}

impl Rotation {
    fn new(request: &v1::RotateReleaseKeyRequest, answer: v1::RotateReleaseKeyResponse) -> Self {
        Self {
            dry_run: request.dry_run,
            key: answer.key.unwrap_or_default().into(),
            before: answer.before.unwrap_or_default().into(),
            compromised: request.compromised,
            lost: Lost {
                void: answer.void,
                groups: Groups::of(&answered(answer.groups, Vec::new())),
                running: answer.running,
            },
        }
    }
}

impl View for Rotation {
    fn text(&self, page: &Page) -> String {
        let verb = if self.dry_run { "would be" } else { "is" };
        let how = if self.compromised { "counts for nothing" } else { "signs nothing new" };
        let (name, key, before) = (words::visible(&self.key.name), self.key.short(), self.before.short());
        format!("release key {name} {verb} {key} in place of {before}, which {how}\n{}", self.lost.text(page))
    }
}

/// Shows what is lost, asks if that is anything, rotates.
pub(super) async fn run(args: RotateArgs, session: &Session) -> Result<Report> {
    let settled = args.yes || args.dry_run.dry_run || !args.compromised;
    agree::possible(settled, "golden key rotate --compromised", "--dry-run")?;
    let (public_key, _) = public_key(&args.public)?;
    let mut request = v1::RotateReleaseKeyRequest {
        key: args.key,
        public_key,
        dry_run: true,
        seen: None,
        compromised: args.compromised,
        reason: args.reason,
    };
    let mut client = session.client().await?;
    let answer = client.rotate_release_key(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    // Whoever is faster is not overwritten.
    let seen = answer.seen.clone();
    let rotation = Rotation::new(&request, answer);
    if args.dry_run.dry_run {
        return session.report(&rotation);
    }
    if args.compromised {
        eprint!("{}", rotation.text(&session.plain_page()));
        agree::settle(args.yes, &format!("Put the new key in the place of {}?", rotation.key.name))?;
    }
    (request.dry_run, request.seen) = (false, seen);
    let answer = client.rotate_release_key(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    // What it does was forecast before it was done.
    let mut done = Rotation::new(&request, answer);
    done.lost.groups = rotation.lost.groups;
    session.report(&done)
}
