//! `touchstone admin`: who administers the plant.

mod accept;

use clap::{Args, Subcommand, ValueEnum};
use policy::id::ZoneName;
use proto::v1::{
    Administrator, InviteAdministratorRequest, ListAdministratorsRequest, RemoveAdministratorRequest,
    RenewAdministratorRequest, SetAdministratorRequest,
};
use rcgen::{KeyPair, PublicKeyData};
use serde::Serialize;

use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::context::{Context, pem_chain};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Verbs of `admin`.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Every administrator, and who is invited
    #[command(after_help = "Example:\n  touchstone admin list -o json")]
    List,
    /// Invite somebody: prints a one-time code for them (owners)
    Invite(InviteArgs),
    /// Accept an invitation, on your own machine: makes your key and your context folder there
    Accept(accept::AcceptArgs),
    /// Give an administrator another role and other zones (owners)
    Role(RoleArgs),
    /// Remove an administrator, from open connections too (owners)
    Remove(RemoveArgs),
    /// Renew your own certificate, before it ends; the key stays the same
    #[command(after_help = "Example:\n  touchstone --context ~/.config/touchstone/context admin renew")]
    Renew(DryRun),
}

/// What an administrator may do; everybody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Reads
    Viewer,
    /// Golden releases
    Engineer,
    /// Devices, tokens, quarantine
    Operator,
    /// Zones, conduits, revocation
    Security,
    /// Everything, administrators and backups too
    Owner,
}

