//! The pure core that every backend shares: what a transaction changes, given what is stored.
//!
//! Promises: no I/O; a backend that applies a [`Commit`] whole keeps the promises of the port.

use super::{
    ChainHead, Revision, TxnError,
    chain::{self, BrokerId},
    limit::{LimitError, bounded_key, bounded_value},
    record::Record,
    txn::{BoundedTxn, Write},
};
use super::{MAX_REVISION, ReadError, ReplaceError};
use serde::{Deserialize, Serialize};

/// Where the store stands: its revision, and the audit chain it writes. Stored with every transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Revision of the last transaction.
    pub(super) revision: Revision,
    /// Number of the start that wrote it: each open and each restore begins a new one.
    pub(super) start: u64,
    /// The audit record written last.
    pub(super) head: Option<ChainHead>,
}

impl Record for Position {
    const VERSION: u32 = 1;
    const KIND: &'static str = "store position";
}

/// What a transaction changes: apply it whole, together with the new position.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) position: Position,
    /// New value of each key, or `None` if it is removed.
    pub(super) writes: Vec<(String, Option<Vec<u8>>)>,
}

impl Position {
    /// Where a broker stands at the beginning of a content that is not the one it wrote to, at `revision`.
    ///
    /// The new chain follows the head of the replaced content, which shows that a restore cut the chain
    /// there; a store that had none yet goes on from the restored one. Its start number is above both, so
    /// it never continues a chain that is in the restored content.
    pub(super) fn succeeded(&self, revision: Revision, inherited: Option<(u64, ChainHead)>) -> Self {
        let (inherited_start, inherited) = inherited.unzip();
        Self {
            revision,
            start: self.start.max(inherited_start.unwrap_or(0)).saturating_add(1),
            head: self.head.clone().or(inherited),
        }
    }
}

/// Prepares commits, one after another.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    broker: BrokerId,
    position: Position,
}

impl Journal {
    /// Begins the next start of `broker` on a store that stands at `position`.
    pub(super) fn open(broker: BrokerId, position: Position) -> Self {
        let start = position.start.saturating_add(1);
        Self { broker, position: Position { start, ..position } }
    }

    /// Goes on with the start of `broker` that stands at `position`.
    pub(super) fn resume(broker: BrokerId, position: Position) -> Self {
        Self { broker, position }
    }

    /// Where the store stands.
    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// What `txn` changes, or why it must not be applied. `version_of` reads the store as all prepared
    /// commits left it.
    pub(super) fn prepare(
        &self,
        txn: &BoundedTxn,
        version_of: impl Fn(&str) -> Result<Option<Revision>, ReadError>,
    ) -> Result<Commit, TxnError> {
        let txn = txn.compare(version_of)?;
        let mut writes: Vec<_> = txn.writes.iter().cloned().map(key_and_value).collect();
        let writer = chain::writer(&self.broker, self.position.start);
        let mut head = self.position.head.clone();
        for entry in &txn.audit {
            let appended = chain::append(&writer, head.as_ref(), entry)
                .map_err(|error| TxnError::Audit { why: error.to_string() })?;
            writes.push((appended.key, Some(appended.value)));
            head = Some(appended.head);
        }
        let position = Position { revision: self.position.revision.next(), head, ..self.position };
        Ok(Commit { position, writes })
    }

    /// The backend applied what led to `position`.
    pub(super) fn adopt(&mut self, position: Position) {
        self.position = position;
    }

    /// Begins to replace the whole content.
    pub(super) fn replace(&self, past: Revision) -> Result<Replacement, ReplaceError> {
        if past.0 > MAX_REVISION {
            return Err(ReplaceError::PastTooHigh { past });
        }
        let revision = self.position.revision.max(past).next();
        Ok(Replacement { broker: self.broker.clone(), revision, inherited: None })
    }

    /// Where the store stands once `replacement` took the place of its content.
    pub(super) fn replaced(&self, replacement: Replacement) -> Position {
        self.position.succeeded(replacement.revision, replacement.inherited)
    }
}

fn key_and_value(write: Write) -> (String, Option<Vec<u8>>) {
    match write {
        Write::Put { key, value } => (key, Some(value)),
        Write::Delete { key } => (key, None),
    }
}

/// A restore under way: bounds its records and remembers the last chain of this broker among them.
#[derive(Debug)]
pub(super) struct Replacement {
    broker: BrokerId,
    /// The version of every restored record.
    pub(super) revision: Revision,
    inherited: Option<(u64, ChainHead)>,
}

impl Replacement {
    /// Takes note of a restored record, if it keeps the limits.
    pub(super) fn note(&mut self, key: &str, value: &[u8]) -> Result<(), LimitError> {
        bounded_value(bounded_key(key)?, value)?;
        let order = |found: &(u64, ChainHead)| (found.0, found.1.sequence);
        if let Some(found) = chain::head_at(&self.broker, key, value)
            && self.inherited.as_ref().is_none_or(|known| order(known) < order(&found))
        {
            self.inherited = Some(found);
        }
        Ok(())
    }
}
