//! One event: who did what to whom, and what came of it. Evidence is never part of it, its digest is.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::time::UnixTime;

/// Longest text of an event in bytes; longer ones are cut.
const MAX_TEXT: usize = 600;
/// Longest event as JSON: as base64, with its links, a record fits the 4 KiB of a stored value.
pub const MAX_ENTRY: usize = 2560;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the broker's clock.
    pub at: UnixTime,
    /// Administrator, device or `broker`.
    pub actor: String,
    /// Object and verb: `device.admit`; with `.refused` behind it, what was refused.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// What came of it, for people.
    pub text: String,
    /// Serials of the certificates that were issued, hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serials: Vec<String>,
    /// The evidence that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
}

impl Event {
    /// An event of now. What a terminal would obey becomes a blank.
    #[must_use]
    pub fn new(at: UnixTime, actor: &str, action: &str, subject: &str, text: &str) -> Self {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let text = text.char_indices().take_while(|(at, _)| *at < MAX_TEXT).map(|(_, c)| plain(c)).collect();
        let (actor, action, subject) = (actor.to_owned(), action.to_owned(), subject.to_owned());
        Self { at, actor, action, subject, text, serials: Vec::new(), evidence: None }
    }

    /// The event with the certificates that were issued and the evidence that earned them.
    #[must_use]
    pub fn issuing(mut self, serials: Vec<String>, evidence: Digest) -> Self {
        (self.serials, self.evidence) = (serials, Some(evidence));
        self
    }

    /// The event as an entry of the chain. Words give way to serials where both do not fit.
    #[must_use]
    pub fn entry(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        let bytes = |event: &Self| serde_json::to_vec(event).unwrap_or_default();
        let whole = bytes(self);
        let over = whole.len().saturating_sub(MAX_ENTRY);
        if over == 0 {
            return whole;
        }
        let kept = self.text.chars().count().saturating_sub(over);
        bytes(&Self { text: self.text.chars().take(kept).collect(), ..self.clone() })
    }

    /// The event in an entry, if it holds one.
    pub fn parse(entry: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_its_bound_and_its_serials() {
        let serials: Vec<String> = (0..40).map(|n| format!("{n:032x}")).collect();
        let text = "\"\\".repeat(600);
        let event = Event::new(UnixTime(1), "press-7", "device.attest", "press-7", &text);
        let event = event.issuing(serials.clone(), Digest::of(b"evidence"));
        let entry = event.entry();
        assert!(entry.len() <= MAX_ENTRY, "{}", entry.len());
        assert_eq!(Event::parse(&entry).unwrap().serials, serials);
        assert_eq!(Event::new(UnixTime(1), "a", "b", "c", "x\u{1b}[2J\n").text, "x [2J ");
    }

    #[test]
    fn an_event_of_an_older_broker_is_read() {
        let old = br#"{"at":1,"actor":"ada","action":"zone.create","subject":"cell-3","text":"made"}"#;
        let event = Event::parse(old).unwrap();
        assert_eq!((event.serials.len(), event.evidence), (0, None));
        assert_eq!(event.entry(), old);
    }
}
