//! What a compromised release key takes along.

use std::fmt::Write as _;

use serde::Serialize;

use super::super::groups::Groups;
use crate::output::{Page, View, words};

/// What counts no more with a key, and what that does to devices.
#[derive(Debug, Serialize)]
pub(super) struct Lost {
    /// Releases that count for nothing any more.
    pub(super) void: Vec<String>,
    pub(super) groups: Groups,
    pub(super) running: Vec<String>,
}

impl View for Lost {
    fn text(&self, page: &Page) -> String {
        let mut text = String::new();
        if !self.void.is_empty() {
            let releases = words::visible(&self.void.join(", ")).to_string();
            let _ = writeln!(text, "nothing counts any more of {releases}:\n{}", self.groups.text(page));
        }
        if !self.running.is_empty() {
            let (count, names) = (words::count(self.running.len(), "device"), self.running.join(", "));
            let _ = writeln!(
                text,
                "{count} last proved to run it, and lose their certificates where it is enforced: {}",
                words::visible(&names)
            );
        }
        text
    }
}
