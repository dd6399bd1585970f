//! Walks records in the order of broker, start and number, against seals, in memory that grows with the
//! number of seals and brokers only.
//!
//! The first thing that is wrong ends the walk. A restore from a backup is not wrong: the chain says itself,
//! with its event, that what came between the backup and it was replaced, and the walk reports where.

use std::collections::BTreeMap;

use super::event::Event;
use super::record::{AuditRecord, ChainHead, RecordError};
use super::seal::Seal;
use crate::digest::Digest;

/// The action of the event by which a start may begin after records that are not there.
const RESTORE: &str = "plant.restore";
/// A restore's event is among this many first records of its start: others may be faster by some.
const RESTORE_WITHIN: u64 = 100;

/// What is wrong, and with which record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no record.
    #[error("after {after}: a record was changed: {why}")]
    Unreadable {
        /// The record before it.
        after: String,
        /// Why.
        why: RecordError,
    },
    /// Records are not there, but later ones are.
    #[error("record {0} is missing: it was removed, and perhaps others after it")]
    Missing(Place),
    /// A record that was there already, or comes too late.
    #[error("record {0} was repeated or moved: it comes after {1}")]
    Misplaced(Place, Place),
    /// The next record, or a seal, names another digest.
    #[error("record {0} was changed, says {1}")]
    Changed(Place, Witness),
    /// The first record is not the one that the newest seal says the audit begins with.
    #[error(
        "the records of {broker} begin with {first}, but the audit begins {begins}: its beginning was cut off; \
         if it was exported with --since, say --partial"
    )]
    NoBeginning {
        /// The broker.
        broker: String,
        /// The first record that is there.
        first: Place,
        /// Where it should begin, in words.
        begins: String,
    },
    /// A record that a seal names is not there.
    #[error(
        "record {place} is missing, which seal {seal} names: the end was cut off, or an older state put back"
    )]
    Truncated {
        /// The record.
        place: Place,
        /// The seal's number.
        seal: u64,
    },
    /// There is no seal.
    #[error("there is no seal, so nothing says where the audit ends; give one with --seal")]
    NoSeal,
    /// There are records of no broker that the newest seal knows, or none at all.
    #[error("there are no records")]
    Empty,
}

/// A record by its writer and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `<broker>.<start>`.
    pub writer: String,
    /// Its number.
    pub sequence: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of writer {}", self.sequence, self.writer)
    }
}

impl From<&ChainHead> for Place {
    fn from(head: &ChainHead) -> Self {
        Self { writer: head.writer.clone(), sequence: head.sequence }
    }
}

/// Who says that a record was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witness {
    /// The record after it.
    Successor(Place),
    /// A seal.
    Seal(u64),
}

impl std::fmt::Display for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Successor(place) => write!(f, "record {place}"),
            Self::Seal(number) => write!(f, "seal {number}"),
        }
    }
}

/// What a walk found that is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Records.
    pub records: u64,
    /// Of them, those that no seal covers: nothing speaks for the last of them.
    pub unsealed: u64,
    /// Number of the newest seal.
    pub seal: u64,
    /// Restores and beginnings, in words.
    pub notes: Vec<String>,
}

/// How far a broker's chain was walked.
#[derive(Debug)]
struct Walk {
    start: u64,
    head: ChainHead,
    gap: Option<Gap>,
    /// Records since the last that a seal names. A seal speaks for the chain that it names, not for another broker's.
    unsealed: u64,
}

/// A start that does not begin where the one before ended: wrong, unless it says that it was a restore.
#[derive(Debug)]
struct Gap {
    fault: Fault,
    note: String,
}

/// A walk over records.
#[derive(Debug)]
pub struct Trail {
    /// Digests and numbers of seals by the record they name, as far as it did not come yet.
    marks: BTreeMap<Place, Vec<(Digest, u64)>>,
    newest: Option<Seal>,
    partial: bool,
    walks: BTreeMap<String, Walk>,
    found: Found,
}

