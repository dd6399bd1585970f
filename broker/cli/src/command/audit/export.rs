//! `touchstone audit export` and `audit seal`: the audit, to keep elsewhere.

use std::path::PathBuf;

use clap::Args;
use policy::audit::SignedSeal;
use proto::v1::{AuditSeal, ExportAuditRequest, GetAuditSealRequest};
use serde::Serialize;

use super::follow::{Place, follow};
use super::line::Line;
use super::list::Moment;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file::Draft;
use crate::output::progress::Unit;
use crate::output::{Report, Sentence, Session, words};

/// Where to, and from when.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// File to write; it appears when it is complete
    #[arg(long, value_name = "FILE", required_unless_present = "follow", conflicts_with = "follow")]
    out: Option<PathBuf>,
    /// Only records since then: a time as RFC 3339, or how long ago, for example 30d
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Go on with what comes, on standard output, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Only what comes after this record: writer and sequence of the last line that is there; once for each broker
    #[arg(long, value_name = "WRITER/SEQUENCE", requires = "follow")]
    after: Vec<Place>,
}

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct SealArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Exported {
    file: String,
    records: usize,
    seals: usize,
}

pub(super) fn from_wire(seal: AuditSeal) -> SignedSeal {
    SignedSeal { payload: seal.payload, signature: seal.signature, certificates: seal.certificates }
}

/// Saves the audit.
pub(super) async fn export(args: ExportArgs, session: &Session) -> Result<Report> {
    let since = Moment::seconds(args.since, session.now());
    let Some(out) = args.out else { return follow(since, &args.after, session).await };
    let mut client = session.patient_client().await?;
    let mut draft = Draft::create(&out, 0o600)?;
    let request = ExportAuditRequest { since, ..ExportAuditRequest::default() };
    let mut chunks = client.export_audit(request).await.map_err(|s| failed(&s))?.into_inner();
    let (mut records, mut seals) = (0, 0);
    let progress = session.progress("saving records", Unit::Things, None);
    while let Some(chunk) = chunks.message().await.map_err(|s| failed(&s))? {
        seals += chunk.seals.len();
        records += chunk.records.len();
        progress.add(chunk.records.len());
        for seal in chunk.seals {
            draft.append(Line::of_seal(from_wire(seal))?.text()?.as_bytes())?;
        }
        for record in chunk.records {
            draft.append(Line::of_record(record)?.text()?.as_bytes())?;
        }
    }
    drop(progress);
    draft.publish()?;
    let file = out.display().to_string();
    let text = format!("{file}: {}, {}", words::count(records, "record"), words::count(seals, "seal"));
    session.report(&Sentence { text, fields: Exported { file, records, seals } })
}

#[derive(Debug, Serialize)]
struct Sealed {
    file: String,
}

/// Saves the newest seal.
pub(super) async fn seal(args: SealArgs, session: &Session) -> Result<Report> {
    let answer = session.client().await?.get_audit_seal(GetAuditSealRequest {}).await;
    let seal = answer.map_err(|s| failed(&s))?.into_inner().seal;
    let none = || Failure::new(Exit::Internal, "the broker sent no seal; update it");
    let line = Line::of_seal(from_wire(seal.ok_or_else(none)?))?;
    crate::file::write(&args.out, line.text()?.as_bytes())?;
    let file = args.out.display().to_string();
    let text = format!("{file}: keep it where the broker's administrators cannot change it");
    session.report(&Sentence { text, fields: Sealed { file } })
}
