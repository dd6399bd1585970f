//! `touchstone golden learn`: a manifest from what attested devices run, or from evidence in folders.

use std::path::PathBuf;

use clap::Args;
use policy::id::{DeviceName, ProductName};
use policy::reference::manifest::MAX_COUNTER;
use policy::reference::release::ReleaseVersion;
use proto::v1::{LearnReleaseRequest, LearnReleaseResponse};

use super::draft::DraftPage;
use super::learn_folder::{Named, from_folders};
use crate::client::failed;
use crate::failure::Result;
use crate::output::{Report, Session};

/// From whom, as what.
#[derive(Debug, Args)]
#[command(after_help = "\
Review the file before you sign it: what stands in it may boot.
  touchstone golden learn --from press-7 --product edge --version 1.4 --out edge.toml
What differs between devices is left out and noted. With --one-of it is accepted as on each of them, where there
are at most four ways:
  touchstone golden learn --from press-7 press-8 --one-of --product edge --version 1.4 --out edge.toml
What differs between two boots of one device is never learned. A broker remembers two; two folders with a quote by
the same key are two boots of one device, the last one named first.
With --from-evidence no broker is asked; `touchstone appraise --help` lists the files of a folder. Nothing is
learned from a folder whose files contradict each other (exit code 3).
  touchstone golden learn --from-evidence press-7/ --out edge.toml")]
pub(crate) struct LearnArgs {
    /// Attested device to learn from; may repeat: what differs between them is left out and noted
    #[arg(long = "from", value_name = "DEVICE", required_unless_present = "folders", num_args = 1.., requires_all = ["product", "version"])]
    devices: Vec<DeviceName>,
    /// Folder of evidence to learn from instead; may repeat: what differs between them is left out and noted
    #[arg(long = "from-evidence", value_name = "DIR", conflicts_with = "devices", num_args = 1..)]
    folders: Vec<PathBuf>,
    /// Accept what differs in at most four ways as it is on each device; what was seen together only together
    #[arg(long)]
    one_of: bool,
    /// Product of the release [default with --from-evidence: the folder's name]
    #[arg(long, value_name = "PRODUCT")]
    product: Option<ProductName>,
    /// Version of the release [default with --from-evidence: 1]
    #[arg(long, value_name = "VERSION")]
    version: Option<ReleaseVersion>,
    /// Counter of the release, above that of the one before; a broker counts by itself
    /// [default with --from-evidence: 1]
    #[arg(long, value_name = "N", conflicts_with = "devices", value_parser = clap::value_parser!(u64).range(..=MAX_COUNTER))]
    counter: Option<u64>,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Learns the manifest and writes it.
pub(super) async fn run(args: LearnArgs, session: &Session) -> Result<Report> {
    let draft = if args.folders.is_empty() {
        from_devices(&args, session).await?
    } else {
        let (product, version, counter) = (args.product, args.version, args.counter);
        from_folders(&args.folders, Named { product, version, counter, one_of: args.one_of })?
    };
    draft.write(args.out.as_deref(), session)
}

/// Asks the broker what the devices agree on.
async fn from_devices(args: &LearnArgs, session: &Session) -> Result<DraftPage> {
    let text = |name: Option<String>| name.unwrap_or_default();
    let request = LearnReleaseRequest {
        devices: args.devices.iter().map(ToString::to_string).collect(),
        product: text(args.product.as_ref().map(ToString::to_string)),
        version: text(args.version.as_ref().map(ToString::to_string)),
        one_of: args.one_of,
    };
    let answer = session.client().await?.learn_release(request).await.map_err(|s| failed(&s))?.into_inner();
    let LearnReleaseResponse { manifest, notes, warnings } = answer;
    Ok(DraftPage { manifest, notes, warnings, file: None })
}
