//! What is written into the audit chain: who did what to whom, and what came of it.
//!
//! The chain itself, its links and its verification live in the store; evidence is never part of an
//! event, its digest is.

use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

/// Longest text of an event in bytes; longer ones are cut.
const MAX_TEXT: usize = 600;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by this broker's clock.
    pub at: UnixTime,
    /// Administrator, device or `broker`.
    pub actor: String,
    /// Verb and object: `device.admit`, `certificate.issue`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// What came of it, for people.
    pub text: String,
}

impl Event {
    /// An event of now.
    #[must_use]
    pub fn new(at: UnixTime, actor: &str, action: &str, subject: &str, text: &str) -> Self {
        let text = text.char_indices().take_while(|(at, _)| *at < MAX_TEXT).map(|(_, c)| c).collect();
        Self { at, actor: actor.to_owned(), action: action.to_owned(), subject: subject.to_owned(), text }
    }

    /// The event as an entry of the chain.
    pub fn entry(&self) -> Vec<u8> {
        // A struct of strings and a number always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
