//! A transaction: what it expects, what it writes, what it tells the audit chain.

use super::{
    ReadError, Revision,
    chain::AUDIT_PREFIX,
    limit::{LimitError, MAX_AUDIT_ENTRY, MAX_TXN_KEYS, Opaque, bounded_key, bounded_value},
};
use std::{collections::BTreeSet, fmt};
use thiserror::Error;

/// What a transaction expects of a key at the moment it is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// There is no such key.
    Absent,
    /// There is such a key, at whatever version.
    Present,
    /// The key was last written by this revision.
    Version(Revision),
}

impl Expect {
    /// Whether a key that is `found` at this version, or not at all, is as expected.
    fn meets(self, found: Option<Revision>) -> Result<(), Option<Revision>> {
        match (self, found) {
            (Self::Absent, None) | (Self::Present, Some(_)) => Ok(()),
            (Self::Version(wanted), Some(version)) if wanted == version => Ok(()),
            _ => Err(found),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Present => f.write_str("present"),
            Self::Version(version) => write!(f, "at revision {version}"),
        }
    }
}

/// One write of a transaction.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets the key to the value.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removes the key; removing what is not there is no error.
    Delete {
        /// The key.
        key: String,
    },
}

impl Write {
    /// The key that is written.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Values may hold wrapped keys, so only their length is shown.
impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value } => f.debug_tuple("Put").field(key).field(&Opaque(value)).finish(),
            Self::Delete { key } => f.debug_tuple("Delete").field(key).finish(),
        }
    }
}

/// A transaction, built up step by step: `Txn::new().unchanged(key, version).put(key, value).audit(entry)`.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    pub(super) expect: Vec<(String, Expect)>,
    pub(super) writes: Vec<Write>,
    pub(super) audit: Vec<Vec<u8>>,
}

impl Txn {
    /// A transaction that expects and does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects `key` as given.
    #[must_use]
    pub fn expecting(mut self, key: impl Into<String>, expect: Expect) -> Self {
        self.expect.push((key.into(), expect));
        self
    }

    /// Expects that there is no `key`.
    #[must_use]
    pub fn absent(self, key: impl Into<String>) -> Self {
        self.expecting(key, Expect::Absent)
    }

    /// Expects that there is a `key`.
    #[must_use]
    pub fn present(self, key: impl Into<String>) -> Self {
        self.expecting(key, Expect::Present)
    }

    /// Expects that `key` was last written by `version`.
    #[must_use]
    pub fn unchanged(self, key: impl Into<String>, version: Revision) -> Self {
        self.expecting(key, Expect::Version(version))
    }

    /// Sets `key` to `value`.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write::Put { key: key.into(), value: value.into() });
        self
    }

    /// Removes `key`. Keys of the audit chain may be removed, for retention, but never written.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write::Delete { key: key.into() });
        self
    }

    /// Appends `entry` to this broker's audit chain.
    #[must_use]
    pub fn audit(mut self, entry: impl Into<Vec<u8>>) -> Self {
        self.audit.push(entry.into());
        self
    }

    /// Keys that the transaction names and audit entries that it appends, counted generously: what it expects and
    /// writes of one key counts twice.
    pub fn keys(&self) -> usize {
        self.expect.len().saturating_add(self.writes.len()).saturating_add(self.audit.len())
    }

    /// Expects and does what `other` does, too.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.expect.extend(other.expect);
        self.writes.extend(other.writes);
        self.audit.extend(other.audit);
        self
    }

    /// What it expects, key by key.
    pub fn expected(&self) -> impl Iterator<Item = (&str, Expect)> {
        self.expect.iter().map(|(key, expect)| (key.as_str(), *expect))
    }

    /// The transaction as one that keeps every limit of the port.
    pub(super) fn bounded(self) -> Result<BoundedTxn, LimitError> {
        let mut written = BTreeSet::new();
        for write in &self.writes {
            let key = bounded_key(write.key())?;
            if let Write::Put { value, .. } = write {
                bounded_value(key, value)?;
                if key.starts_with(AUDIT_PREFIX) {
                    return Err(LimitError::KeyReserved { key: key.to_owned() });
                }
            }
            if !written.insert(key) {
                return Err(LimitError::WrittenTwice { key: key.to_owned() });
            }
        }
        let mut named = written;
        for (key, _) in &self.expect {
            named.insert(bounded_key(key)?);
        }
        let count = named.len().saturating_add(self.audit.len());
        if count > MAX_TXN_KEYS {
            return Err(LimitError::TooManyKeys { count });
        }
        match self.audit.iter().find(|entry| entry.len() > MAX_AUDIT_ENTRY) {
            Some(entry) => Err(LimitError::AuditTooLong { length: entry.len() }),
            None => Ok(BoundedTxn(self)),
        }
    }
}

