//! `--watch`: the same page again and again, until Ctrl-C.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Format;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output::{Report, Session};

/// How often the page is asked for: fast enough to see a device come, slow enough for a hundred watchers.
const EVERY: Duration = Duration::from_secs(3);
/// Cursor home, erase the page (ECMA-48, CUP and ED).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// For pages that change by themselves.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Watch {
    /// Show it again every few seconds until Ctrl-C; with -o json one line whenever it changed
    #[arg(long)]
    watch: bool,
}

impl Watch {
    /// The page once, or as long as somebody watches.
    pub(crate) async fn show(
        self,
        session: &Session,
        page: impl AsyncFn(&Session) -> Result<Report>,
    ) -> Result<Report> {
        if !self.watch {
            return page(session).await;
        }
        possible(session)?;
        let mut interrupt = signal(SignalKind::interrupt())
            .map_err(|e| Failure::new(Exit::Internal, format!("Ctrl-C cannot be awaited: {e}")))?;
        let mut shown = String::new();
        loop {
            let report = page(&session.again()).await?;
            if report.stdout() != shown {
                report.stdout().clone_into(&mut shown);
                let clear = if session.is_json() { "" } else { CLEAR };
                let mut out = std::io::stdout().lock();
                if write!(out, "{clear}{shown}").and_then(|()| out.flush()).is_err() {
                    // A reader that went away has seen enough.
                    return Ok(report.shown());
                }
            }
            tokio::select! {
                _ = interrupt.recv() => return Ok(report.shown()),
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}

fn possible(session: &Session) -> Result<()> {
    match session.format() {
        Format::Table if !std::io::stdout().is_terminal() => {
            Err(Failure::new(Exit::Usage, "--watch redraws a terminal, and standard output is none")
                .next("say -o json for one line at every change"))
        }
        Format::Yaml => {
            Err(Failure::new(Exit::Usage, "--watch writes one document a line, which YAML has not")
                .next("say -o json"))
        }
        Format::Table | Format::Json | Format::Ics => Ok(()),
    }
}
