//! One file for each noun: its arguments, its calls, its views.

pub(crate) mod admin;
pub(crate) mod appraise;
pub(crate) mod audit;
pub(crate) mod authority;
pub(crate) mod backup;
pub(crate) mod calendar;
pub(crate) mod change;
pub(crate) mod completion;
pub(crate) mod conduit;
pub(crate) mod context;
pub(crate) mod device;
pub(crate) mod drill;
pub(crate) mod exposure;
pub(crate) mod golden;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod overriding;
pub(crate) mod sbom;
pub(crate) mod status;
mod suggest;
pub(crate) mod token;
mod watch;
pub(crate) mod zone;

use crate::args::{Command, Format};
use crate::exit::Exit;
use crate::failure::{Failure, Lack, Result};
use crate::output::{Report, Session};

/// Runs one command. Where the broker has no such thing, the failure says which one may be meant; where it is older
/// than this program, which version it is.
pub(crate) async fn run(command: Command, session: &Session) -> Result<Report> {
    match answer(command, session).await {
        Err(failure) if failure.lack() == Some(Lack::Thing) => Err(suggest::improve(failure, session).await),
        Err(failure) if failure.lack() == Some(Lack::Call) => Err(suggest::version(failure, session).await),
        answered => answered,
    }
}

async fn answer(command: Command, session: &Session) -> Result<Report> {
    if session.format() == Format::Ics && !matches!(command, Command::Calendar(_)) {
        let what = "only `touchstone calendar` answers with a calendar".to_owned();
        return Err(Failure::new(Exit::Usage, what).next("use -o table, json or yaml"));
    }
    match command {
        Command::Status(args) => status::run(&args, session).await,
        Command::Device(command) => device::run(command, session).await,
        Command::Token(command) => token::run(command, session).await,
        Command::Override(args) => overriding::run(args, session).await,
        Command::Golden(command) => golden::run(command, session).await,
        Command::Sbom(command) => sbom::run(command, session).await,
        Command::Exposure(args) => exposure::run(args, session).await,
        Command::Zone(command) => zone::run(command, session).await,
        Command::Drill(command) => drill::run(command, session).await,
        Command::Conduit(command) => conduit::run(command, session).await,
        Command::Authority(command) => authority::run(command, session).await,
        Command::Admin(command) => admin::run(command, session).await,
        Command::Change(command) => change::run(command, session).await,
        Command::Calendar(args) => calendar::run(&args, session).await,
        Command::Audit(command) => audit::run(command, session).await,
        Command::Backup(args) => backup::backup(args, session).await,
        Command::Restore(args) => backup::restore(args, session).await,
        Command::Appraise(args) => appraise::run(&args, session),
        Command::Inspect(command) => inspect::run(command, session),
        Command::Context(command) => context::run(command, session),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run(&args, session),
    }
}
