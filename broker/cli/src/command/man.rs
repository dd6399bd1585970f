//! `touchstone man`: the man pages, made from the same words as `--help`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use serde::Serialize;

use crate::args::Cli;
use crate::failure::{Failure, Result};
use crate::output::{Report, Sentence, Session, words};

/// Where to.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  touchstone man --out /usr/local/share/man/man1 && man touchstone-device-why")]
pub(crate) struct ManArgs {
    /// Folder to write the pages into; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Written {
    folder: String,
    pages: usize,
}

/// Writes one page for each command.
pub(crate) fn run(args: &ManArgs, session: &Session) -> Result<Report> {
    let fault = |e: std::io::Error| Failure::unusable(format!("{}: {e}", args.out.display()));
    fs::create_dir_all(&args.out).map_err(fault)?;
    // `touchstone help device why` is no command of its own.
    let mut tool = Cli::command().disable_help_subcommand(true);
    tool.build();
    let pages = write(&tool, &args.out).map_err(fault)?;
    let folder = args.out.display().to_string();
    let text = format!("{folder}: {}", words::count(pages, "man page"));
    session.report(&Sentence { text, fields: Written { folder, pages } })
}

fn write(command: &clap::Command, folder: &std::path::Path) -> std::io::Result<usize> {
    let page = clap_mangen::Man::new(command.clone());
    page.generate_to(folder)?;
    let mut pages = 1usize;
    for verb in command.get_subcommands() {
        pages = pages.saturating_add(write(verb, folder)?);
    }
    Ok(pages)
}
