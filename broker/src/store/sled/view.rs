//! What readers see: the last durable state, while the committer is already writing the next one.
//!
//! Before the committer changes a key it puts the key's former value into `before`; once the change is
//! durable it clears `before`. A reader asks `before` first, then the tree. It holds the lock for one
//! call, and the committer needs the lock to announce a change, so a call is one snapshot.

use super::super::{Revision, Versioned};
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Lowest byte of a printable key. The store's own records begin below it, out of every reader's sight.
const FIRST_PRINTABLE: &str = "!";

/// Bytes of the version in front of a stored value.
const VERSION_BYTES: usize = size_of::<u64>();

/// A value as it is stored: its version, big-endian, then the value.
pub(super) fn stored(version: Revision, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VERSION_BYTES.saturating_add(value.len()));
    bytes.extend_from_slice(&version.0.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn versioned(bytes: &[u8]) -> Result<Versioned, String> {
    let (version, value) =
        bytes.split_first_chunk::<VERSION_BYTES>().ok_or_else(|| "a stored value is cut short".to_owned())?;
    Ok(Versioned { version: Revision(u64::from_be_bytes(*version)), value: value.to_vec() })
}

/// The value of `key` in `tree`, durable or not.
pub(super) fn read(tree: &::sled::Tree, key: &str) -> Result<Option<Versioned>, String> {
    let found = tree.get(key).map_err(|error| error.to_string())?;
    found.map(|bytes| versioned(&bytes)).transpose()
}

#[derive(Debug)]
struct View {
    tree: ::sled::Tree,
    /// Former values of the keys whose change is not durable yet; `None` for a key that was not there.
    before: BTreeMap<String, Option<Versioned>>,
}

/// The view, shared between readers and the committer.
#[derive(Debug, Clone)]
pub(super) struct SharedView(Arc<RwLock<View>>);

impl SharedView {
    /// A view of `tree`, all of it durable.
    pub(super) fn new(tree: ::sled::Tree) -> Self {
        Self(Arc::new(RwLock::new(View { tree, before: BTreeMap::new() })))
    }

    fn read(&self) -> RwLockReadGuard<'_, View> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a change: until [`SharedView::settle`], readers see these former values. A key that is
    /// announced already keeps the value of its last durable state.
    pub(super) fn shield(&self, former: Vec<(String, Option<Versioned>)>) {
        let mut view = self.write();
        for (key, value) in former {
            view.before.entry(key).or_insert(value);
        }
    }

    /// Everything announced is durable.
    pub(super) fn settle(&self) {
        self.write().before.clear();
    }

    /// Shows another tree, all of it durable.
    pub(super) fn show(&self, tree: ::sled::Tree) {
        *self.write() = View { tree, before: BTreeMap::new() };
    }

    /// The durable value of `key`.
    pub(super) fn get(&self, key: &str) -> Result<Option<Versioned>, String> {
        let view = self.read();
        match view.before.get(key) {
            Some(former) => Ok(former.clone()),
            None => read(&view.tree, key),
        }
    }

    /// The durable records that begin with `prefix` and come after `after`, at most `limit`.
    pub(super) fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Versioned)>, String> {
        let from = prefix.max(FIRST_PRINTABLE);
        let first = match after {
            Some(after) if after >= from => Bound::Excluded(after),
            _ => Bound::Included(from),
        };
        let view = self.read();
        // The first `limit` of two sorted sequences together are among the first `limit` of each.
        let former = view.before.range::<str, _>((first, Bound::Unbounded));
        let mut page: BTreeMap<String, Versioned> = former
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
            .take(limit)
            .collect();
        let mut room = limit;
        for record in view.tree.range::<&str, _>((first, Bound::Unbounded)) {
            let (key, bytes) = record.map_err(|error| error.to_string())?;
            if room == 0 || !key.starts_with(prefix.as_bytes()) {
                break;
            }
            let key = std::str::from_utf8(&key).map_err(|_| "a stored key is not ASCII".to_owned())?;
            if !view.before.contains_key(key) {
                page.insert(key.to_owned(), versioned(&bytes)?);
                room = room.saturating_sub(1);
            }
        }
        Ok(page.into_iter().take(limit).collect())
    }
}
