//! Buffers that are lent for as long as something is moved, and never across a wait: there are as many as threads.

use std::sync::{Mutex, PoisonError};

/// Most bytes that are moved at once: four whole TLS records.
pub(super) const CHUNK: usize = 64 << 10;
/// Bytes that four records (RFC 8446, section 5.2: 5 + 1 + 16 each), a key update and an alert add.
const OVERHEAD: usize = 1 << 10;

/// What is read, and what becomes of it.
#[derive(Debug)]
pub(super) struct Scratch {
    /// As it is on the network.
    pub(super) sealed: Box<[u8]>,
    /// As local software has it.
    pub(super) plain: Box<[u8]>,
}

/// Buffers that nobody uses.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    /// Lends a buffer. What is in it is of somebody else.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = kept.unwrap_or_else(|| Scratch {
            sealed: vec![0; CHUNK + OVERHEAD].into_boxed_slice(),
            plain: vec![0; CHUNK].into_boxed_slice(),
        });
        let value = work(&mut scratch);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        value
    }
}
