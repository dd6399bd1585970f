//! `touchstone golden want`: the release that devices of a product are told to install.

use clap::Args;
use policy::id::ProductName;
use policy::reference::release::ReleaseId;
use proto::v1::{WantReleaseRequest, WantReleaseResponse};
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Sentence, Session};

/// What is wanted.
#[derive(Debug, Args)]
#[command(after_help = "\
A wanted release is what devices are told to install; it must be accepted. What is accepted keeps trust, and only a
quote proves what runs: `touchstone golden list` shows all three.
Examples:
  touchstone golden want edge@1.5
  touchstone golden want --none edge")]
pub(crate) struct WantArgs {
    /// Release to install
    #[arg(value_name = "PRODUCT@VERSION", required_unless_present = "none")]
    release: Option<ReleaseId>,
    /// Want no release of this product any more
    #[arg(long, value_name = "PRODUCT", conflicts_with = "release")]
    none: Option<ProductName>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Wanted {
    dry_run: bool,
    product: String,
    before: Option<String>,
    wanted: Option<String>,
}

/// Wants it.
pub(super) async fn run(args: WantArgs, session: &Session) -> Result<Report> {
    let product = args.release.as_ref().map(|release| release.product.to_string());
    let mut request = WantReleaseRequest {
        product: product.or_else(|| args.none.map(|product| product.to_string())).unwrap_or_default(),
        version: args.release.map(|release| release.version.to_string()).unwrap_or_default(),
        dry_run: true,
        seen: None,
    };
    let mut client = session.client().await?;
    let mut answer = client.want_release(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    if !args.dry_run.dry_run {
        // Whoever changes the wish between the two calls is not overwritten.
        (request.dry_run, request.seen) = (false, answer.seen);
        answer = client.want_release(request.clone()).await.map_err(|s| failed(&s))?.into_inner();
    }
    session.report(&sentence(request, answer))
}

fn sentence(request: WantReleaseRequest, answer: WantReleaseResponse) -> Sentence<Wanted> {
    let (product, verb) = (request.product, if request.dry_run { "would be" } else { "is" });
    let text = match (answer.wanted.as_str(), answer.before.as_str()) {
        ("", _) => format!("no release of {product} {verb} wanted"),
        (wanted, "") => format!("{product}@{wanted} {verb} wanted"),
        (wanted, before) => format!("{product}@{wanted} {verb} wanted; before it was {before}"),
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let fields = Wanted {
        dry_run: request.dry_run,
        product,
        before: some(answer.before),
        wanted: some(answer.wanted),
    };
    Sentence { text, fields }
}
