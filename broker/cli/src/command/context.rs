//! `touchstone context`: one administrator, several plants.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::args::DryRun;
use crate::context::ContextFile;
use crate::contexts::{self, Name};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::file::{self, Draft};
use crate::output::table::Table;
use crate::output::{Page, Report, Sentence, Session, View, agree, words};

/// What a context consists of; the last one only engineers have.
const FILES: [&str; 5] = ["context.toml", "plant-root.pem", "admin.pem", "admin.key", "release.key"];
/// The file that not every context has.
const OPTIONAL: &str = "release.key";

/// Verbs of `context`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Every context, and which one is in use
    #[command(after_help = "Example: touchstone context list")]
    List,
    /// Use a context from now on
    Use(NameArgs),
    /// The context in use, or another one
    #[command(after_help = "Example: touchstone context show plant-north")]
    Show {
        /// Name of the context [default: the one in use]
        #[arg(value_parser = Name::parse)]
        name: Option<Name>,
    },
    /// Copy a context folder to the others, under a name
    Add(AddArgs),
    /// Remove a context with its keys
    Remove(RemoveArgs),
}

/// Which one.
#[derive(Debug, Args)]
#[command(after_help = "Example: touchstone context use plant-north")]
pub(crate) struct NameArgs {
    /// Name of the context
    #[arg(value_parser = Name::parse)]
    name: Name,
    #[command(flatten)]
    dry_run: DryRun,
}

/// From where.
#[derive(Debug, Args)]
#[command(after_help = "Example: touchstone context add plant-north /media/stick/admin")]
pub(crate) struct AddArgs {
    /// Name to give it
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// Folder to copy, as `touchstone-broker init` or `touchstone admin accept` made it
    folder: PathBuf,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Which one, in earnest.
#[derive(Debug, Args)]
#[command(after_help = "Example: touchstone context remove plant-north --yes")]
pub(crate) struct RemoveArgs {
    /// Name of the context
    #[arg(value_parser = Name::parse)]
    name: Name,
    /// Remove it, with the administrator's key in it, without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct ContextView {
    name: String,
    current: bool,
    plant: Option<String>,
    address: Option<String>,
    folder: String,
    signs_releases: bool,
}

impl ContextView {
    fn new(name: String, folder: &Path, current: bool) -> Self {
        let written = ContextFile::read(folder).ok();
        let plant = written.as_ref().map(|file| file.plant.to_string());
        let signs_releases = folder.join(OPTIONAL).is_file();
        let address = written.map(|file| file.address);
        Self { name, current, plant, address, folder: folder.display().to_string(), signs_releases }
    }
}

impl View for ContextView {
    fn text(&self, _page: &Page) -> String {
        let value = |value: &Option<String>| words::visible(value.as_deref().unwrap_or("unreadable"));
        let used = if self.current { " (in use)" } else { "" };
        let signs = if self.signs_releases { "yes" } else { "no" };
        format!(
            "context         {}{used}\nplant           {}\nbroker          {}\nfolder          {}\nsigns releases  {signs}\n",
            words::visible(&self.name),
            value(&self.plant),
            value(&self.address),
            words::visible(&self.folder),
        )
    }
}

#[derive(Debug, Serialize)]
struct Contexts {
    contexts: Vec<ContextView>,
}

impl View for Contexts {
    fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["CONTEXT", "USED", "PLANT", "BROKER"]);
        for one in &self.contexts {
            let unreadable = || "unreadable".to_owned();
            table.row([
                one.name.clone(),
                if one.current { "now" } else { "-" }.to_owned(),
                one.plant.clone().unwrap_or_else(unreadable),
                one.address.clone().unwrap_or_else(unreadable),
            ]);
        }
        table.text("no contexts; `touchstone context add NAME DIR` copies one", page.colour)
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    context: String,
    dry_run: bool,
}

/// Runs a verb.
pub(crate) fn run(command: ContextCommand, session: &Session) -> Result<Report> {
    match command {
        ContextCommand::List => list(session),
        ContextCommand::Use(args) => choose(args, session),
        ContextCommand::Show { name } => show(name, session),
        ContextCommand::Add(args) => add(&args, session),
        ContextCommand::Remove(args) => remove(&args, session),
    }
}

