//! Refusals on record, so that whoever is refused, or floods the broker, does not fill it.
//!
//! The first refusal of a caller for a reason is an event at once; its repetitions are counted, and told in one event
//! when the interval ends. Who is not proven can call itself anything: of such callers only so many are told apart
//! in an interval, the others are counted together.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use policy::time::UnixTime;

use super::Event;
use crate::plant::Plant;
use crate::session::Refusal;
use crate::store::{MAX_TXN_KEYS, Txn};

/// Seconds over which repetitions are counted.
const INTERVAL: u64 = 600;
/// Callers and reasons that are told apart in an interval: some 70 KB of events in the worst case, 10 MB in a day.
const MOST: usize = 64;
/// Whose refusals are counted together beyond that.
const OTHERS: &str = "others";

/// Who was refused what, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    actor: String,
    action: String,
    reason: &'static str,
}

#[derive(Debug)]
struct Count {
    since: UnixTime,
    last: UnixTime,
    repeated: u64,
}

/// Why a TLS handshake was refused. Nothing that a peer says chooses more than one of these few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The client certificate is not accepted.
    Certificate,
    /// No protocol version or algorithm in common.
    Incompatible,
    /// What was sent is no TLS, or breaks its rules.
    Malformed,
    /// It took too long.
    Timeout,
}

impl HandshakeFault {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::Certificate, Self::Incompatible, Self::Malformed, Self::Timeout];

    /// The fault as events and metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::Incompatible => "INCOMPATIBLE",
            Self::Malformed => "MALFORMED",
            Self::Timeout => "TIMEOUT",
        }
    }
}

/// Who is refused before anybody can know who they are.
const CONNECTION: &str = "connection";

/// Who was refused.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// By a certificate of this plant.
    Proven(&'a str),
    /// As it calls itself.
    Claimed(&'a str),
}

/// Counts refusals, of proven callers apart from the others: no flood drowns what an administrator tried.
#[derive(Debug, Default)]
pub struct Refusals {
    proven: Table,
    claimed: Table,
    handshakes: Table,
}

#[derive(Debug, Default)]
struct Table(Mutex<BTreeMap<Key, Count>>);

impl Refusals {
    /// Puts a refusal on record, at once or counted.
    pub async fn note(&self, plant: &Plant, caller: Caller<'_>, action: &str, refusal: &Refusal) {
        let Some(reason) = reason(refusal) else { return };
        let (table, actor) = match caller {
            Caller::Proven(actor) => (&self.proven, actor),
            Caller::Claimed(actor) => (&self.claimed, actor),
        };
        let event = table.count(plant.now(), actor, action, reason, &refusal.to_string());
        write(plant, &event.into_iter().collect::<Vec<_>>()).await;
    }

    /// Puts a refused TLS handshake on record, at once or counted: at most two events for each fault in an interval.
    pub async fn note_handshake(&self, plant: &Plant, fault: HandshakeFault, text: &str) {
        let event = self.handshakes.count(plant.now(), CONNECTION, "tls.handshake", fault.name(), text);
        write(plant, &event.into_iter().collect::<Vec<_>>()).await;
    }

    /// Writes what was counted in intervals that are over.
    pub(super) async fn flush(&self, plant: &Plant) {
        for table in [&self.proven, &self.claimed, &self.handshakes] {
            write(plant, &table.over(plant.now())).await;
        }
    }
}

impl Table {
    fn count(
        &self,
        now: UnixTime,
        actor: &str,
        action: &str,
        reason: &'static str,
        text: &str,
    ) -> Option<Event> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Key { actor: actor.to_owned(), action: format!("{action}.refused"), reason };
        if counts.len() >= MOST && !counts.contains_key(&key) {
            // By action and reason still, which are few.
            key.actor = OTHERS.to_owned();
        }
        if let Some(count) = counts.get_mut(&key) {
            count.repeated = count.repeated.saturating_add(1);
            count.last = now;
            return None;
        }
        let text = format!("{reason}: {text}");
        let event = Event::new(now, &key.actor, &key.action, &key.actor, &text);
        counts.insert(key, Count { since: now, last: now, repeated: 0 });
        Some(event)
    }

    fn over(&self, now: UnixTime) -> Vec<Event> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back ends an interval too.
        let lasts = |count: &Count| count.since <= now && now.since(count.since) < INTERVAL;
        let mut told = Vec::new();
        counts.retain(|key, count| {
            if !lasts(count) && count.repeated > 0 {
                let Count { since, last, repeated } = count;
                let text = format!("{}: {repeated} more times since {since}, last at {last}", key.reason);
                told.push(Event::new(now, &key.actor, &key.action, &key.actor, &text));
            }
            lasts(count)
        });
        told
    }
}

