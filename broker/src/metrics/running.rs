//! Sessions that are worked on, and since when.
//!
//! There is no queue before them: who finds no place is told to come again. So what can wait is a session itself,
//! behind others for the processor and the disk; its age says how long.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The sessions of one door. Whoever begins one holds a place, so there are never more than places.
#[derive(Debug, Default)]
pub struct Running(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// A session that is worked on until this is dropped.
#[derive(Debug)]
pub struct Session<'a> {
    running: &'a Running,
    number: u64,
}

impl Running {
    /// One begins.
    pub fn begin(&self) -> Session<'_> {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = begun.next;
        begun.next = number.wrapping_add(1);
        begun.since.insert(number, Instant::now());
        Session { running: self, number }
    }

    /// How many there are, and the age of the oldest.
    pub(super) fn look(&self) -> (usize, Duration) {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Numbers rise, so the first is the oldest.
        let oldest = begun.since.values().next().map_or(Duration::ZERO, Instant::elapsed);
        (begun.since.len(), oldest)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_session_is_the_one_that_began_first() {
        let running = Running::default();
        assert_eq!(running.look(), (0, Duration::ZERO));
        let first = running.begin();
        std::thread::yield_now();
        let second = running.begin();
        let (count, age) = running.look();
        assert!(count == 2 && age > Duration::ZERO);
        let began = Instant::now();
        drop(first);
        let (count, age) = running.look();
        assert!(count == 1 && age >= began.elapsed(), "the second one is left, which began before");
        drop(second);
        assert_eq!(running.look(), (0, Duration::ZERO));
    }
}
