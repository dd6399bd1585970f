//! One reason of an appraisal, as people and programs see it.

use std::fmt::Write as _;

use proto::v1;
use serde::Serialize;

use super::words;

/// What was expected and what was seen, where.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    claim: String,
    pcr: Option<u32>,
    event: Option<u32>,
    event_type: Option<String>,
    subject: Option<String>,
    expected: Vec<String>,
    seen: Option<String>,
    release: Option<String>,
    message: String,
}

impl From<v1::Finding> for Finding {
    fn from(finding: v1::Finding) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            claim: finding.claim,
            pcr: finding.pcr,
            event: finding.event,
            event_type: some(finding.event_type),
            subject: some(finding.subject),
            expected: finding.expected.iter().map(|hex| words::named_hex(hex)).collect(),
            seen: some(words::named_hex(&finding.seen)),
            release: some(finding.release),
            message: finding.message,
        }
    }
}

impl Finding {
    /// The finding as indented lines: where, expected, seen, release.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("  {}\n", words::visible(&self.place()));
        let mut line = |label: &str, value: &str| {
            let _ = writeln!(text, "    {label:<8} {}", words::visible(value));
        };
        if !self.message.is_empty() {
            line("because", &self.message);
        }
        for expected in &self.expected {
            line("expected", expected);
        }
        if self.seen.is_some() || !self.expected.is_empty() {
            line("seen", self.seen.as_deref().unwrap_or("nothing"));
        }
        if let Some(release) = &self.release {
            line("release", release);
        }
        text
    }

    /// One line for a list: where and why.
    pub(crate) fn sentence(&self) -> String {
        match self.message.is_empty() {
            true => self.place(),
            false => format!("{}: {}", self.place(), self.message),
        }
    }

    fn place(&self) -> String {
        let mut parts = Vec::new();
        if let Some(pcr) = self.pcr {
            parts.push(format!("PCR {pcr}"));
        }
        if let Some(event) = self.event {
            let kind = self.event_type.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            parts.push(format!("event {event}{kind}"));
        }
        parts.extend(self.subject.clone());
        if parts.is_empty() {
            parts.push(self.claim.clone());
        }
        parts.join(", ")
    }
}
