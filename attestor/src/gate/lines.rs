//! Lines in the log about refused connections, bounded: whoever knocks for ever must not fill the journal.
//!
//! Counts in `status` stay exact; of the lines, each reason has its share, so that noise of one hides no other.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines about one reason in each window.
const MOST: u32 = 10;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);

/// What was written of late, by reason.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<BTreeMap<&'static str, Window>>);

#[derive(Debug)]
struct Window {
    begun: Instant,
    written: u32,
    unwritten: u64,
}

impl Lines {
    /// Whether there is room for a line about `code` now; then, how many were left out since the last one.
    pub(super) fn room(&self, code: &'static str, now: Instant) -> Option<u64> {
        // A window is only counts: none is half changed.
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(code).or_insert(Window { begun: now, written: 0, unwritten: 0 });
        if now.saturating_duration_since(window.begun) >= WINDOW {
            (window.begun, window.written) = (now, 0);
        }
        if window.written >= MOST {
            window.unwritten = window.unwritten.saturating_add(1);
            return None;
        }
        window.written = window.written.saturating_add(1);
        Some(std::mem::take(&mut window.unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_its_share_and_the_next_line_says_how_many_were_left_out() {
        let (lines, begin) = (Lines::default(), Instant::now());
        for _ in 0..MOST {
            assert_eq!(lines.room("late", begin), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(lines.room("late", begin + WINDOW / 2), None);
        }
        assert_eq!(lines.room("no-conduit", begin), Some(0), "noise of one reason hides another");
        assert_eq!(lines.room("late", begin + WINDOW), Some(1000));
        assert_eq!(lines.room("late", begin + WINDOW), Some(0), "told once");
    }
}
