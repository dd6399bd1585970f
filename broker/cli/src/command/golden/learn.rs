//! `touchstone golden learn`: a manifest from what attested devices run.

use std::path::PathBuf;

use clap::Args;
use policy::id::{DeviceName, ProductName};
use policy::reference::release::ReleaseVersion;
use proto::v1::LearnReleaseRequest;
use serde::Serialize;

use crate::client::failed;
use crate::failure::Result;
use crate::file;
use crate::output::{Page, Report, Session, View};

/// From whom, as what.
#[derive(Debug, Args)]
#[command(after_help = "\
Review the file before you sign it: what stands in it may boot.
  touchstone golden learn --from press-7 --product edge --version 1.4 --out edge.toml")]
pub(crate) struct LearnArgs {
    /// Attested device to learn from; may repeat: what differs between them is left out and noted
    #[arg(long = "from", value_name = "DEVICE", required = true, num_args = 1..)]
    devices: Vec<DeviceName>,
    /// Product of the release
    #[arg(long, value_name = "PRODUCT")]
    product: ProductName,
    /// Version of the release
    #[arg(long, value_name = "VERSION")]
    version: ReleaseVersion,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Learned {
    manifest: String,
    notes: Vec<String>,
    file: Option<String>,
}

impl View for Learned {
    fn text(&self, _page: &Page) -> String {
        match &self.file {
            Some(file) => format!("{file}: review it, then `touchstone golden sign {file}`\n"),
            None => self.manifest.clone(),
        }
    }
}

/// Asks the broker for the manifest and writes it.
pub(super) async fn run(args: LearnArgs, session: &Session) -> Result<Report> {
    let request = LearnReleaseRequest {
        devices: args.devices.iter().map(ToString::to_string).collect(),
        product: args.product.to_string(),
        version: args.version.to_string(),
    };
    let answer = session.client().await?.learn_release(request).await.map_err(|s| failed(&s))?.into_inner();
    if let Some(path) = &args.out {
        file::write(path, answer.manifest.as_bytes())?;
    }
    let file = args.out.map(|path| path.display().to_string());
    let view = Learned { manifest: answer.manifest, notes: answer.notes, file };
    let report = session.report(&view)?;
    Ok(view.notes.into_iter().fold(report, |report, note| report.aside(format!("note: {note}"))))
}
