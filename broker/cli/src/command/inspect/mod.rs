//! `touchstone inspect`: reads evidence and certificates offline; asks no broker and changes nothing.

mod ek;
mod eventlog;
mod roots;

use clap::Subcommand;

use crate::failure::Result;
use crate::output::{Report, Session};

/// What to read.
#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// An EK certificate: whose TPM it says it is, and whether a manufacturer's root vouches for it
    Ek(ek::EkArgs),
    /// A firmware event log: its PCR values, or its events
    Eventlog(eventlog::EventlogArgs),
    /// Certificates of TPM manufacturers: how many there are in each file, and what cannot be used
    Roots(roots::RootsArgs),
}

/// Reads one thing.
pub(crate) fn run(command: InspectCommand, session: &Session) -> Result<Report> {
    match command {
        InspectCommand::Ek(args) => ek::run(&args, session),
        InspectCommand::Eventlog(args) => eventlog::run(&args, session),
        InspectCommand::Roots(args) => roots::run(&args, session),
    }
}
