//! `touchstone change`: what waits for a second person.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use prost::Message;
use proto::v1::{
    ApproveChangeRequest, Change, CreateTokenResponse, GetChangeRequest, InviteAdministratorResponse,
    ListChangesRequest, RejectChangeRequest,
};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Verbs of `change`.
#[derive(Debug, Subcommand)]
pub(crate) enum ChangeCommand {
    /// What waits, and whether you may approve it
    #[command(after_help = "Example:\n  touchstone change list -o json")]
    List,
    /// One change: what it would do, who asks, until when
    #[command(after_help = "Example:\n  touchstone change show 3f2a9c0d1e4b5a67")]
    Show {
        /// Its id, as `change list` shows it
        id: String,
    },
    /// Carry a change out, in the name of whoever asked for it and of you
    Approve(ApproveArgs),
    /// Drop a change: yours, or one that you could approve
    Reject(RejectArgs),
}

/// Which change.
#[derive(Debug, Args)]
#[command(after_help = "\
The change is decided anew, under what is so today. If others changed what it rests on, the broker says what.
Nobody approves their own. Where the change makes a secret, it is printed here, once.
Example:
  touchstone change approve 3f2a9c0d1e4b5a67")]
pub(crate) struct ApproveArgs {
    /// Its id, as `change list` shows it
    id: String,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Which change, and why not.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  touchstone change reject 3f2a9c0d1e4b5a67 --reason 'not during the shift'")]
pub(crate) struct RejectArgs {
    /// Its id, as `change list` shows it
    id: String,
    /// Why, for whoever asked
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    dry_run: DryRun,
}

/// A change as it is shown.
#[derive(Debug, Serialize)]
struct ChangeView {
    id: String,
    act: String,
    subject: String,
    text: String,
    by: String,
    role: String,
    asked_at: Option<String>,
    expires_at: Option<String>,
    zones: Vec<String>,
    approved_by: String,
    yours_to_approve: bool,
    #[serde(skip)]
    expires: u64,
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        Self {
            id: change.id,
            act: change.act,
            subject: change.subject,
            text: change.text,
            by: change.by,
            role: change.role,
            asked_at: words::json_time(change.asked_at),
            expires_at: words::json_time(change.expires_at),
            zones: change.zones,
            approved_by: change.approved_by,
            yours_to_approve: change.yours_to_approve,
            expires: change.expires_at,
        }
    }
}

#[derive(Debug, Serialize)]
struct Changes {
    changes: Vec<ChangeView>,
}

impl View for Changes {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["ID", "CHANGE", "OF", "ASKED BY", "ENDS", "YOU MAY APPROVE"]);
        for change in &self.changes {
            table.row([
                change.id.clone(),
                change.act.clone(),
                change.subject.clone(),
                change.by.clone(),
                words::left(change.expires, page.now),
                if change.yours_to_approve { "yes" } else { "no" }.to_owned(),
            ]);
        }
        table.text("nothing waits for a second person", page.colour)
    }
}

impl View for ChangeView {
    fn text(&self, page: &Page) -> String {
        let zones =
            if self.zones.is_empty() { "the whole plant".to_owned() } else { words::list(&self.zones) };
        let lines = [
            ("change", self.id.clone()),
            ("what", format!("{} {}", self.act, self.subject)),
            ("comes to", self.text.clone()),
            ("touches", zones),
            ("asked by", format!("{} ({})", self.by, self.role)),
            ("ends", words::left(self.expires, page.now)),
            ("approved by", format!("another person with the role {} or owner", self.approved_by)),
        ];
        let mut text = String::new();
        for (label, value) in lines {
            let _ = writeln!(text, "{label:<12} {}", words::visible(&value));
        }
        text
    }
}

/// What was approved or rejected.
#[derive(Serialize)]
struct Decided {
    dry_run: bool,
    change: ChangeView,
    /// The secret that the change made, shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Runs a verb.
pub(crate) async fn run(command: ChangeCommand, session: &Session) -> Result<Report> {
    match command {
        ChangeCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_changes(ListChangesRequest {}).await.map_err(|s| failed(&s))?;
            let changes = answer.into_inner().changes.into_iter().map(Into::into).collect();
            session.report(&Changes { changes })
        }
        ChangeCommand::Show { id } => {
            let request = GetChangeRequest { id };
            let answer = session.client().await?.get_change(request).await.map_err(|s| failed(&s))?;
            session.report(&ChangeView::from(answer.into_inner().change.unwrap_or_default()))
        }
        ChangeCommand::Approve(args) => approve(args, session).await,
        ChangeCommand::Reject(args) => reject(args, session).await,
    }
}

