//! Asks a person before something is changed.

use std::io::{BufRead, IsTerminal};

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::words;

/// Whether somebody can be asked. `settled` says that nobody has to be; `instead` is the option that only shows.
pub(crate) fn possible(settled: bool, command: &str, instead: &str) -> Result<()> {
    if settled || (std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(());
    }
    let what = format!("{command} asks before it changes anything, and this is no terminal");
    Err(Failure::new(Exit::Usage, what)
        .next(format!("say --yes to do it without asking, or {instead} to see what it would do")))
}

/// Goes on with a yes that the command line said, or that is said at the terminal now.
pub(crate) fn settle(yes: bool, question: &str) -> Result<()> {
    if yes || ask(question) { Ok(()) } else { Err(Failure::new(Exit::Negative, "nothing was changed")) }
}

/// Asks at the terminal; anything but yes is no.
fn ask(question: &str) -> bool {
    eprint!("{} [y/N] ", words::visible(question));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