impl Trail {
    /// A walk against verified `seals`. `partial` accepts a beginning that is cut off, by `--since`.
    #[must_use]
    pub fn new(seals: &[Seal], partial: bool) -> Self {
        let newest = seals.iter().max_by_key(|seal| (seal.epoch, seal.number)).cloned();
        let mut marks: BTreeMap<Place, Vec<(Digest, u64)>> = BTreeMap::new();
        for seal in seals {
            for head in seal.heads.iter().chain(&seal.archived) {
                marks.entry(Place::from(head)).or_default().push((head.digest, seal.number));
            }
        }
        let found = Found { seal: newest.as_ref().map_or(0, |seal| seal.number), ..Found::default() };
        Self { marks, newest, partial, walks: BTreeMap::new(), found }
    }

    /// Takes the next record as it is stored.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<AuditRecord, Fault> {
        let last = self.walks.values().last().map(|walk| Place::from(&walk.head).to_string());
        let after = || last.unwrap_or_else(|| "the beginning".to_owned());
        let record = AuditRecord::parse(bytes).map_err(|why| Fault::Unreadable { after: after(), why })?;
        let head = record.head(bytes);
        let Some((broker, start)) = head.place() else { return Err(Fault::Missing(Place::from(&head))) };
        let before = self.walks.get(broker).map_or(0, |walk| walk.unsealed);
        let mut gap = self.links(&record, &head, broker, start)?;
        if record.sequence <= RESTORE_WITHIN && restores(&record) {
            self.found.notes.extend(gap.take().map(|gap| gap.note));
        }
        // What comes before a sealed record is sealed with it.
        let unsealed = if self.sealed(&head)? { 0 } else { before.saturating_add(1) };
        self.found.records = self.found.records.saturating_add(1);
        self.walks.insert(broker.to_owned(), Walk { start, head: head.clone(), gap, unsealed });
        Ok(record)
    }

    /// Whether the record follows what its broker wrote before; the gap of its start, if there is one.
    fn links(
        &mut self,
        record: &AuditRecord,
        head: &ChainHead,
        broker: &str,
        start: u64,
    ) -> Result<Option<Gap>, Fault> {
        let Some(mut walk) = self.walks.remove(broker) else { return self.begins(record, broker) };
        if walk.head.writer == record.writer {
            follows(&walk.head, record)?;
            return Ok(walk.gap.take());
        }
        if walk.start >= start {
            return Err(Fault::Misplaced(Place::from(head), Place::from(&walk.head)));
        }
        match walk.gap {
            Some(gap) => Err(gap.fault),
            None => continues(&walk.head, record),
        }
    }

    /// The last record of `broker` so far.
    #[must_use]
    pub fn head(&self, broker: &str) -> Option<&ChainHead> {
        self.walks.get(broker).map(|walk| &walk.head)
    }

    /// Whether the first record of a broker is the one it must be.
    fn begins(&mut self, record: &AuditRecord, broker: &str) -> Result<Option<Gap>, Fault> {
        let mut archived = self.newest.iter().flat_map(|seal| &seal.archived);
        let archived = archived.find(|head| head.place().is_some_and(|(of, _)| of == broker));
        let whole = match archived {
            Some(head) => record.follows.as_ref() == Some(head) && next(head, record),
            None => record.sequence == 1 && record.follows.is_none(),
        };
        let before = record.follows.as_ref().map(Place::from);
        let note = before.map(|before| format!("the records of {broker} begin after record {before}"));
        let mut gap = None;
        if whole || self.partial {
            self.found.notes.extend(note);
        } else {
            let begins = match archived {
                Some(head) => format!("after record {}", Place::from(head)),
                None => "with the first record of its first start".to_owned(),
            };
            let first = Place { writer: record.writer.clone(), sequence: record.sequence };
            let fault = Fault::NoBeginning { broker: broker.to_owned(), first, begins };
            if archived.is_some() || record.sequence != 1 {
                return Err(fault);
            }
            gap = Some(Gap { fault, note: note.unwrap_or_default() });
        }
        // What came before is not here, and the link to it is all that speaks of it.
        self.marks.retain(|place, _| !precedes(place, record));
        Ok(gap)
    }

    /// Whether a seal names the record.
    fn sealed(&mut self, head: &ChainHead) -> Result<bool, Fault> {
        let place = Place::from(head);
        let Some(marks) = self.marks.remove(&place) else { return Ok(false) };
        if let Some((_, seal)) = marks.iter().find(|(digest, _)| *digest != head.digest) {
            return Err(Fault::Changed(place, Witness::Seal(*seal)));
        }
        Ok(true)
    }

    /// Ends the walk: every record that a seal names must have come.
    pub fn finish(mut self) -> Result<Found, Fault> {
        if self.newest.is_none() {
            return Err(Fault::NoSeal);
        }
        if self.walks.is_empty() {
            return Err(Fault::Empty);
        }
        self.found.unsealed = self.walks.values().fold(0, |sum, walk| sum.saturating_add(walk.unsealed));
        if let Some(gap) = self.walks.into_values().find_map(|walk| walk.gap) {
            return Err(gap.fault);
        }
        match self.marks.into_iter().next() {
            Some((place, marks)) => {
                let seal = marks.first().map_or(0, |(_, seal)| *seal);
                Err(Fault::Truncated { place, seal })
            }
            None => Ok(self.found),
        }
    }
}

