//! What a command says: tables for people, versioned JSON for programs, and where it goes.

pub(crate) mod agree;
pub(crate) mod finding;
pub(crate) mod moment;
pub(crate) mod table;
pub(crate) mod words;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use policy::time::UnixTime;
use proto::v1::admin_client::AdminClient;
use serde::Serialize;
use tonic::transport::Channel;

use crate::args::{Format, Global};
use crate::client::{self, Patience};
use crate::clock;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};

/// Version of the JSON shapes: fields are added, never renamed or removed.
pub(crate) const SCHEMA: u32 = 1;

/// How a text is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// The time that ages are counted from.
    pub(crate) now: UnixTime,
    /// Whether standard output is a terminal that wants colour.
    pub(crate) colour: bool,
}

/// Something that can be shown both ways.
pub(crate) trait View: Serialize {
    /// The lines for people.
    fn text(&self, page: &Page) -> String;
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// What every command is given: where the broker is and how to speak.
#[derive(Debug)]
pub(crate) struct Session {
    global: Global,
    page: Page,
}

impl Session {
    /// A session of this process.
    pub(crate) fn new(global: Global) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { global, page: Page { now: clock::now(), colour } }
    }

    /// The time that this command began.
    pub(crate) const fn now(&self) -> UnixTime {
        self.page.now
    }

    /// The page without colour, for what goes to standard error.
    pub(crate) const fn plain_page(&self) -> Page {
        Page { now: self.page.now, colour: false }
    }

    /// Whether programs read the answer.
    pub(crate) fn is_json(&self) -> bool {
        self.global.output == Format::Json
    }

    /// The administrator's context folder.
    pub(crate) fn context(&self) -> Result<Context> {
        Context::open(&self.global)
    }

    /// The administrator's key for golden releases.
    pub(crate) fn release_key(&self) -> Result<PathBuf> {
        Context::release_key(&self.global)
    }

    /// A connection to the broker.
    pub(crate) async fn client(&self) -> Result<AdminClient<Channel>> {
        client::connect(&self.context()?, Patience::Call).await
    }

    /// A connection for streams that take as long as they take.
    pub(crate) async fn patient_client(&self) -> Result<AdminClient<Channel>> {
        client::connect(&self.context()?, Patience::Stream).await
    }

    /// The text of `view` in the chosen format.
    pub(crate) fn render<V: View>(&self, view: &V) -> Result<String> {
        if !self.is_json() {
            return Ok(view.text(&self.page));
        }
        let mut text =
            serde_json::to_string_pretty(&Versioned { schema: SCHEMA, body: view }).map_err(|e| {
                Failure::new(Exit::Internal, format!("the answer cannot be written as JSON: {e}"))
            })?;
        text.push('\n');
        Ok(text)
    }

    /// A report of `view` that ends with success.
    pub(crate) fn report<V: View>(&self, view: &V) -> Result<Report> {
        Ok(Report { stdout: self.render(view)?, stderr: Vec::new(), exit: Exit::Done })
    }
}

/// What is printed when a command ends.
#[derive(Debug)]
pub(crate) struct Report {
    stdout: String,
    stderr: Vec<String>,
    exit: Exit,
}

impl Report {
    /// A text that is the same in every format.
    pub(crate) const fn raw(stdout: String) -> Self {
        Self { stdout, stderr: Vec::new(), exit: Exit::Done }
    }

    /// Ends with another exit code.
    pub(crate) fn ending(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Adds a line on standard error, where scripts do not read it.
    pub(crate) fn aside(mut self, line: impl Into<String>) -> Self {
        self.stderr.push(line.into());
        self
    }

    /// Writes everything. A reader that closed the pipe has read what it wanted.
    pub(crate) fn print(&self) -> Exit {
        for line in &self.stderr {
            eprintln!("{}", words::visible(line));
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(self.stdout.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                eprintln!("touchstone: standard output cannot be written: {error}");
                Exit::Internal
            }
            _ => self.exit,
        }
    }
}

/// A plain sentence with the fields that a program needs.
#[derive(Debug, Serialize)]
pub(crate) struct Sentence<T> {
    #[serde(skip)]
    pub(crate) text: String,
    #[serde(flatten)]
    pub(crate) fields: T,
}

impl<T: Serialize> View for Sentence<T> {
    fn text(&self, _page: &Page) -> String {
        format!("{}\n", words::visible(&self.text))
    }
}

/// The one field of a change that was only asked about.
#[derive(Debug, Serialize)]
pub(crate) struct NotDone {
    dry_run: bool,
}

impl Sentence<NotDone> {
    /// What a change would do.
    pub(crate) const fn would(text: String) -> Self {
        Self { text, fields: NotDone { dry_run: true } }
    }
}

#[cfg(test)]
impl Page {
    /// A page at a fixed time, without colour.
    pub(crate) const fn plain(now: u64) -> Self {
        Self { now: UnixTime(now), colour: false }
    }
}
