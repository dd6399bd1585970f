//! Blobs in memory that many ask for: the few logs of devices that boot alike.
//!
//! Promises: never more than [`MAX_BYTES`] of them. Does not promise that one is still stored; whoever names it puts it.

use crate::store::Digest;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes in memory at most.
const MAX_BYTES: usize = 8 << 20;
/// Largest blob that is kept: what only a few could share the memory with is read from where it is.
const MAX_LENGTH: usize = 256 << 10;

/// What was asked for lately.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    blobs: HashMap<Digest, Arc<[u8]>>,
    bytes: usize,
}

impl Recent {
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.held().blobs.get(digest).cloned()
    }

    /// Keeps the blob named `digest`, and begins anew where there is no room.
    pub(super) fn keep(&self, digest: Digest, bytes: &Arc<[u8]>) {
        if bytes.len() > MAX_LENGTH {
            return;
        }
        let mut held = self.held();
        if held.bytes.saturating_add(bytes.len()) > MAX_BYTES {
            *held = Held::default();
        }
        if held.blobs.insert(digest, Arc::clone(bytes)).is_none() {
            held.bytes = held.bytes.saturating_add(bytes.len());
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // What it holds was verified before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_what_is_kept_is_found() {
        let recent = Recent::default();
        let blob = |n: u8| -> (Digest, Arc<[u8]>) {
            let bytes = vec![n; MAX_LENGTH];
            (Digest::of(&bytes), bytes.into())
        };
        for n in 0..100 {
            let (digest, bytes) = blob(n);
            recent.keep(digest, &bytes);
            recent.keep(digest, &bytes);
            assert_eq!(recent.get(&digest), Some(bytes));
            let held = recent.held();
            assert!(held.bytes <= MAX_BYTES);
            assert_eq!(held.bytes, held.blobs.len() * MAX_LENGTH);
        }
        assert_eq!(recent.get(&blob(0).0), None, "there was no room for it");
        let large: Arc<[u8]> = vec![0; MAX_LENGTH + 1].into();
        let digest = Digest::of(&large);
        recent.keep(digest, &large);
        assert_eq!(recent.get(&digest), None);
    }
}
