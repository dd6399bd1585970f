//! Audits to tamper with.

use policy::audit::{AuditRecord, ChainHead, Event, Seal};
use policy::time::UnixTime;

/// The stored bytes of an audit whose starts of broker b1 wrote these numbers of records.
pub(crate) fn audit(starts: &[usize]) -> Vec<Vec<u8>> {
    let mut head: Option<ChainHead> = None;
    let mut stored = Vec::new();
    for (start, records) in starts.iter().enumerate() {
        for number in 0..*records {
            let event = Event::new(UnixTime(7), "ada", "zone.create", "cell-3", &format!("{number}"));
            let writer = format!("b1.{}", start + 1);
            let record = AuditRecord::after(head.as_ref(), &writer, &event.entry());
            let bytes = record.encode();
            head = Some(record.head(&bytes));
            stored.push(bytes);
        }
    }
    stored
}

pub(crate) fn head(bytes: &[u8]) -> ChainHead {
    AuditRecord::parse(bytes).unwrap().head(bytes)
}

/// A seal with this number, of an audit that ends with `last` and begins after `archived`.
pub(crate) fn seal(number: u64, last: &[u8], archived: Option<&[u8]>) -> Seal {
    Seal {
        plant: "plant.example".parse().unwrap(),
        epoch: 1,
        number,
        at: UnixTime(8),
        heads: vec![head(last)],
        archived: archived.map(head).into_iter().collect(),
    }
}
