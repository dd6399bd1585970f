//! `touchstone token`: one-time join tokens.

use clap::{Args, Subcommand};
use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use proto::v1::CreateTokenRequest;
use serde::Serialize;

use crate::args::{DryRun, Span};
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Verbs of `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token that lets one new device join; it is shown once
    Create(CreateArgs),
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
