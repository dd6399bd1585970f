//! What a command says: tables for people, versioned JSON for programs, and where it goes.

pub(crate) mod agree;
pub(crate) mod finding;
pub(crate) mod ics;
pub(crate) mod moment;
pub(crate) mod progress;
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
    one_line: bool,
}

impl Session {
    /// A session of this process.
    pub(crate) fn new(global: Global) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { global, page: Page { now: clock::now(), colour }, one_line: false }
    }

    /// The time that this command began.
    pub(crate) const fn now(&self) -> UnixTime {
        self.page.now
    }

    /// The page without colour, for what goes to standard error.
    pub(crate) const fn plain_page(&self) -> Page {
        Page { now: self.page.now, colour: false }
    }

    /// Whether programs read the answer, as JSON or as YAML.
    pub(crate) fn is_json(&self) -> bool {
        self.global.output != Format::Table
    }

    /// How to answer.
    pub(crate) const fn format(&self) -> Format {
        self.global.output
    }

    /// What every command was given on the command line.
    pub(crate) const fn global(&self) -> &Global {
        &self.global
    }

    /// The same session at a later time; its documents take one line each.
    pub(crate) fn again(&self) -> Self {
        let page = Page { now: clock::now(), colour: self.page.colour };
        Self { global: self.global.clone(), page, one_line: true }
    }

    /// The broker's address, if the command line or the environment names it.
    pub(crate) fn address(&self) -> Option<&str> {
        self.global.address.as_deref()
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
        let versioned = Versioned { schema: SCHEMA, body: view };
        match self.format() {
            Format::Json if self.one_line => {
                serde_json::to_string(&versioned).map(|text| text + "\n").map_err(|e| unwritable(&e))
            }
            format => document(format, &versioned),
        }
    }

    /// A report of `view` that ends with success.
    pub(crate) fn report<V: View>(&self, view: &V) -> Result<Report> {
        Ok(Report { stdout: self.render(view)?, stderr: Vec::new(), exit: Exit::Done })
    }
}

/// `value` for programs: YAML where it is asked for, else JSON, which is the same document.
pub(crate) fn document<T: Serialize>(format: Format, value: &T) -> Result<String> {
    match format {
        Format::Yaml => serde_saphyr::to_string(value).map_err(|e| unwritable(&e)),
        Format::Json | Format::Table | Format::Ics => {
            serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| unwritable(&e))
        }
    }
}

fn unwritable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Internal, format!("the answer cannot be written: {error}"))
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

    /// What standard output would be.
    pub(crate) fn stdout(&self) -> &str {
        &self.stdout
    }

    /// Without what was shown already.
    pub(crate) fn shown(self) -> Self {
        Self { stdout: String::new(), stderr: Vec::new(), exit: self.exit }
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
