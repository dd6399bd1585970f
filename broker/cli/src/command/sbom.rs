//! `touchstone sbom`: the documents that say what releases contain.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use futures::stream;
use policy::digest::Digest;
use policy::sbom::Sbom as Document;
use proto::v1;
use serde::Serialize;

use crate::args::DryRun;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, words};

/// Bytes of one message: small against gRPC's default limit of 4 MiB.
const CHUNK: usize = 256 * 1024;

/// Verbs of `sbom`.
#[derive(Debug, Subcommand)]
pub(crate) enum SbomCommand {
    /// Give the broker a document; it counts for releases that state its digest
    #[command(after_help = "\
CycloneDX 1.4 to 1.6 and SPDX 2.2 and 2.3 are read, as JSON. A release states the document in its manifest:

  [[sbom]]
  digest = \"sha256:...\"        as this command prints it, or sha256sum
  format = \"cyclonedx\"         or \"spdx\"
  name = \"root file system\"

Example:
  touchstone sbom add edge-1.4.cdx.json")]
    Add(AddArgs),
    /// Every document with the releases that state it
    #[command(after_help = "Example: touchstone sbom list")]
    List,
    /// What a document lists
    #[command(after_help = "Example: touchstone sbom show sha256:…")]
    Show(ShowArgs),
    /// Take away a document that only retired or withdrawn releases state
    #[command(after_help = "Example: touchstone sbom remove sha256:…")]
    Remove(RemoveArgs),
}

/// Which file.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The document; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Which document.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Digest of the document
    digest: Digest,
    /// Write the document itself to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Which document.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Digest of the document
    digest: Digest,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Runs a verb.
pub(crate) async fn run(command: SbomCommand, session: &Session) -> Result<Report> {
    match command {
        SbomCommand::Add(args) => add(args, session).await,
        SbomCommand::List => list(session).await,
        SbomCommand::Show(args) => show(args, session).await,
        SbomCommand::Remove(args) => remove(args, session).await,
    }
}

#[derive(Debug, Serialize)]
struct SbomView {
    digest: String,
    format: String,
    spec_version: String,
    subject: String,
    components: u32,
    size: u64,
    added_at: Option<String>,
    added_by: String,
    releases: Vec<String>,
    #[serde(skip)]
    added: u64,
}

impl From<v1::Sbom> for SbomView {
    fn from(sbom: v1::Sbom) -> Self {
        Self {
            digest: words::digest(&sbom.digest),
            format: sbom.format,
            spec_version: sbom.spec_version,
            subject: sbom.subject,
            components: sbom.components,
            size: sbom.size,
            added_at: words::json_time(sbom.added_at),
            added_by: sbom.added_by,
            releases: sbom.releases,
            added: sbom.added_at,
        }
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    dry_run: bool,
    unchanged: bool,
    sbom: SbomView,
}

async fn add(args: AddArgs, session: &Session) -> Result<Report> {
    let bytes = file::read(&args.file)?;
    // Refused here before a single byte is sent.
    Document::parse(&bytes).map_err(|e| Failure::unusable(format!("{}: {e}", args.file.display())))?;
    let dry_run = args.dry_run.dry_run;
    let parts: Vec<_> =
        bytes.chunks(CHUNK).map(|data| v1::AddSbomRequest { dry_run, data: data.to_vec() }).collect();
    let mut client = session.patient_client().await?;
    let answer = client.add_sbom(stream::iter(parts)).await.map_err(|s| failed(&s))?.into_inner();
    let (unchanged, sbom) = (answer.unchanged, SbomView::from(answer.sbom.unwrap_or_default()));
    let verb = match (dry_run, unchanged) {
        (_, true) => "is there already",
        (true, false) => "would be added",
        (false, false) => "was added",
    };
    let stated = match sbom.releases.is_empty() {
        true => "no release states it yet: add an [[sbom]] table with this digest to a manifest".to_owned(),
        false => format!("it counts for {}", words::list(&sbom.releases)),
    };
    let components = words::count(usize::try_from(sbom.components).unwrap_or(usize::MAX), "component");
    let text = format!("{} ({components}) {verb}; {stated}", sbom.digest);
    session.report(&Sentence { text, fields: Changed { dry_run, unchanged, sbom } })
}

#[derive(Debug, Serialize)]
struct Sboms {
    sboms: Vec<SbomView>,
}

impl View for Sboms {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["DIGEST", "FORMAT", "COMPONENTS", "OF", "ADDED", "BY", "RELEASES"]);
        for sbom in &self.sboms {
            table.row([
                sbom.digest.clone(),
                format!("{} {}", sbom.format, sbom.spec_version),
                sbom.components.to_string(),
                words::or_dash(&sbom.subject),
                words::age(sbom.added, page.now),
                sbom.added_by.clone(),
                words::list(&sbom.releases),
            ]);
        }
        table.text("no SBOMs; `touchstone sbom add FILE` gives the broker one", page.colour)
    }
}