/// Refusals are on record before they are answered; one that cannot be written is refused all the same.
async fn write(plant: &Plant, events: &[Event]) {
    for step in events.chunks(MAX_TXN_KEYS) {
        let txn = step.iter().fold(Txn::new(), |txn, event| txn.audit(event.entry()));
        if let Err(error) = plant.store.transact(txn).await {
            tracing::error!(%error, "a refusal is not on record");
        }
    }
}

/// The refusal as a word of the wire; none for what is no refusal, or an event already.
#[must_use]
pub const fn reason(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Malformed(_) => Some("MALFORMED"),
        Refusal::EvidenceInvalid(_) => Some("EVIDENCE_INVALID"),
        Refusal::NotAdmitted(_) => Some("NOT_ADMITTED"),
        Refusal::NotEndorsed(_) => Some("NOT_ENDORSED"),
        Refusal::Quarantined { .. } => Some("QUARANTINED"),
        Refusal::Retired(_) => Some("RETIRED"),
        Refusal::Conflict(_) => Some("CONFLICT"),
        Refusal::Version(_) => Some("UNSUPPORTED_VERSION"),
        Refusal::NotPermitted(_) => Some("NOT_PERMITTED"),
        // A lost race or an old challenge: the device begins again.
        Refusal::MustReattest(_) | Refusal::TryLater { .. } | Refusal::NotFound(_) => None,
        // A change that waits for a second person has its own event.
        Refusal::Waits { .. } => None,
        // The event of the attestation says it; and a fault of the broker's own is no refusal.
        Refusal::ReferenceMismatch { .. } | Refusal::ClockSkew(_) | Refusal::Internal(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    #[test]
    fn repetitions_are_one_event_for_each_interval() {
        let refusals = Table::default();
        let note = |at| refusals.count(at, "press-7", "device.attest", "QUARANTINED", "stolen");
        let first = note(NOW).unwrap();
        assert_eq!(
            (first.action.as_str(), first.text.as_str()),
            ("device.attest.refused", "QUARANTINED: stolen")
        );
        for second in 1..100 {
            assert_eq!(note(NOW.plus(second)), None);
        }
        assert_eq!(refusals.over(NOW.plus(INTERVAL - 1)), []);
        let told = refusals.over(NOW.plus(INTERVAL));
        assert_eq!(told.len(), 1);
        assert!(told[0].text.starts_with("QUARANTINED: 99 more times since "), "{}", told[0].text);
        assert_eq!(refusals.over(NOW.plus(INTERVAL)), []);
        assert!(note(NOW.plus(INTERVAL)).is_some(), "a new interval");
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let refusals = Table::default();
        let events = (0..10_000).filter_map(|n| {
            refusals.count(NOW, &format!("device-{n}"), "device.enroll", "NOT_ENDORSED", "no chain")
        });
        assert_eq!(events.count(), MOST + 1);
        let told = refusals.over(NOW.plus(INTERVAL));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].text.contains(&format!("{} more times", 10_000 - MOST - 1)), "{}", told[0].text);
    }
}
