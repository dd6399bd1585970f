//! `touchstone golden key`: who may sign releases, and how many must.

mod remove;
mod view;

use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use policy::id::{ProductName, ReleaseKeyName};
use proto::v1;
use serde::Serialize;

use self::view::{KeyView, Keys};
use super::outside::public_key;
use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Sentence, Session, words};

/// Verbs of `golden key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Register a key that may sign releases of stated products
    Add(AddArgs),
    /// Every key, those that were removed too, and how many each product needs
    #[command(after_help = "Example: touchstone golden key list")]
    List,
    /// Put a new key in the place of another, which signs nothing new from then on
    Rotate(RotateArgs),
    /// Let a key sign nothing new; with --compromised, nothing counts that it alone vouched for
    Remove(remove::RemoveArgs),
    /// Say how many keys must sign a release of a product
    Threshold(ThresholdArgs),
}

/// Which key, for what.
#[derive(Debug, Args)]
#[command(after_help = "\
The private half stays where it was made; release keys are P-256 or Ed25519:
  openssl genpkey -algorithm ED25519 -out release.key
  openssl pkey -in release.key -pubout -out release.pub
  touchstone golden key add build --public release.pub --product edge")]
pub(crate) struct AddArgs {
    /// What to call it
    name: ReleaseKeyName,
    /// Public key, PEM
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    /// Product whose releases it may sign; may repeat
    #[arg(long = "product", value_name = "PRODUCT", required = true)]
    products: Vec<ProductName>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Which key, by which.
#[derive(Debug, Args)]
#[command(after_help = "\
The new key has the same name and products. What the former signed counts on; if others may have it, say so then
with `golden key remove sha256:... --compromised`.
  touchstone golden key rotate build --public new.pub")]
pub(crate) struct RotateArgs {
    /// Name of the key, or its digest
    #[arg(value_name = "NAME|DIGEST")]
    key: String,
    /// Public key that takes its place, PEM
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    #[command(flatten)]
    dry_run: DryRun,
}

/// How many for what.
#[derive(Debug, Args)]
#[command(after_help = "\
Releases that were applied before count on with the number of signatures that they needed then.
  touchstone golden key threshold edge 2")]
pub(crate) struct ThresholdArgs {
    /// Product
    product: ProductName,
    /// How many different keys must sign a release of it
    needed: NonZeroU8,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Runs a verb.
pub(crate) async fn run(command: KeyCommand, session: &Session) -> Result<Report> {
    match command {
        KeyCommand::Add(args) => add(args, session).await,
        KeyCommand::List => list(session).await,
        KeyCommand::Rotate(args) => rotate(args, session).await,
        KeyCommand::Remove(args) => remove::run(args, session).await,
        KeyCommand::Threshold(args) => threshold(&args, session).await,
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    dry_run: bool,
    key: KeyView,
    /// The key that it replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<KeyView>,
}

async fn list(session: &Session) -> Result<Report> {
    let mut client = session.client().await?;
    let answer = client.list_release_keys(v1::ListReleaseKeysRequest {}).await.map_err(|s| failed(&s))?;
    session.report(&Keys::from(answer.into_inner()))
}

async fn add(args: AddArgs, session: &Session) -> Result<Report> {
    let (public_key, _) = public_key(&args.public)?;
    let mut request = v1::AddReleaseKeyRequest {
        name: args.name.to_string(),
        public_key,
        products: args.products.iter().map(ToString::to_string).collect(),
        dry_run: true,
        seen: None,
    };
    let dry_run = args.dry_run.dry_run;
    let mut client = session.client().await?;
    let mut answer = client.add_release_key(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !dry_run {
        // Whoever is faster is not overwritten.
        (request.dry_run, request.seen) = (false, answer.seen);
        answer = client.add_release_key(request).await.map_err(|s| failed(&s))?.into_inner();
    }
    let key = KeyView::from(answer.key.unwrap_or_default());
    let verb = if dry_run { "would be" } else { "is" };
    let text = format!("release key {} ({}) {verb} registered for {}", key.name, key.short(), key.products());
    session.report(&Sentence { text, fields: Changed { dry_run, key, before: None } })
}

async fn rotate(args: RotateArgs, session: &Session) -> Result<Report> {
    let (public_key, _) = public_key(&args.public)?;
    let mut request = v1::RotateReleaseKeyRequest { key: args.key, public_key, dry_run: true, seen: None };
    let dry_run = args.dry_run.dry_run;
    let mut client = session.client().await?;
    let mut answer = client.rotate_release_key(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !dry_run {
        (request.dry_run, request.seen) = (false, answer.seen);
        answer = client.rotate_release_key(request).await.map_err(|s| failed(&s))?.into_inner();
    }
    let key = KeyView::from(answer.key.unwrap_or_default());
    let before = KeyView::from(answer.before.unwrap_or_default());
    let verb = if dry_run { "would be" } else { "is" };
    let text = format!(
        "release key {} {verb} {} in place of {}, which signs nothing new",
        key.name,
        key.short(),
        before.short()
    );
    session.report(&Sentence { text, fields: Changed { dry_run, key, before: Some(before) } })
}

#[derive(Debug, Serialize)]
struct Threshold {
    dry_run: bool,
    product: String,
    before: u32,
    needed: u32,
    available: u32,
}

async fn threshold(args: &ThresholdArgs, session: &Session) -> Result<Report> {
    let mut request = v1::SetReleaseThresholdRequest {
        product: args.product.to_string(),
        needed: u32::from(args.needed.get()),
        dry_run: true,
        seen: None,
    };
    let dry_run = args.dry_run.dry_run;
    let mut client = session.client().await?;
    let answer = client.set_release_threshold(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !dry_run {
        (request.dry_run, request.seen) = (false, answer.seen.clone());
        client.set_release_threshold(request.clone()).await.map_err(|s| failed(&s))?;
    }
    let fields = Threshold {
        dry_run,
        product: request.product,
        before: answer.before,
        needed: request.needed,
        available: answer.available,
    };
    let signatures = words::count(usize::from(args.needed.get()), "signature");
    let verb = if dry_run { "would need" } else { "needs" };
    let text = format!(
        "a release of {} {verb} {signatures} of {} keys; before it was {}",
        fields.product, fields.available, fields.before
    );
    session.report(&Sentence { text, fields })
}