async fn list(session: &Session) -> Result<Report> {
    let mut client = session.client().await?;
    let (mut sboms, mut after) = (Vec::new(), String::new());
    loop {
        let request = v1::ListSbomsRequest { after: after.clone() };
        let page = client.list_sboms(request).await.map_err(|s| failed(&s))?.into_inner();
        sboms.extend(page.sboms.into_iter().map(SbomView::from));
        // Pages are ordered; one that does not lead on would be asked for ever.
        if page.next.is_empty() || page.next <= after {
            return session.report(&Sboms { sboms });
        }
        after = page.next;
    }
}

#[derive(Debug, Serialize)]
struct Content {
    sbom: SbomView,
    components: Vec<ComponentView>,
}

#[derive(Debug, Serialize)]
struct ComponentView {
    name: String,
    version: Option<String>,
    purl: Option<String>,
    sources: Vec<String>,
}

impl View for Content {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["COMPONENT", "VERSION", "BUILT FROM", "PURL"]);
        for one in &self.components {
            table.row([
                one.name.clone(),
                words::or_dash(one.version.as_deref().unwrap_or_default()),
                words::list(&one.sources),
                words::or_dash(one.purl.as_deref().unwrap_or_default()),
            ]);
        }
        let head = format!("{} {}: {}", self.sbom.format, self.sbom.spec_version, self.sbom.subject);
        let releases = words::list(&self.sbom.releases);
        let table = table.text("no components", page.colour);
        format!("{}\nReleases: {}\n\n{table}", words::visible(&head), words::visible(&releases))
    }
}

async fn show(args: ShowArgs, session: &Session) -> Result<Report> {
    let mut client = session.patient_client().await?;
    let request = v1::GetSbomRequest { digest: args.digest.0.to_vec() };
    let mut parts = client.get_sbom(request).await.map_err(|s| failed(&s))?.into_inner();
    let (mut sbom, mut bytes) = (None, Vec::new());
    while let Some(part) = parts.message().await.map_err(|s| failed(&s))? {
        sbom = sbom.or(part.sbom);
        bytes.extend(part.data);
    }
    if Digest::of(&bytes) != args.digest {
        return Err(Failure::new(
            Exit::Internal,
            format!("the broker sent another document than {}", args.digest),
        ));
    }
    let document = Document::parse(&bytes).map_err(|e| Failure::unusable(e.to_string()))?;
    if let Some(out) = &args.out {
        file::write(out, &bytes)?;
    }
    let components = document.components.iter().map(|component| ComponentView {
        name: component.name.clone(),
        version: component.version(),
        purl: component.purl.as_ref().map(ToString::to_string),
        sources: component.sources.iter().map(|source| source.name.clone()).collect(),
    });
    let sbom = sbom.unwrap_or_default().into();
    session.report(&Content { sbom, components: components.collect() })
}

async fn remove(args: RemoveArgs, session: &Session) -> Result<Report> {
    let dry_run = args.dry_run.dry_run;
    let mut client = session.client().await?;
    let request = v1::RemoveSbomRequest { digest: args.digest.0.to_vec(), dry_run };
    let answer = client.remove_sbom(request).await.map_err(|s| failed(&s))?.into_inner();
    let sbom = SbomView::from(answer.sbom.unwrap_or_default());
    let text = format!("{} {}", args.digest, if dry_run { "would be removed" } else { "was removed" });
    session.report(&Sentence { text, fields: Changed { dry_run, unchanged: false, sbom } })
}