fn list(session: &Session) -> Result<Report> {
    let home = contexts::home()?;
    let current = contexts::label(session.global())?;
    let view = |name: Name| {
        let (folder, is_current) = (name.below(&home), name.0 == current);
        ContextView::new(name.0, &folder, is_current)
    };
    session.report(&Contexts { contexts: contexts::all(&home)?.into_iter().map(view).collect() })
}

fn show(name: Option<Name>, session: &Session) -> Result<Report> {
    let current = contexts::label(session.global())?;
    let (name, folder) = match name {
        Some(name) => (name.0.clone(), existing(&name)?),
        None => (current.clone(), contexts::folder(session.global())?),
    };
    // What cannot be read is told by its file and line.
    ContextFile::read(&folder)?;
    let is_current = name == current;
    session.report(&ContextView::new(name, &folder, is_current))
}

fn choose(args: NameArgs, session: &Session) -> Result<Report> {
    existing(&args.name)?;
    if !args.dry_run.dry_run {
        contexts::choose(&contexts::home()?, &args.name)?;
    }
    changed(session, args.name, args.dry_run, "is used from now on", "would be used from now on")
}

fn add(args: &AddArgs, session: &Session) -> Result<Report> {
    let written = ContextFile::read(&args.folder)?;
    let folder = args.name.below(&contexts::home()?);
    if folder.exists() {
        return Err(Failure::new(Exit::Negative, format!("there is a context {} already", args.name.0))
            .next(format!("choose another name, or `touchstone context remove {}` first", args.name.0)));
    }
    if !args.dry_run.dry_run {
        copy(&args.folder, &folder)?;
    }
    let done =
        format!("is a context for {}; `touchstone context use {}` chooses it", written.plant, args.name.0);
    changed(session, args.name.clone(), args.dry_run, &done, "would be a context")
}

/// `context.toml` comes last: a folder without it is no context, so a copy that broke off is none.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let fault = |e: std::io::Error| Failure::unusable(format!("{}: {e}", to.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(fault)?;
    for name in FILES.into_iter().rev() {
        let source = from.join(name);
        if name == OPTIONAL && !source.exists() {
            continue;
        }
        let mut draft = Draft::create(&to.join(name), 0o600)?;
        draft.append(&file::read(&source)?)?;
        draft.publish()?;
    }
    Ok(())
}

fn remove(args: &RemoveArgs, session: &Session) -> Result<Report> {
    let folder = existing(&args.name)?;
    if contexts::chosen(&contexts::home()?)? == args.name.0 {
        return Err(Failure::new(Exit::Negative, format!("{} is in use", args.name.0))
            .next("choose another one first: touchstone context use NAME"));
    }
    agree::possible(args.yes || args.dry_run.dry_run, "context remove", "--dry-run")?;
    if !args.dry_run.dry_run {
        agree::settle(args.yes, &format!("Remove {} with the keys in it?", folder.display()))?;
        let fault = |e: std::io::Error| Failure::unusable(format!("{}: {e}", folder.display()));
        for path in FILES.map(|name| folder.join(name)).iter().filter(|path| path.exists()) {
            fs::remove_file(path).map_err(fault)?;
        }
        // Files that are not a context's own stay, and so does their folder.
        fs::remove_dir(&folder).map_err(fault)?;
    }
    changed(session, args.name.clone(), args.dry_run, "is removed", "would be removed with its keys")
}

fn existing(name: &Name) -> Result<PathBuf> {
    let home = contexts::home()?;
    let folder = name.below(&home);
    if contexts::is_context(&folder) {
        return Ok(folder);
    }
    let known: Vec<String> = contexts::all(&home)?.into_iter().map(|name| name.0).collect();
    let next = match known.as_slice() {
        [] => "`touchstone context add NAME DIR` makes one".to_owned(),
        known => format!("there is {}", known.join(", ")),
    };
    Err(Failure::new(Exit::Negative, format!("there is no context {}", name.0)).next(next))
}

fn changed(session: &Session, name: Name, dry_run: DryRun, done: &str, would: &str) -> Result<Report> {
    let dry_run = dry_run.dry_run;
    let text = format!("{} {}", name.0, if dry_run { would } else { done });
    session.report(&Sentence { text, fields: Changed { context: name.0, dry_run } })
}
