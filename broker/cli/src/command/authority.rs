//! `touchstone authority`: who signs the certificates of zones.

use clap::Subcommand;
use proto::v1::{AuthorityState, GetJwksRequest, ListAuthoritiesRequest, Role};
use serde::Serialize;

use crate::client::failed;
use crate::failure::Result;
use crate::output::table::Table;
use crate::output::{Page, Report, Session, View, words};

/// Verbs of `authority`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// Every authority: its zone, role, state and end
    #[command(after_help = "Example: touchstone authority list")]
    List,
    /// The keys that verify attestation results (`device result --ear`), as a JWK Set
    #[command(after_help = "Example: touchstone authority jwks")]
    Jwks,
}

#[derive(Debug, Serialize)]
struct AuthorityView {
    zone: String,
    role: &'static str,
    generation: u32,
    state: String,
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

/// Runs a verb.
pub(crate) async fn run(command: AuthorityCommand, session: &Session) -> Result<Report> {
    match command {
        AuthorityCommand::List => {
            let mut client = session.client().await?;
            let answer = client.list_authorities(ListAuthoritiesRequest {}).await.map_err(|s| failed(&s))?;
            let authorities = answer.into_inner().authorities.into_iter().map(Into::into).collect();
            session.report(&Authorities { authorities })
        }
        AuthorityCommand::Jwks => {
            let mut client = session.client().await?;
            let answer = client.get_jwks(GetJwksRequest {}).await.map_err(|s| failed(&s))?;
            // Other programs read it as it is, so it is the same in every format.
            Ok(Report::raw(format!("{}\n", answer.into_inner().jwks)))
        }
    }
}
