//! `touchstone golden key`: who may sign releases, and how many must.

mod lost;
mod remove;
mod rotate;
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
    /// Put a new key in the place of another; with --compromised, nothing counts that the former alone vouched for
    Rotate(rotate::RotateArgs),
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
        KeyCommand::Rotate(args) => rotate::run(args, session).await,
        KeyCommand::Remove(args) => remove::run(args, session).await,
        KeyCommand::Threshold(args) => threshold(&args, session).await,
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    dry_run: bool,
    key: KeyView,
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
    session.report(&Sentence { text, fields: Changed { dry_run, key } })
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