/// A transaction that keeps every limit of the port; only [`Txn::bounded`] makes one.
#[derive(Debug)]
pub(super) struct BoundedTxn(Txn);

impl BoundedTxn {
    /// Bytes of the keys and values it writes; audit entries are counted as given.
    pub(super) fn bytes(&self) -> usize {
        let writes = self.0.writes.iter().map(|write| match write {
            Write::Put { key, value } => key.len().saturating_add(value.len()),
            Write::Delete { key } => key.len(),
        });
        writes.chain(self.0.audit.iter().map(Vec::len)).sum()
    }

    /// Keys it expects something of.
    pub(super) fn expected(&self) -> impl Iterator<Item = &str> {
        self.0.expect.iter().map(|(key, _)| key.as_str())
    }

    /// Keys and audit entries, counted as [`Txn::keys`] does.
    pub(super) fn keys(&self) -> usize {
        self.0.keys()
    }

    /// Compares everything the transaction expects with the versions `version_of` finds.
    pub(super) fn compare(
        &self,
        version_of: impl Fn(&str) -> Result<Option<Revision>, ReadError>,
    ) -> Result<&Txn, TxnError> {
        for (key, expect) in &self.0.expect {
            let found = version_of(key).map_err(TxnError::Read)?;
            expect.meets(found).map_err(|found| TxnError::Conflict {
                key: key.clone(),
                expected: *expect,
                found,
            })?;
        }
        Ok(&self.0)
    }
}

/// Why a transaction was not applied. Except for `OutcomeUnknown` and `Undecided`, nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TxnError {
    /// The transaction breaks a limit of the port.
    #[error(transparent)]
    Limit(LimitError),
    /// Somebody else changed a key since it was read.
    #[error("store key {key:?} was expected {expected} but is {}; read it again and decide anew", at(.found))]
    Conflict {
        /// The first key that is not as expected.
        key: String,
        /// What was expected of it.
        expected: Expect,
        /// The version it has, if it is there.
        found: Option<Revision>,
    },
    /// The transaction is of a term that is over.
    #[error("nothing was changed: another broker leads by now, and does this work")]
    Fenced,
    /// A key the transaction expects something of could not be read.
    #[error(transparent)]
    Read(ReadError),
    /// An audit entry could not be written as a record.
    #[error("the audit chain cannot take the entry ({why}); this is a defect, report it")]
    Audit {
        /// What the codec said.
        why: String,
    },
    /// An earlier failure stopped the store.
    #[error("nothing was changed, the store stopped writing ({why}); check the disk, restart the broker")]
    Poisoned {
        /// The failure that stopped it.
        why: String,
    },
    /// The cluster that the store is on did not answer.
    #[error("nothing was changed ({why}); check that etcd runs and that this machine reaches it")]
    Away {
        /// What the backend said.
        why: String,
    },
    /// The cluster that the store is on was sent the transaction, and did not answer.
    #[error(
        "whether the change was kept is not known ({why}); check that etcd runs, then look before doing it again"
    )]
    Undecided {
        /// What the backend said.
        why: String,
    },
    /// Writing failed on the way: the next start shows whether the transaction was kept, whole or not at all.
    #[error("the store failed while writing ({why}); check the disk, then restart the broker")]
    OutcomeUnknown {
        /// What the backend said.
        why: String,
    },
}

fn at(found: &Option<Revision>) -> String {
    match found {
        Some(version) => Expect::Version(*version).to_string(),
        None => Expect::Absent.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value() {
        let shown = format!("{:?}", Txn::new().put("key/a", "wrapped secret"));
        assert!(shown.contains("key/a") && shown.contains("14 bytes"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn conflict_names_key_expected_and_found() {
        let txn = Txn::new().present("a").unchanged("b", Revision(4)).bounded().unwrap();
        let error = txn.compare(|_| Ok(Some(Revision(7)))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "store key \"b\" was expected at revision 4 but is at revision 7; read it again and decide anew"
        );
    }
}
