//! `touchstone audit verify`: every digest, link and signature, recomputed here.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use policy::audit::{Fault, Found, Seal, SealError, Trail};
use policy::x509::pem;
use proto::v1::ExportAuditRequest;
use serde::Serialize;

use super::export::from_wire;
use super::line::Line;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file;
use crate::output::progress::{Progress, Unit};
use crate::output::{Page, Report, Session, View, words};

/// Longest line of an export: a seal, or a record with what is shown of it.
const MAX_LINE: u64 = 128 * 1024;

/// What to verify, against what.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Export to verify; without it, the broker's own records
    file: Option<PathBuf>,
    /// A seal that was kept elsewhere; may be given several times
    #[arg(long, value_name = "FILE")]
    seal: Vec<PathBuf>,
    /// Plant root, PEM [default: plant-root.pem of the context folder]
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Accept a missing beginning: the file was exported with --since
    #[arg(long)]
    partial: bool,
}

#[derive(Debug, Serialize)]
struct Verified {
    records: u64,
    unsealed: u64,
    seal: u64,
    notes: Vec<String>,
}

impl View for Verified {
    fn text(&self, _page: &Page) -> String {
        let records = words::count(usize::try_from(self.records).unwrap_or(usize::MAX), "record");
        let mut text = format!("The audit is whole: {records} up to seal {}.\n", self.seal);
        if self.unsealed > 0 {
            text.push_str(&format!("{} after it are not sealed: a cut there is not seen.\n", self.unsealed));
        }
        for note in &self.notes {
            text.push_str(&format!("  {}\n", words::visible(note)));
        }
        text
    }
}

/// Verifies.
pub(super) async fn run(args: VerifyArgs, session: &Session) -> Result<Report> {
    let root = root(&args, session)?;
    let mut seals = Vec::new();
    for path in &args.seal {
        match serde_json::from_slice(&file::read(path)?) {
            Ok(Line::Seal(line)) => seals.push(line.seal.verify(&root).map_err(|e| bad_seal(&e))?),
            _ => return Err(Failure::unusable(format!("{}: no seal", path.display()))),
        }
    }
    let found = match &args.file {
        Some(path) => {
            // Twice through the file.
            let bytes = std::fs::metadata(path).ok().map(|found| found.len().saturating_mul(2));
            let progress = session.progress("verifying", Unit::Bytes, bytes);
            offline(path, &root, seals, args.partial, &progress)?
        }
        None => online(session, &root, seals).await?,
    };
    let Found { records, unsealed, seal, notes } = found;
    session.report(&Verified { records, unsealed, seal, notes })
}

fn root(args: &VerifyArgs, session: &Session) -> Result<Vec<u8>> {
    let Some(path) = &args.root else {
        let context = session.context()?;
        let root = context.plant_root.first().map(|root| root.to_vec());
        return root.ok_or_else(|| Failure::unusable("the context has no plant root; name it with --root"));
    };
    let roots = pem::certificates(&file::read(path)?);
    let roots = roots.map_err(|error| Failure::unusable(format!("{}: {error}", path.display())))?;
    let none = || Failure::unusable(format!("{}: holds no certificate", path.display()));
    roots.into_iter().next().ok_or_else(none)
}

fn bad_seal(error: &SealError) -> Failure {
    Failure::new(Exit::Negative, error.to_string())
}

fn broken(fault: &Fault) -> Failure {
    Failure::new(Exit::Negative, format!("the audit is not whole: {fault}"))
        .next("keep this file, the broker's store and the seals for evidence")
}

async fn online(session: &Session, root: &[u8], mut seals: Vec<Seal>) -> Result<Found> {
    let mut client = session.patient_client().await?;
    let mut chunks =
        client.export_audit(ExportAuditRequest::default()).await.map_err(|s| failed(&s))?.into_inner();
    let mut trail: Option<Trail> = None;
    let progress = session.progress("verifying records", Unit::Things, None);
    while let Some(chunk) = chunks.message().await.map_err(|s| failed(&s))? {
        for seal in chunk.seals.into_iter().filter(|_| trail.is_none()) {
            seals.push(from_wire(seal).verify(root).map_err(|e| bad_seal(&e))?);
        }
        progress.add(chunk.records.len());
        for record in chunk.records {
            let trail = trail.get_or_insert_with(|| Trail::new(&seals, false));
            trail.follow(&record).map_err(|fault| broken(&fault))?;
        }
    }
    let trail = trail.unwrap_or_else(|| Trail::new(&seals, false));
    trail.finish().map_err(|fault| broken(&fault))
}

/// Twice through the file: seals may stand anywhere in it.
fn offline(
    path: &Path,
    root: &[u8],
    mut seals: Vec<Seal>,
    partial: bool,
    progress: &Progress,
) -> Result<Found> {
    lines(path, progress, |line, number| {
        let Line::Seal(shown) = &line else { return Ok(()) };
        seals.push(shown.seal.clone().verify(root).map_err(|e| bad_seal(&e))?);
        if Line::of_seal(shown.seal.clone())? == line {
            return Ok(());
        }
        let what = format!("line {number} shows something else than the seal in it: the line was changed");
        Err(Failure::new(Exit::Negative, what))
    })?;
    let mut trail = Trail::new(&seals, partial);
    lines(path, progress, |line, number| {
        let Line::Event(event) = &line else { return Ok(()) };
        let bytes = event.record.clone().into_bytes();
        trail.follow(&bytes).map_err(|fault| broken(&fault))?;
        if Line::of_record(bytes)? == line {
            return Ok(());
        }
        let what = format!("line {number} shows something else than the record in it: the line was changed");
        Err(Failure::new(Exit::Negative, what))
    })?;
    trail.finish().map_err(|fault| broken(&fault))
}

fn lines(path: &Path, progress: &Progress, mut each: impl FnMut(Line, usize) -> Result<()>) -> Result<()> {
    let fault = |error: std::io::Error| Failure::unusable(format!("{}: {error}", path.display()));
    let mut source = BufReader::new(File::open(path).map_err(fault)?);
    let mut number = 0;
    loop {
        let mut text = Vec::new();
        source.by_ref().take(MAX_LINE).read_until(b'\n', &mut text).map_err(fault)?;
        if text.is_empty() {
            return Ok(());
        }
        number += 1;
        progress.add(text.len());
        let line = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(Exit::Negative, format!("{}: line {number} was changed: {error}", path.display()))
        })?;
        each(line, number)?;
    }
}
