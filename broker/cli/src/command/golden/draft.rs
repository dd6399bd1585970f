//! The draft of a release, as it is shown or written to be reviewed.

use std::path::Path;

use serde::Serialize;

use crate::failure::Result;
use crate::file;
use crate::output::{Page, Report, Session, View};

/// A manifest that nobody reviewed yet.
#[derive(Debug, Serialize)]
pub(super) struct DraftPage {
    pub(super) manifest: String,
    /// What is to be known about it, one line each.
    pub(super) notes: Vec<String>,
    /// Where it was written.
    pub(super) file: Option<String>,
}

impl View for DraftPage {
    fn text(&self, _page: &Page) -> String {
        match &self.file {
            Some(file) => format!("{file}: review it, then `touchstone golden sign {file}`\n"),
            None => self.manifest.clone(),
        }
    }
}

impl DraftPage {
    /// Writes the manifest to `out`, if that is named, and reports it with its notes aside.
    pub(super) fn write(mut self, out: Option<&Path>, session: &Session) -> Result<Report> {
        if let Some(path) = out {
            file::write(path, self.manifest.as_bytes())?;
            self.file = Some(path.display().to_string());
        }
        let report = session.report(&self)?;
        Ok(self.notes.into_iter().fold(report, |report, note| report.aside(format!("note: {note}"))))
    }
}
