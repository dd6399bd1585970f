//! `touchstone token`: one-time join tokens.

use clap::{Args, Subcommand};
use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use proto::v1::{CreateTokenRequest, JoinToken, ListTokensRequest, RevokeTokenRequest};
use serde::Serialize;

use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::failure::Result;
use crate::output::moment::Moment;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Verbs of `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token that lets one new device join; it is shown once
    Create(CreateArgs),
    /// Tokens that nobody used yet, without their secrets
    #[command(after_help = "Example: touchstone token list")]
    List,
    /// End a token that nobody used yet
    #[command(after_help = "Example: touchstone token revoke 6f1c0a5d9e2b47838c1d0e5fa2b3c4d5")]
    Revoke(RevokeArgs),
}

/// Which token.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Its id, as `touchstone token list` shows it, or the whole token, of which only the id is sent
    #[arg(value_name = "ID", value_parser = id)]
    id: String,
    #[command(flatten)]
    dry_run: DryRun,
}

/// The id of a token: by itself, or in `ts1.<id>.<secret>`.
fn id(text: &str) -> std::result::Result<String, &'static str> {
    let whole = text.strip_prefix("ts1.").and_then(|rest| rest.split_once('.'));
    let id = whole.map_or(text, |(id, _)| id);
    let good = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    good.then(|| id.to_owned()).ok_or("an id has 32 hex digits; `touchstone token list` shows them")
}

/// What the token allows.
#[derive(Debug, Args)]
#[command(after_help = "\
The token alone goes to standard output, what it allows to standard error:
  TOKEN=$(touchstone token create --zone cell-3 --ek sha256:…)
For a device without a TPM (tpm = \"none\" in its attestor.toml), in a zone that asks for none:
  TOKEN=$(touchstone token create --zone yard --device meter-4 --without-tpm)")]
pub(crate) struct CreateArgs {
    /// Zone that the device joins; may repeat
    #[arg(long = "zone", value_name = "ZONE", required = true)]
    zones: Vec<ZoneName>,
    /// Only the TPM with this EK digest may use it
    #[arg(long, value_name = "sha256:…")]
    ek: Option<Digest>,
    /// Name that the device gets
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceName>,
    /// For a device without a TPM, by its name: a new one, or one whose key was lost or copied
    #[arg(long, requires = "device", conflicts_with = "ek")]
    without_tpm: bool,
    /// How long it may be used
    #[arg(long = "for", value_name = "TIME", default_value = "24h")]
    lifetime: Span,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
struct TokenView {
    token: String,
    expires_at: Option<String>,
    zones: Vec<String>,
    device: Option<String>,
    ek_digest: Option<String>,
}

impl View for TokenView {
    fn text(&self, _page: &Page) -> String {
        format!("{}\n", self.token)
    }
}

/// Runs a verb.
pub(crate) async fn run(command: TokenCommand, session: &Session) -> Result<Report> {
    match command {
        TokenCommand::Create(args) => create(args, session).await,
        TokenCommand::List => list(session).await,
        TokenCommand::Revoke(args) => revoke(args, session).await,
    }
}

async fn create(args: CreateArgs, session: &Session) -> Result<Report> {
    let allowance = allowance(&args);
    if args.dry_run.dry_run {
        return session.report(&Sentence::would(format!("would make a token for {allowance}")));
    }
    let zones: Vec<String> = args.zones.iter().map(ToString::to_string).collect();
    let device = args.device.map(|name| name.to_string());
    let request = CreateTokenRequest {
        zones: zones.clone(),
        ek_digest: args.ek.map(|ek| ek.0.to_vec()).unwrap_or_default(),
        device: device.clone().unwrap_or_default(),
        lifetime_seconds: args.lifetime.0,
        without_tpm: args.without_tpm,
    };
    let answer = session.client().await?.create_token(request).await.map_err(|s| failed(&s))?.into_inner();
    let until = words::left(answer.expires_at, session.now());
    let view = TokenView {
        token: answer.token,
        expires_at: words::json_time(answer.expires_at),
        zones,
        device,
        ek_digest: args.ek.map(|ek| ek.to_string()),
    };
    let mut report = session.report(&view)?.aside(format!(
        "For {allowance}; it ends {until} and is not shown again. Put it into the attestor's join token file."
    ));
    if args.without_tpm {
        report =
            report.aside("Its keys can be copied: a copy that is used raises a clone alarm and stops both.");
    } else if view.ek_digest.is_none() {
        report = report.aside(
            "It is bound to no TPM: unless the zone admits by token, the device waits for `touchstone device admit`.",
        );
    }
    Ok(report)
}

fn allowance(args: &CreateArgs) -> String {
    let who = match (&args.device, &args.ek) {
        (Some(device), _) => device.to_string(),
        (None, Some(ek)) => format!("the TPM {}", words::short(&ek.to_string())),
        (None, None) => "one device".to_owned(),
    };
    let zones: Vec<_> = args.zones.iter().map(|zone| zone.as_str()).collect();
    let without = if args.without_tpm { ", which has no TPM," } else { "" };
    format!("{who}{without} to join {}", zones.join(", "))
}

/// A token that nobody used yet.
#[derive(Debug, Serialize)]
struct OpenToken {
    id: String,
    zones: Vec<String>,
    device: Option<String>,
    ek_digest: Option<String>,
    without_tpm: bool,
    by: String,
    approved_by: Option<String>,
    made_at: Moment,
    expires_at: Moment,
}

impl From<JoinToken> for OpenToken {
    fn from(token: JoinToken) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: token.id,
            zones: token.zones,
            device: some(token.device),
            ek_digest: some(words::digest(&token.ek_digest)),
            without_tpm: token.without_tpm,
            by: token.by,
            approved_by: some(token.approved_by),
            made_at: Moment(token.made_at),
            expires_at: Moment(token.expires_at),
        }
    }
}

impl OpenToken {
    fn people(&self) -> String {
        words::list(
            &[Some(self.by.clone()), self.approved_by.clone()].into_iter().flatten().collect::<Vec<_>>(),
        )
    }

    /// Which TPM may use it.
    fn tpm(&self) -> String {
        match &self.ek_digest {
            Some(ek) => words::short(ek),
            None if self.without_tpm => "none".to_owned(),
            None => "any".to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct OpenTokens {
    tokens: Vec<OpenToken>,
}

impl View for OpenTokens {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["ID", "ZONES", "DEVICE", "TPM", "BY", "MADE", "ENDS"]);
        for token in &self.tokens {
            table.row([
                token.id.clone(),
                words::list(&token.zones),
                words::or_dash(token.device.as_deref().unwrap_or_default()),
                token.tpm(),
                token.people(),
                words::age(token.made_at.0, page.now),
                words::left(token.expires_at.0, page.now),
            ]);
        }
        table.text("no join tokens are open", page.colour)
    }
}

async fn list(session: &Session) -> Result<Report> {
    let mut client = session.client().await?;
    let (mut tokens, mut after) = (Vec::new(), String::new());
    loop {
        let request = ListTokensRequest { after: after.clone() };
        let page = client.list_tokens(request).await.map_err(|s| failed(&s))?.into_inner();
        tokens.extend(page.tokens.into_iter().map(OpenToken::from));
        // Pages are ordered; one that does not lead on would be asked for ever.
        if page.next.is_empty() || page.next <= after {
            return session.report(&OpenTokens { tokens });
        }
        after = page.next;
    }
}

#[derive(Debug, Serialize)]
struct Revoked {
    dry_run: bool,
    token: OpenToken,
}

async fn revoke(args: RevokeArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let request = RevokeTokenRequest { id: args.id, dry_run };
    let answer = session.client().await?.revoke_token(request).await.map_err(|s| failed(&s))?.into_inner();
    let token = OpenToken::from(answer.token.unwrap_or_default());
    let verb = if dry_run { "would be revoked" } else { "is revoked" };
    let who = token.device.clone().unwrap_or_else(|| "one device".to_owned());
    let text = format!(
        "the join token {} of {} for {who} to join {} {verb}",
        token.id,
        token.people(),
        words::list(&token.zones)
    );
    session.report(&Sentence { text, fields: Revoked { dry_run, token } })
}
