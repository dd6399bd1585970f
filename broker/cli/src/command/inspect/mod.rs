//! `touchstone inspect`: reads evidence and certificates offline; asks no broker and changes nothing.

mod ek;
mod eventlog;
mod secureboot;

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
    /// The Secure Boot state that a firmware event log tells in PCR 7: keys, and what vouched for what was started
    Secureboot(secureboot::SecurebootArgs),
}

/// Reads one thing.
pub(crate) fn run(command: InspectCommand, session: &Session) -> Result<Report> {
    match command {
        InspectCommand::Ek(args) => ek::run(&args, session),
        InspectCommand::Eventlog(args) => eventlog::run(&args, session),
        InspectCommand::Secureboot(args) => secureboot::run(&args, session),
    }
}