/// Whether `place` is of the broker of `record` and before it.
fn precedes(place: &Place, record: &AuditRecord) -> bool {
    let start = |writer: &str| {
        let (broker, start) = writer.rsplit_once('.')?;
        Some((broker.to_owned(), start.parse::<u64>().ok()?))
    };
    match (start(&place.writer), start(&record.writer)) {
        (Some((of, before)), Some((broker, start))) => {
            of == broker && (before, place.sequence) < (start, record.sequence)
        }
        _ => false,
    }
}

fn next(head: &ChainHead, record: &AuditRecord) -> bool {
    let sequence = if head.writer == record.writer { head.sequence.saturating_add(1) } else { 1 };
    record.sequence == sequence
}

/// Verifies that `record` follows `head`, which the same start wrote.
fn follows(head: &ChainHead, record: &AuditRecord) -> Result<(), Fault> {
    let place = Place { writer: record.writer.clone(), sequence: record.sequence };
    let due = head.sequence.saturating_add(1);
    if record.sequence < due {
        return Err(Fault::Misplaced(place, Place::from(head)));
    }
    if record.sequence > due {
        return Err(Fault::Missing(Place { writer: head.writer.clone(), sequence: due }));
    }
    if record.follows.as_ref() != Some(head) {
        return Err(Fault::Changed(Place::from(head), Witness::Successor(place)));
    }
    Ok(())
}

/// Verifies that `record` begins a later start after `head`; the gap between them, if there is one.
fn continues(head: &ChainHead, record: &AuditRecord) -> Result<Option<Gap>, Fault> {
    let place = Place { writer: record.writer.clone(), sequence: record.sequence };
    if record.sequence != 1 {
        return Err(Fault::Missing(Place { writer: record.writer.clone(), sequence: 1 }));
    }
    let changed = || Fault::Changed(Place::from(head), Witness::Successor(place.clone()));
    match &record.follows {
        Some(named) if named == head => Ok(None),
        Some(named) if Place::from(named) != Place::from(head) => {
            let (from, to) = (Place::from(head), Place::from(named));
            let note = format!("a restore replaced what came after record {from} and up to {to}");
            Ok(Some(Gap { fault: Fault::Missing(to), note }))
        }
        Some(_) | None => Err(changed()),
    }
}

fn restores(record: &AuditRecord) -> bool {
    Event::parse(&record.entry).is_ok_and(|event| event.action == RESTORE)
}
