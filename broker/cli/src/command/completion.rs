//! `touchstone completion SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Result;
use crate::output::Report;

/// Which shell.
#[derive(Debug, Args)]
#[command(after_help = "Example: touchstone completion bash > /etc/bash_completion.d/touchstone")]
pub(crate) struct CompletionArgs {
    /// Shell to complete for
    shell: Shell,
}

/// The script of the shell.
pub(crate) fn run(args: &CompletionArgs) -> Result<Report> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "touchstone", &mut script);
    Ok(Report::raw(String::from_utf8_lossy(&script).into_owned()))
}
