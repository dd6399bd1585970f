//! `touchstone backup` and `touchstone restore`: the broker's whole state as one file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use futures::{Stream, StreamExt, stream};
use proto::v1::{BackupRequest, RestoreChunk, RestoreResponse};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::args::DryRun;
use crate::client::failed;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file::{self, Draft};
use crate::output::progress::Unit;
use crate::output::{Page, Report, Sentence, Session, View, agree, words};

/// Bytes of one message: small against gRPC's default limit of 4 MiB.
const CHUNK: usize = 256 * 1024;

/// Where to.
#[derive(Debug, Args)]
#[command(
    after_help = "The file holds the broker's wrapped keys: it is written readable by its owner only.\nExample: touchstone backup --out plant.backup"
)]
pub(crate) struct BackupArgs {
    /// File to write; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What from.
#[derive(Debug, Args)]
#[command(after_help = "\
A restored backup resurrects nobody: every device must attest again, and unused join tokens end.
Certificates revoked after the backup was made are unknown to it: name their serials with --revoked.
Example: touchstone restore plant.backup --revoked serials.txt")]
pub(crate) struct RestoreArgs {
    /// Backup to restore
    file: PathBuf,
    /// Serials of certificates revoked after the backup was made, hex, one on a line (# begins a comment)
    #[arg(long, value_name = "FILE")]
    revoked: Option<PathBuf>,
    /// Replace the broker's state without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Saved {
    file: String,
    bytes: u64,
}

/// Saves the broker's state.
pub(crate) async fn backup(args: BackupArgs, session: &Session) -> Result<Report> {
    let mut client = session.patient_client().await?;
    let mut draft = Draft::create(&args.out, 0o600)?;
    let mut chunks = client.backup(BackupRequest {}).await.map_err(|s| failed(&s))?.into_inner();
    let mut bytes = 0u64;
    let progress = session.progress("saving", Unit::Bytes, None);
    while let Some(chunk) = chunks.message().await.map_err(|s| failed(&s))? {
        draft.append(&chunk.data)?;
        progress.add(chunk.data.len());
        bytes = bytes.saturating_add(u64::try_from(chunk.data.len()).unwrap_or(u64::MAX));
    }
    if bytes == 0 {
        return Err(Failure::new(Exit::Internal, "the broker sent an empty backup; nothing was written"));
    }
    drop(progress);
    draft.publish()?;
    let file = args.out.display().to_string();
    session.report(&Sentence { text: format!("{file}: {bytes} bytes"), fields: Saved { file, bytes } })
}

/// Replaces the broker's state.
pub(crate) async fn restore(args: RestoreArgs, session: &Session) -> Result<Report> {
    agree::possible(args.yes || args.dry_run.dry_run, "restore", "--dry-run")?;
    let revoked = args.revoked.as_deref().map(read_serials).transpose()?.unwrap_or_default();
    let fault = |e: std::io::Error| Failure::unusable(format!("{}: {e}", args.file.display()));
    let mut source = File::open(&args.file).map_err(fault)?;
    let mut first = read_chunk(&mut source).map_err(fault)?;
    if first.data.is_empty() {
        return Err(Failure::unusable(format!("{}: empty, no backup", args.file.display())));
    }
    if args.dry_run.dry_run {
        let serials = words::count(revoked.len(), "serial");
        let text = format!("would restore {} and keep {serials} revoked", args.file.display());
        return session.report(&Sentence::would(text));
    }
    agree::settle(args.yes, "Replace the broker's state, and end every join token?")?;
    first.revoked_serials = revoked;
    let mut client = session.patient_client().await?;
    let (unreadable, met_unreadable) = oneshot::channel();
    let progress =
        session.progress("restoring", Unit::Bytes, source.metadata().ok().map(|found| found.len()));
    let counted = progress.clone();
    let chunks = chunks(first, source, unreadable).inspect(move |chunk| counted.add(chunk.data.len()));
    let answer = tokio::select! {
        // Dropping the call cancels it, so that the broker never takes half a backup for a whole one.
        Ok(error) = met_unreadable => return Err(fault(error)),
        answer = client.restore(chunks) => answer,
    };
    drop(progress);
    session.report(&Restored::from(answer.map_err(|s| failed(&s))?.into_inner()))
}

/// The backup in messages. A file that cannot be read any more is reported and the stream never ends.
fn chunks(
    first: RestoreChunk,
    source: File,
    unreadable: oneshot::Sender<std::io::Error>,
) -> impl Stream<Item = RestoreChunk> {
    let rest = stream::unfold((source, unreadable), |(mut source, unreadable)| async move {
        match read_chunk(&mut source) {
            Ok(chunk) if chunk.data.is_empty() => None,
            Ok(chunk) => Some((chunk, (source, unreadable))),
            Err(error) => {
                // A receiver that is gone means that the call has ended.
                let _ = unreadable.send(error);
                std::future::pending().await
            }
        }
    });
    stream::once(std::future::ready(first)).chain(rest)
}

fn read_chunk(source: &mut File) -> std::io::Result<RestoreChunk> {
    let mut data = Vec::new();
    source.take(u64::try_from(CHUNK).unwrap_or(u64::MAX)).read_to_end(&mut data)?;
    Ok(RestoreChunk { data, ..RestoreChunk::default() })
}

fn read_serials(path: &Path) -> Result<Vec<String>> {
    let text = file::read_text(path)?;
    let mut serials = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let written = line.split('#').next().unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        let serial = written.replace(':', "").to_ascii_lowercase();
        // RFC 5280, section 4.1.2.2: a serial has at most 20 octets.
        if serial.len() > 40 || !serial.bytes().all(|b| b.is_ascii_hexdigit()) {
            let place = format!("{}: line {}", path.display(), number + 1);
            return Err(Failure::unusable(format!("{place}: `{written}` is no serial number in hex")));
        }
        serials.push(serial);
    }
    Ok(serials)
}

#[derive(Debug, Serialize)]
struct Restored {
    plant_epoch: u64,
    records: u32,
    blobs: u32,
    notes: Vec<String>,
}

impl From<RestoreResponse> for Restored {
    fn from(answer: RestoreResponse) -> Self {
        Self {
            plant_epoch: answer.plant_epoch,
            records: answer.records,
            blobs: answer.blobs,
            notes: answer.notes,
        }
    }
}

impl View for Restored {
    fn text(&self, _page: &Page) -> String {
        let mut text = format!(
            "Restored {} and {}; plant epoch {} begins and every device attests again.\n",
            words::count(usize::try_from(self.records).unwrap_or(usize::MAX), "record"),
            words::count(usize::try_from(self.blobs).unwrap_or(usize::MAX), "evidence file"),
            self.plant_epoch
        );
        for note in &self.notes {
            let _ = writeln!(text, "  {}", words::visible(note));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_read_with_colons_and_comments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked");
        std::fs::write(&path, "# from the audit export\n0A:ff  # press-7\n\n01\n").unwrap();
        assert_eq!(read_serials(&path).unwrap(), ["0aff", "01"]);
        std::fs::write(&path, "01\npress-7\n").unwrap();
        let text = read_serials(&path).unwrap_err().text();
        assert!(text.contains("line 2: `press-7` is no serial"), "{text}");
    }
}
