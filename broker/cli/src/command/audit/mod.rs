//! `touchstone audit`: what was done, decided and refused, and the proof that nobody changed it.

mod export;
mod follow;
mod line;
mod list;
mod verify;

use clap::Subcommand;

use crate::failure::Result;
use crate::output::{Report, Session};

/// Verbs of `audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// The latest events
    #[command(after_help = "Example: touchstone audit list --action golden --since 30d")]
    List(list::ListArgs),
    /// Save the audit as JSON lines, for a SIEM or an archive
    #[command(after_help = "\
Examples:
  touchstone audit export --out audit.jsonl
  touchstone audit export --follow                          what is there and what comes
  touchstone audit export --follow --after a1b2c3d4.7/1042  goes on after the line with this writer and sequence")]
    Export(export::ExportArgs),
    /// Save the newest seal: kept elsewhere, it finds an end that was cut off later
    #[command(after_help = "Example: touchstone audit seal --out seal.json")]
    Seal(export::SealArgs),
    /// Verify the audit here, record by record; exit code 3 if anything was removed, changed or moved
    #[command(after_help = "\
Examples:
  touchstone audit verify --seal seal.json                   the broker's own records
  touchstone audit verify audit.jsonl --root plant-root.pem  a file, without the broker")]
    Verify(verify::VerifyArgs),
}

/// Runs a verb.
pub(crate) async fn run(command: AuditCommand, session: &Session) -> Result<Report> {
    match command {
        AuditCommand::List(args) => list::run(args, session).await,
        AuditCommand::Export(args) => export::export(args, session).await,
        AuditCommand::Seal(args) => export::seal(args, session).await,
        AuditCommand::Verify(args) => verify::run(args, session).await,
    }
}
