//! The lines of an export: one JSON object each, an event or a seal.
//!
//! What a line shows of an event is made from the stored record in it, and a verifier makes it again, so a word
//! that was changed in the line alone is found too.

use policy::audit::{AuditRecord, Event, Seal, SignedSeal};
use policy::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::failure::{Failure, Result};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Line {
    /// An event.
    Event(Box<EventLine>),
    /// A seal.
    Seal(SealLine),
}

/// An event, and the record that carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EventLine {
    time: Option<String>,
    broker: String,
    writer: String,
    sequence: u64,
    actor: String,
    action: String,
    subject: String,
    text: String,
    #[serde(default)]
    serials: Vec<String>,
    #[serde(default)]
    evidence: Option<Digest>,
    digest: Digest,
    previous: Option<Digest>,
    /// As stored and hashed.
    pub(super) record: String,
}

/// A seal, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SealLine {
    time: String,
    number: u64,
    #[serde(flatten)]
    pub(super) seal: SignedSeal,
}

impl Line {
    /// The line of a stored record.
    pub(super) fn of_record(bytes: Vec<u8>) -> Result<Self> {
        let fault = |why: String| Failure::new(Exit::Negative, format!("a record was changed: {why}"));
        let record = AuditRecord::parse(&bytes).map_err(|error| fault(error.to_string()))?;
        let digest = Digest::of(&bytes);
        let text = String::from_utf8(bytes).map_err(|error| fault(error.to_string()))?;
        // What holds no event is exported all the same: it is part of the chain.
        let event = Event::parse(&record.entry).ok();
        let broker = record.place().map(|(broker, _)| broker.to_owned()).unwrap_or_default();
        let word = |of: fn(&Event) -> &String| event.as_ref().map(of).cloned().unwrap_or_default();
        Ok(Self::Event(Box::new(EventLine {
            time: event.as_ref().map(|event| event.at.to_string()),
            broker,
            actor: word(|event| &event.actor),
            action: word(|event| &event.action),
            subject: word(|event| &event.subject),
            text: word(|event| &event.text),
            serials: event.as_ref().map(|event| event.serials.clone()).unwrap_or_default(),
            evidence: event.as_ref().and_then(|event| event.evidence),
            writer: record.writer,
            sequence: record.sequence,
            digest,
            previous: record.follows.map(|head| head.digest),
            record: text,
        })))
    }

    /// The line of a seal.
    pub(super) fn of_seal(seal: SignedSeal) -> Result<Self> {
        let read: Seal = serde_json::from_str(&seal.payload)
            .map_err(|error| Failure::new(Exit::Negative, format!("a seal cannot be read: {error}")))?;
        Ok(Self::Seal(SealLine { time: read.at.to_string(), number: read.number, seal }))
    }

    /// The line as text, with its end.
    pub(super) fn text(&self) -> Result<String> {
        let internal = |error: serde_json::Error| Failure::new(Exit::Internal, error.to_string());
        serde_json::to_string(self).map(|text| format!("{text}\n")).map_err(internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::time::UnixTime;

    #[test]
    fn a_line_is_what_its_record_says() {
        let event = Event::new(UnixTime(60), "ada", "zone.create", "cell-3", "made");
        let bytes = AuditRecord::after(None, "b1.1", &event.entry()).encode();
        let line = Line::of_record(bytes.clone()).unwrap();
        let text = line.text().unwrap();
        assert!(text.starts_with(r#"{"type":"event","time":"1970-01-01T00:01:00Z","broker":"b1""#), "{text}");
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        let forged: Line =
            serde_json::from_str(&text.replacen("\"actor\":\"ada\"", "\"actor\":\"eve\"", 1)).unwrap();
        assert_ne!(forged, Line::of_record(bytes).unwrap());
    }
}
