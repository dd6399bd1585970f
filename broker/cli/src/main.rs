//! `touchstone`: the administrator's command line.
//!
//! It asks the broker over gRPC with the administrator's certificate, prints tables for people or
//! versioned JSON for programs, and ends with a documented exit code. It keeps no state of its own
//! and decides nothing: what it shows is what the broker answered, or what an offline `inspect` read.

mod args;
mod client;
mod clock;
mod command;
mod context;
mod contexts;
mod exit;
mod failure;
mod file;
mod output;
mod roots;
#[cfg(test)]
mod told;
#[cfg(test)]
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::exit::Exit;
use crate::output::Session;

fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => answer_usage(&error),
    };
    ExitCode::from(exit.code())
}

/// Prints help and version, which are asked for, and usage errors, which are not.
fn answer_usage(error: &clap::Error) -> Exit {
    // A closed pipe leaves nobody to tell.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Usage,
    }
}

fn run(cli: Cli) -> Exit {
    let session = Session::new(cli.global);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("touchstone: the operating system gives no event loop: {error}");
            return Exit::Internal;
        }
    };
    match runtime.block_on(command::run(cli.command, &session)) {
        Ok(report) => report.print(),
        Err(failure) => failure.print(session.format()),
    }
}
