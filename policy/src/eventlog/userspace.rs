//! systemd's log of what it measured: `/run/log/systemd/tpm2-measure.log` (systemd-pcrextend(8)).
//!
//! Its records are CEL-JSON without `recnum`. systemd extends first and logs then, under a lock; if it
//! dies in between it marks the file (sticky bit), extends on and logs no more until the next boot, so
//! an honest log can be shorter than its PCR. Most events extend the hash of `content.string`; others
//! (volume keys, credentials) extend an HMAC, and a long string is logged escaped and cut. So a string
//! counts only where it hashes to the digest, and is decoration elsewhere (checklist row 20).

use serde::Deserialize;

use super::sequence::{Digests, Record, Register, SequenceError, parse};
use crate::tpm::alg::HashAlg;
use crate::tpm::pcr::PcrIndex;

/// What systemd 261 extends into PCRs 0 to 7, 9 and 12 to 14 when the initrd starts, so that nothing
/// later passes for firmware (systemd-pcrosseparator.service).
pub const OS_SEPARATOR: &str = "os-separator";

/// What systemd's records have as `content_type`.
const CONTENT_TYPE: &str = "systemd";

/// A parsed log; nothing of it is proven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserspaceLog {
    events: Vec<UserspaceEvent>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserspaceEvent {
    /// Place in the log, from 0.
    pub position: usize,
    /// What it extends.
    pub register: Register,
    /// What it extends it by.
    pub digests: Digests,
    /// What the record says was measured. Bound only where [`Self::bound_text`] gives it.
    pub text: Option<String>,
    /// systemd's own kind of event: `phase`, `volume-key`, ... Nothing binds it.
    pub kind: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    string: Option<String>,
    #[serde(rename = "eventType")]
    event_type: Option<String>,
}

impl UserspaceLog {
    /// Parses a log, whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, SequenceError> {
        let records = parse::<Content>(bytes, CONTENT_TYPE)?;
        let event = |record: Record<Content>| UserspaceEvent {
            position: record.position,
            register: record.register,
            digests: record.digests,
            text: record.content.string,
            kind: record.content.event_type,
        };
        Ok(Self { events: records.into_iter().map(event).collect() })
    }

    /// All events, in the log's order.
    #[must_use]
    pub fn events(&self) -> &[UserspaceEvent] {
        &self.events
    }

    /// The events that extend `pcr`, in the log's order; those of NV indices never do.
    pub fn of_pcr(&self, pcr: PcrIndex) -> impl Iterator<Item = &UserspaceEvent> {
        self.events.iter().filter(move |event| event.register == Register::Pcr(pcr))
    }
}

impl UserspaceEvent {
    /// The text, if the digest of `bank` is its hash.
    #[must_use]
    pub fn bound_text(&self, bank: HashAlg) -> Option<&str> {
        let text = self.text.as_deref()?;
        (self.digests.of(bank)? == bank.hash(&[text.as_bytes()])).then_some(text)
    }
}
