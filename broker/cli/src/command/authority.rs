//! `touchstone authority`: who signs the certificates of zones.

use clap::{Args, Subcommand, ValueEnum};
use policy::id::ZoneName;
use proto::v1::{
    ActivateAuthorityRequest, AuthorityChange, AuthorityState, DistrustAuthorityRequest, GetJwksRequest,
    ListAuthoritiesRequest, Role, RotateAuthorityRequest,
};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Verbs of `authority`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// Every authority: its zone, role, state and end
    #[command(after_help = "Example: touchstone authority list")]
    List,
    /// Prepare the next generation; it signs by itself once all devices that meet it know it
    #[command(visible_alias = "prepare")]
    Rotate(RotateArgs),
    /// Let the prepared generation sign now, whoever does not know it yet
    Activate(ActivateArgs),
    /// Take a generation out of all trust files at once, as when its key was stolen
    Distrust(DistrustArgs),
    /// The keys that verify attestation results (`device result --ear`), as a JWK Set
    #[command(after_help = "Example: touchstone authority jwks")]
    Jwks,
}

/// Which of a zone's two authorities.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// The one that signs client certificates
    Caller,
    /// The one that signs server certificates
    Listener,
}

impl From<Which> for Role {
    fn from(which: Which) -> Self {
        match which {
            Which::Caller => Self::Caller,
            Which::Listener => Self::Listener,
        }
    }
}

/// Which authority gets another generation.
#[derive(Debug, Args)]
#[command(after_help = "\
The broker does this by itself when half of an authority's life is over. No connection breaks: both generations are
believed until the last certificate of the old one has ended.
Example: touchstone authority rotate cell-3")]
pub(crate) struct RotateArgs {
    /// Name of the zone
    zone: ZoneName,
    /// Only this authority [default: both]
    #[arg(long, value_enum)]
    role: Option<Which>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Which authority signs now.
#[derive(Debug, Args)]
#[command(after_help = "Example: touchstone authority activate cell-3 --role caller --dry-run")]
pub(crate) struct ActivateArgs {
    /// Name of the zone
    zone: ZoneName,
    /// Which authority
    #[arg(long, value_enum)]
    role: Which,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Which authority is believed no more.
#[derive(Debug, Args)]
#[command(after_help = "\
Another generation signs at once, and every device is asked to prove itself and gets other certificates. Until then
peers refuse those that are under the one that is distrusted.
Example: touchstone authority distrust cell-3 --role caller --generation 1 --reason 'the host was stolen'")]
pub(crate) struct DistrustArgs {
    /// Name of the zone
    zone: ZoneName,
    /// Which authority
    #[arg(long, value_enum)]
    role: Which,
    /// Which generation, see `authority list`
    #[arg(long)]
    generation: u32,
    /// Why, for the audit chain
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Turned {
    dry_run: bool,
    authorities: Vec<String>,
    stragglers: Vec<String>,
    stragglers_count: u32,
}

/// What a change came to, in a sentence that `verb` completes.
fn turned(session: &Session, dry_run: bool, verb: &str, change: Option<AuthorityChange>) -> Result<Report> {
    let AuthorityChange { authorities, stragglers, stragglers_count } = change.unwrap_or_default();
    let would = if dry_run { "would be" } else { "is" };
    let count = usize::try_from(stragglers_count).unwrap_or(usize::MAX);
    let text = format!(
        "{} {would} {verb}; {} do not know it yet{}",
        authorities.join(", "),
        words::count(count, "device"),
        if stragglers.is_empty() { String::new() } else { format!(": {}", words::list(&stragglers)) }
    );
    session.report(&Sentence { text, fields: Turned { dry_run, authorities, stragglers, stragglers_count } })
}

#[derive(Debug, Serialize)]
struct AuthorityView {
    zone: String,
    role: &'static str,
    generation: u32,
    state: String,
    since: Option<String>,
    subject: String,
    not_after: Option<String>,
    revoked: u32,
    certificate_digest: String,
    #[serde(skip)]
    ends: u64,
}

#[derive(Debug, Serialize)]
struct Authorities {
    authorities: Vec<AuthorityView>,
}

/// The word for a role: what the certificates are for.
pub(crate) const fn role(role: Role) -> &'static str {
    match role {
        Role::Caller => "caller",
        Role::Listener => "listener",
        Role::Unspecified => "unknown",
    }
}

impl From<AuthorityState> for AuthorityView {
    fn from(state: AuthorityState) -> Self {
        let authority = state.authority.unwrap_or_default();
        Self {
            role: role(authority.role()),
            zone: authority.zone,
            generation: authority.generation,
            state: state.state,
            since: words::json_time(state.since),
            subject: state.subject,
            not_after: words::json_time(state.not_after),
            revoked: state.revoked,
            certificate_digest: policy::digest::Digest::of(&authority.certificate).to_string(),
            ends: state.not_after,
        }
    }
}

impl View for Authorities {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["ZONE", "ROLE", "GENERATION", "STATE", "ENDS", "REVOKED", "CERTIFICATE"]);
        for one in &self.authorities {
            table.row([
                one.zone.clone(),
                one.role.to_owned(),
                one.generation.to_string(),
                one.state.clone(),
                words::left(one.ends, page.now),
                one.revoked.to_string(),
                words::short(&one.certificate_digest),
            ]);
        }
        table.text("no authorities; `touchstone zone create` makes the first", page.colour)
    }
}

async fn rotate(args: RotateArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let role = args.role.map_or(Role::Unspecified, Into::into).into();
    let request = RotateAuthorityRequest { zone: args.zone.to_string(), role, dry_run };
    let answer = session.client().await?.rotate_authority(request).await.map_err(|s| failed(&s))?;
    turned(session, dry_run, "prepared", answer.into_inner().change)
}

async fn activate(args: ActivateArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let role = Role::from(args.role).into();
    let request = ActivateAuthorityRequest { zone: args.zone.to_string(), role, dry_run };
    let answer = session.client().await?.activate_authority(request).await.map_err(|s| failed(&s))?;
    turned(session, dry_run, "what signs now", answer.into_inner().change)
}

async fn distrust(args: DistrustArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let request = DistrustAuthorityRequest {
        zone: args.zone.to_string(),
        role: Role::from(args.role).into(),
        generation: args.generation,
        reason: args.reason,
        dry_run,
    };
    let answer = session.client().await?.distrust_authority(request).await.map_err(|s| failed(&s))?;
    turned(session, dry_run, "distrusted", answer.into_inner().change)
}

/// Runs a verb.
pub(crate) async fn run(command: AuthorityCommand, session: &Session) -> Result<Report> {
    match command {
        AuthorityCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_authorities(ListAuthoritiesRequest {}).await.map_err(|s| failed(&s))?;
            let authorities = answer.into_inner().authorities.into_iter().map(Into::into).collect();
            session.report(&Authorities { authorities })
        }
        AuthorityCommand::Rotate(args) => rotate(args, session).await,
        AuthorityCommand::Activate(args) => activate(args, session).await,
        AuthorityCommand::Distrust(args) => distrust(args, session).await,
        AuthorityCommand::Jwks => {
            let mut client = session.client().await?;
            let answer = client.get_jwks(GetJwksRequest {}).await.map_err(|s| failed(&s))?;
            // Other programs read it as it is, so it is the same in every format.
            Ok(Report::raw(format!("{}\n", answer.into_inner().jwks)))
        }
    }
}