async fn reject(args: RejectArgs, session: &Session) -> Result<Report> {
    let (dry_run, mut client) = (args.dry_run.dry_run, session.client().await?);
    let change = if dry_run {
        let answer = client.get_change(GetChangeRequest { id: args.id }).await.map_err(|s| failed(&s))?;
        answer.into_inner().change
    } else {
        let request = RejectChangeRequest { id: args.id, reason: args.reason };
        client.reject_change(request).await.map_err(|s| failed(&s))?.into_inner().change
    };
    let change = ChangeView::from(change.unwrap_or_default());
    let verb = if dry_run { "would be" } else { "is" };
    let text = format!("{} {} of {} {verb} rejected", change.act, change.subject, change.by);
    session.report(&Sentence { text, fields: Decided { dry_run, change, secret: None } })
}

async fn approve(args: ApproveArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let request = ApproveChangeRequest { id: args.id, dry_run };
    let answer = session.client().await?.approve_change(request).await.map_err(|s| failed(&s))?.into_inner();
    let change = ChangeView::from(answer.change.unwrap_or_default());
    let secret = secret(&change.act, &answer.answer)?;
    let verb = if dry_run { "would be carried out" } else { "is carried out" };
    let text = format!("{} {} {verb}: {}", change.act, change.subject, change.text);
    match &secret {
        // Alone on standard output, as the command that asked for it would print it.
        Some(alone) => {
            let alone = alone.clone();
            let view = Sentence { text: alone, fields: Decided { dry_run, change, secret } };
            Ok(session.report(&view)?.aside(format!("{text}. It is not shown again.")))
        }
        None => session.report(&Sentence { text, fields: Decided { dry_run, change, secret } }),
    }
}

/// The secret in the answer of the call that was carried out, if it makes one.
fn secret(act: &str, answer: &[u8]) -> Result<Option<String>> {
    let unreadable =
        |e: prost::DecodeError| Failure::new(Exit::Internal, format!("the answer cannot be read: {e}"));
    let secret = match act {
        "token.create" => CreateTokenResponse::decode(answer).map_err(unreadable)?.token,
        "admin.invite" => InviteAdministratorResponse::decode(answer).map_err(unreadable)?.code,
        _ => String::new(),
    };
    Ok((!secret.is_empty()).then_some(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> ChangeView {
        ChangeView::from(Change {
            id: "3f2a9c0d1e4b5a67".to_owned(),
            act: "conduit.allow".to_owned(),
            subject: "cell-3 -> historian opcua".to_owned(),
            text: "open; trust files of 2 devices change".to_owned(),
            by: "ada".to_owned(),
            role: "security".to_owned(),
            asked_at: 10,
            expires_at: 86_410,
            zones: vec!["cell-3".to_owned(), "historian".to_owned()],
            approved_by: "security".to_owned(),
            yours_to_approve: true,
        })
    }

    #[test]
    fn a_change_says_what_it_comes_to_and_who_approves_it() {
        let text = change().text(&Page::plain(10));
        for part in [
            "conduit.allow cell-3 -> historian opcua",
            "trust files of 2",
            "ada (security)",
            "security or owner",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let none = Changes { changes: Vec::new() }.text(&Page::plain(10));
        assert_eq!(none, "nothing waits for a second person\n");
    }

    #[test]
    fn only_an_act_that_makes_a_secret_has_one() {
        let made = CreateTokenResponse { token: "ts1.a.b".to_owned(), expires_at: 1 }.encode_to_vec();
        assert_eq!(secret("token.create", &made).unwrap().as_deref(), Some("ts1.a.b"));
        assert_eq!(secret("zone.set", &made).unwrap(), None);
        assert_eq!(secret("token.create", &[]).unwrap(), None, "a dry run");
    }
}
