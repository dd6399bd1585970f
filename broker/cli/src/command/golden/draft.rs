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
    /// What speaks against what it was made from, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
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
    /// Writes the manifest to `out`, if that is named, and reports it with its notes aside. Warnings stand in the
    /// manifest too, as comments that are gone once it is signed: whoever reviews it must see them.
    pub(super) fn write(mut self, out: Option<&Path>, session: &Session) -> Result<Report> {
        let comments: String = self.warnings.iter().map(|warning| comment(warning)).collect();
        self.manifest.insert_str(0, &comments);
        if let Some(path) = out {
            file::write(path, self.manifest.as_bytes())?;
            self.file = Some(path.display().to_string());
        }
        let report = session.report(&self)?;
        let report =
            self.warnings.into_iter().fold(report, |report, text| report.aside(format!("warning: {text}")));
        Ok(self.notes.into_iter().fold(report, |report, note| report.aside(format!("note: {note}"))))
    }
}

/// A line of TOML that says nothing. A device chose some of the text, so nothing in it may end the line.
fn comment(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# warning: {plain}\n")
}

#[cfg(test)]
mod tests {
    use policy::reference::manifest::Manifest;

    use super::*;

    #[test]
    fn a_comment_is_one_line_whatever_a_device_is_called() {
        let rules = format!(
            "schema = 1\nproduct = \"p\"\nversion = \"1\"\ncounter = 1\n[pcrs.sha256]\n0 = [\"{}\"]\n",
            "ab".repeat(32)
        );
        let text = comment("db: CN=x\r\n[pcrs.sha256]\u{7f}\u{85}\n4 = []") + &rules;
        assert_eq!(Manifest::parse(&text).unwrap(), Manifest::parse(&rules).unwrap());
    }
}
