//! `touchstone inspect`: reads evidence and certificates offline; asks no broker and changes nothing.

mod ek;
mod eventlog;
mod ima;
mod secureboot;

use std::collections::BTreeMap;

use clap::Subcommand;
use policy::tpm::pcr::PcrValues;

use crate::failure::Result;
use crate::output::table::Table;
use crate::output::{Page, Report, Session};

/// What to read.
#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// An EK certificate: whose TPM it says it is, and whether a manufacturer's root vouches for it
    Ek(ek::EkArgs),
    /// A firmware event log: its PCR values, or its events
    Eventlog(eventlog::EventlogArgs),
    /// A measurement list of Linux IMA: its PCR values, templates and violations
    Ima(ima::ImaArgs),
    /// The Secure Boot state that a firmware event log tells in PCR 7: keys, and what vouched for what was started
    Secureboot(secureboot::SecurebootArgs),
}

/// Reads one thing.
pub(crate) fn run(command: InspectCommand, session: &Session) -> Result<Report> {
    match command {
        InspectCommand::Ek(args) => ek::run(&args, session),
        InspectCommand::Eventlog(args) => eventlog::run(&args, session),
        InspectCommand::Ima(args) => ima::run(&args, session),
        InspectCommand::Secureboot(args) => secureboot::run(&args, session),
    }
}

/// PCR values by PCR.
type Pcrs = BTreeMap<u8, String>;

fn pcrs_of(values: &PcrValues) -> Pcrs {
    values.iter().map(|(pcr, value)| (pcr.number(), hex::encode(value.as_bytes()))).collect()
}

fn pcr_table(banks: &BTreeMap<&'static str, Pcrs>, none: &str, page: &Page) -> String {
    let mut table = Table::new(["BANK", "PCR", "VALUE"]);
    for (bank, pcrs) in banks {
        for (pcr, value) in pcrs {
            table.row([(*bank).to_owned(), pcr.to_string(), value.clone()]);
        }
    }
    table.text(none, page.colour)
}
