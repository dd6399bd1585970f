//! What the child does, as a function of how far it came: so the parent knows what must be there.

use broker::store::{Digest, Revision, Txn};
use std::collections::BTreeMap;

/// Tasks that write side by side.
pub(crate) const TASKS: u64 = 4;

/// Records of each kind that a task goes round in.
const SLOTS: u64 = 20;

/// Every so many transactions name a blob.
const BLOB_EVERY: u64 = 16;

/// Records of a restored content.
pub(crate) const RESTORED: u64 = 100;

/// What was acknowledged: the last number of each task, or of the restorer, which is task 0.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    acknowledged: BTreeMap<u64, u64>,
    /// The last number that each gave to the store.
    begun: BTreeMap<u64, u64>,
}

impl Acks {
    /// Takes note of a line that a child says; whether it was an acknowledgement.
    pub(crate) fn hear(&mut self, line: &str) -> bool {
        if let Some(text) = line.strip_prefix("begin ") {
            let (task, number) = numbers(text);
            self.begun.insert(task, number);
        }
        line.strip_prefix("ack ").inspect(|text| self.note(text)).is_some()
    }

    /// Takes note of `<task> <number>`.
    pub(crate) fn note(&mut self, text: &str) {
        let (task, number) = numbers(text);
        self.acknowledged.insert(task, number);
    }

    pub(crate) fn of(&self, task: u64) -> u64 {
        self.acknowledged.get(&task).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.acknowledged.values().sum()
    }

    /// How many had given the store something that was not acknowledged when the child ended; it begins anew.
    pub(crate) fn pending(&mut self) -> usize {
        let begun = std::mem::take(&mut self.begun);
        begun.into_iter().filter(|(task, number)| *number > self.of(*task)).count()
    }
}

fn numbers(text: &str) -> (u64, u64) {
    let (task, number) = text.split_once(' ').unwrap();
    (task.parse().unwrap(), number.parse().unwrap())
}

pub(crate) fn count_key(task: u64) -> String {
    format!("count/{task}")
}

pub(crate) fn slot(task: u64, number: u64, name: &str) -> String {
    format!("slot/{task}/{:02}/{name}", number % SLOTS)
}

/// 40 to 4,000 bytes that no other transaction writes.
fn value(task: u64, number: u64) -> Vec<u8> {
    let length = usize::try_from(40 + number * 397 % 3960).unwrap();
    format!("{task} {number} ").into_bytes().into_iter().cycle().take(length).collect()
}

/// The blob that the transaction names, if it names one.
pub(crate) fn blob(task: u64, number: u64) -> Option<Vec<u8>> {
    number.is_multiple_of(BLOB_EVERY).then(|| value(task, number).repeat(10))
}

pub(crate) fn audit_entry(task: u64, number: u64) -> String {
    format!("{task} {number}")
}

/// Keys the transaction puts, and the one it deletes.
fn writes(task: u64, number: u64) -> (Vec<(String, Vec<u8>)>, String) {
    let mut puts = vec![(count_key(task), number.to_string().into_bytes())];
    for name in ["a", "b", "c"] {
        puts.push((slot(task, number, name), value(task, number)));
    }
    if let Some(blob) = blob(task, number) {
        puts.push((format!("blob/{task}"), Digest::of(&blob).to_string().into_bytes()));
    }
    (puts, slot(task, number + SLOTS / 2, "c"))
}

/// The transaction `number` of `task`, after the one that left its counter at `before`.
pub(crate) fn txn(task: u64, number: u64, before: Option<Revision>) -> Txn {
    let (puts, deleted) = writes(task, number);
    let txn = match before {
        Some(version) => Txn::new().unchanged(count_key(task), version),
        None => Txn::new().absent(count_key(task)),
    };
    let txn = puts.into_iter().fold(txn, |txn, (key, value)| txn.put(key, value));
    txn.delete(deleted).audit(audit_entry(task, number))
}

/// Everything but audit records that `task` has in the store after `count` transactions.
pub(crate) fn expected(task: u64, count: u64) -> BTreeMap<String, Vec<u8>> {
    let mut records = BTreeMap::new();
    for number in 1..=count {
        let (puts, deleted) = writes(task, number);
        records.extend(puts);
        records.remove(&deleted);
    }
    records
}

/// The content that the restore `generation` brings.
pub(crate) fn restored(generation: u64) -> Vec<(String, Vec<u8>)> {
    let record = |number| (format!("record/{number:03}"), value(number, generation));
    let mut content: Vec<_> = (0..RESTORED).map(record).collect();
    content.push(("generation".to_owned(), generation.to_string().into_bytes()));
    content
}
