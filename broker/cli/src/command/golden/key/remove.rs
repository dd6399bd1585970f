//! `touchstone golden key remove`: says what is lost with a key, asks, removes it.

use std::fmt::Write as _;

use clap::Args;
use proto::v1;
use serde::Serialize;

use super::super::groups::{Groups, answered};
use super::lost::Lost;
use super::view::{KeyView, ThresholdView};
use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Page, Report, Session, View, agree, words};

/// Which key, and why.
#[derive(Debug, Args)]
#[command(after_help = "\
A removed key signs nothing new; what it signed counts on. With --compromised, releases count for nothing for which
too few other keys vouch: devices that run them lose their certificates, and are told to prove themselves at once.
You are shown which before you are asked.
  touchstone golden key remove build
  touchstone golden key remove build --compromised --reason \"laptop was stolen\"")]
pub(crate) struct RemoveArgs {
    /// Name of the key, or its digest
    #[arg(value_name = "NAME|DIGEST")]
    key: String,
    /// Others may have the key
    #[arg(long)]
    compromised: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Remove without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Removal {
    dry_run: bool,
    compromised: bool,
    key: KeyView,
    #[serde(flatten)]
    lost: Lost,
    short: Vec<ThresholdView>,
}

impl Removal {
    fn new(request: &v1::RemoveReleaseKeyRequest, answer: v1::RemoveReleaseKeyResponse) -> Self {
        Self {
            dry_run: request.dry_run,
            compromised: request.compromised,
            key: answer.before.unwrap_or_default().into(),
            lost: Lost {
                void: answer.void,
                groups: Groups::of(&answered(answer.groups, answer.forecast)),
                running: answer.running,
            },
            short: answer.short.into_iter().map(Into::into).collect(),
        }
    }
}

impl View for Removal {
    fn text(&self, page: &Page) -> String {
        let (name, short) = (words::visible(&self.key.name), self.key.short());
        let how = if self.compromised { " as compromised" } else { "" };
        let mut text = match self.dry_run {
            true => format!("release key {name} ({short}) would be removed{how}\n"),
            false => format!("release key {name} ({short}) is removed{how}\n"),
        };
        text.push_str(&self.lost.text(page));
        for need in &self.short {
            let _ = writeln!(
                text,
                "{} has {} of the {} keys that a release of it needs: add another with `touchstone golden key add`",
                words::visible(&need.product),
                need.available,
                need.needed
            );
        }
        text
    }
}

/// Shows what is lost, asks if that is anything, removes.
pub(super) async fn run(args: RemoveArgs, session: &Session) -> Result<Report> {
    let settled = args.yes || args.dry_run.dry_run || !args.compromised;
    agree::possible(settled, "golden key remove --compromised", "--dry-run")?;
    let mut request = v1::RemoveReleaseKeyRequest {
        key: args.key,
        compromised: args.compromised,
        reason: args.reason,
        dry_run: true,
        seen: None,
        grouped: true,
    };
    let mut client = session.client().await?;
    let answer = client.remove_release_key(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    // Whoever changes the key meanwhile is not overwritten.
    let seen = answer.seen.clone();
    let removal = Removal::new(&request, answer);
    if args.dry_run.dry_run {
        return session.report(&removal);
    }
    if args.compromised {
        eprint!("{}", removal.text(&session.plain_page()));
        agree::settle(args.yes, &format!("Remove {} as compromised?", removal.key.name))?;
    }
    (request.dry_run, request.seen) = (false, seen);
    let answer = client.remove_release_key(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    // What it does was forecast before it was done.
    let mut done = Removal::new(&request, answer);
    done.lost.groups = removal.lost.groups;
    session.report(&done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_says_what_is_lost_and_what_is_missing() {
        let request = v1::RemoveReleaseKeyRequest { compromised: true, dry_run: true, ..Default::default() };
        let answer = v1::RemoveReleaseKeyResponse {
            before: Some(v1::ReleaseKey {
                name: "build".to_owned(),
                id: vec![0xab; 32],
                ..Default::default()
            }),
            void: vec!["edge@1.4".to_owned()],
            running: vec!["press-7".to_owned()],
            short: vec![v1::ReleaseThreshold { product: "edge".to_owned(), needed: 2, available: 1 }],
            ..Default::default()
        };
        let text = Removal::new(&request, answer).text(&Page::plain(0));
        for part in [
            "release key build (abababababab) would be removed as compromised\n",
            "nothing counts any more of edge@1.4:\n",
            "1 device last proved to run it, and lose their certificates where it is enforced: press-7\n",
            "edge has 1 of the 2 keys that a release of it needs: add another",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