impl Role {
    fn written(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Who is invited, as what.
#[derive(Debug, Args)]
#[command(after_help = "\
The code goes to standard output, alone, and is not shown again. Give it to the person on a way that others do not
read; they run `touchstone admin accept`. Where the plant has two owners, another one has to approve it (exit code 6).
Whoever one owner lets in alone counts as that owner where two people are asked for.
Examples:
  touchstone admin invite bob --role operator --zone cell-3 --zone cell-4
  touchstone admin invite eve --role owner --for 2h")]
pub(crate) struct InviteArgs {
    /// Their name: a-z, 0-9 and .-_, at most 40
    name: String,
    /// What they may do
    #[arg(long, value_enum)]
    role: Role,
    /// Limit them to a zone; may repeat [default: the whole plant]
    #[arg(long = "zone", value_name = "ZONE")]
    zones: Vec<ZoneName>,
    /// How long the code may be used
    #[arg(long = "for", value_name = "TIME", default_value = "24h")]
    lifetime: Span,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Who gets which role.
#[derive(Debug, Args)]
#[command(after_help = "\
Nobody changes their own role; where the plant has two owners, another one has to approve it. Whoever one owner let in
alone is a person of their own from then on. Example:
  touchstone admin role bob security --zone cell-3")]
pub(crate) struct RoleArgs {
    /// Who
    name: String,
    /// What they may do from now on
    #[arg(value_enum)]
    role: Role,
    /// Limit them to a zone; may repeat [default: the whole plant]
    #[arg(long = "zone", value_name = "ZONE")]
    zones: Vec<ZoneName>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Who is removed.
#[derive(Debug, Args)]
#[command(after_help = "\
What they asked for, and whom they invited, is void with them. That another owner goes, a second one has to approve
(exit code 6), not the one it is about; an owner may step down alone, but the last one stays.
Example:
  touchstone admin remove bob")]
pub(crate) struct RemoveArgs {
    /// Who
    name: String,
    #[command(flatten)]
    dry_run: DryRun,
}

/// An administrator as it is shown.
#[derive(Debug, Serialize)]
struct AdminView {
    name: String,
    role: String,
    /// None: the whole plant.
    zones: Option<Vec<String>>,
    created_at: Option<String>,
    not_after: Option<String>,
    invited_by: Option<String>,
    let_in_by: Option<String>,
    #[serde(skip)]
    ends: u64,
}

impl From<Administrator> for AdminView {
    fn from(admin: Administrator) -> Self {
        Self {
            name: admin.name,
            role: admin.role,
            zones: admin.limited.then_some(admin.zones),
            created_at: words::json_time(admin.created_at),
            not_after: words::json_time(admin.not_after),
            invited_by: admin.invited.then_some(admin.invited_by),
            let_in_by: (!admin.let_in_by.is_empty()).then_some(admin.let_in_by),
            ends: admin.not_after,
        }
    }
}

impl AdminView {
    /// `operator of cell-3, cell-4`
    fn described(&self) -> String {
        format!("{} of {}", self.role, zones(self.zones.as_deref()))
    }
}

fn zones(zones: Option<&[String]>) -> String {
    zones.map_or_else(|| "the whole plant".to_owned(), words::list)
}

#[derive(Debug, Serialize)]
struct Admins {
    administrators: Vec<AdminView>,
}

impl View for Admins {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["NAME", "ROLE", "ZONES", "ENDS", "STATE"]);
        for admin in &self.administrators {
            let state = match &admin.invited_by {
                Some(by) => format!("invited by {by}"),
                None if admin.ends <= page.now.0 => "certificate has ended".to_owned(),
                None => match &admin.let_in_by {
                    Some(by) => format!("active, let in by {by} alone"),
                    None => "active".to_owned(),
                },
            };
            table.row([
                admin.name.clone(),
                admin.role.clone(),
                zones(admin.zones.as_deref()),
                words::left(admin.ends, page.now),
                state,
            ]);
        }
        table.text("nobody administers this plant", page.colour)
    }
}

/// What was done with an administrator.
#[derive(Debug, Serialize)]
struct Changed {
    dry_run: bool,
    administrator: AdminView,
}

/// Runs a verb.
pub(crate) async fn run(command: AdminCommand, session: &Session) -> Result<Report> {
    match command {
        AdminCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_administrators(ListAdministratorsRequest {}).await;
            let administrators = answer.map_err(|s| failed(&s))?.into_inner().administrators;
            session.report(&Admins { administrators: administrators.into_iter().map(Into::into).collect() })
        }
        AdminCommand::Invite(args) => invite(args, session).await,
        AdminCommand::Accept(args) => accept::run(&args, session).await,
        AdminCommand::Role(args) => role(args, session).await,
        AdminCommand::Remove(args) => remove(args, session).await,
        AdminCommand::Renew(dry_run) => renew(dry_run, session).await,
    }
}

#[derive(Serialize)]
struct Code {
    code: String,
    expires_at: Option<String>,
}

impl View for Code {
    fn text(&self, _page: &Page) -> String {
        format!("{}\n", self.code)
    }
}

async fn invite(args: InviteArgs, session: &Session) -> Result<Report> {
    let zones: Vec<String> = args.zones.iter().map(ToString::to_string).collect();
    let limited = (!zones.is_empty()).then_some(zones.as_slice());
    let who = format!("{} as {} of {}", args.name, args.role.written(), self::zones(limited));
    let dry_run = args.dry_run.dry_run;
    let request = InviteAdministratorRequest {
        name: args.name,
        role: args.role.written(),
        zones,
        lifetime_seconds: args.lifetime.0,
        dry_run,
    };
    let answer = session.client().await?.invite_administrator(request).await.map_err(|s| failed(&s))?;
    if dry_run {
        return session.report(&Sentence::would(format!("would invite {who}")));
    }
    let answer = answer.into_inner();
    let ends = words::left(answer.expires_at, session.now());
    let address = session.context()?.address;
    let view = Code { code: answer.code, expires_at: words::json_time(answer.expires_at) };
    Ok(session
        .report(&view)?
        .aside(format!("Invites {who}; it ends {ends} and is not shown again. On their machine:"))
        .aside(format!("  touchstone admin accept - --address {address} --out ~/.config/touchstone/context")))
}

async fn role(args: RoleArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let mut request = SetAdministratorRequest {
        name: args.name,
        role: args.role.written(),
        zones: args.zones.iter().map(ToString::to_string).collect(),
        dry_run: true,
        seen: None,
    };
    let mut client = session.client().await?;
    let mut answer = client.set_administrator(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !dry_run {
        // Whoever changes them between the two calls is not overwritten.
        (request.dry_run, request.seen) = (false, answer.seen);
        answer = client.set_administrator(request).await.map_err(|s| failed(&s))?.into_inner();
    }
    let administrator = AdminView::from(answer.administrator.unwrap_or_default());
    let verb = if dry_run { "would be" } else { "is" };
    let text = format!("{} {verb} {}", administrator.name, administrator.described());
    session.report(&Sentence { text, fields: Changed { dry_run, administrator } })
}

async fn remove(args: RemoveArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let request = RemoveAdministratorRequest { name: args.name, dry_run };
    let answer = session.client().await?.remove_administrator(request).await.map_err(|s| failed(&s))?;
    let administrator = AdminView::from(answer.into_inner().administrator.unwrap_or_default());
    let verb = if dry_run { "would be removed" } else { "is removed" };
    let text = format!("{}, {}, {verb}", administrator.name, administrator.described());
    session.report(&Sentence { text, fields: Changed { dry_run, administrator } })
}

#[derive(Serialize)]
struct Renewed {
    not_after: Option<String>,
}

async fn renew(DryRun { dry_run }: DryRun, session: &Session) -> Result<Report> {
    let context = session.context()?;
    let public_key = public_key(&context)?;
    if dry_run {
        let file = context.folder.join("admin.pem");
        return session
            .report(&Sentence::would(format!("would write a new certificate to {}", file.display())));
    }
    let answer = session.client().await?.renew_administrator(RenewAdministratorRequest { public_key }).await;
    let answer = answer.map_err(|s| failed(&s))?.into_inner();
    file::write(&context.folder.join("admin.pem"), pem_chain(&answer.chain).as_bytes())?;
    let text = format!("your certificate ends {} now", words::left(answer.not_after, session.now()));
    let fields = Renewed { not_after: words::json_time(answer.not_after) };
    session.report(&Sentence { text, fields })
}

/// The public key that belongs to admin.key.
fn public_key(context: &Context) -> Result<Vec<u8>> {
    let identity = context.identity.as_ref();
    let key = identity.ok_or_else(|| Failure::new(Exit::Internal, "the context has no key"))?;
    let key =
        KeyPair::try_from(key.key.secret_der()).map_err(|e| Failure::unusable(format!("admin.key: {e}")))?;
    Ok(key.subject_public_key_info())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_active_ended_and_invited_apart() {
        let admin = |name: &str, not_after, invited: bool| Administrator {
            name: name.to_owned(),
            role: "operator".to_owned(),
            zones: vec!["cell-3".to_owned()],
            limited: name == "bob",
            not_after,
            invited,
            invited_by: if invited { "ada".to_owned() } else { String::new() },
            ..Administrator::default()
        };
        let all = [admin("ada", 5_000, false), admin("bob", 50, false), admin("cy", 5_000, true)];
        let admins = Admins { administrators: all.into_iter().map(Into::into).collect() };
        let text = admins.text(&Page::plain(100));
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let expected =
            [["the whole plant", " active"], ["cell-3", "certificate has ended"], ["cy", "invited by ada"]];
        for (line, words) in lines.iter().zip(expected) {
            assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {text}");
        }
    }
}
