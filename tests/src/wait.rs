//! Waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

/// Time for anything that a test waits for; on an idle machine most of it takes well under a second.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Time within which peers act on a change, as is promised.
const PROMISED: Duration = Duration::from_secs(5);
/// Tests run beside each other, on machines that may be slow, so that they fail at twice as much.
const GIVEN: Duration = Duration::from_secs(10);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(25);

/// Waits until `look` finds something, and panics with what it saw last when that takes too long.
pub fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    until_within(DEADLINE, what, look)
}

/// The same for what takes longer.
pub fn until_within<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let give_up = Instant::now() + deadline;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > give_up => panic!("gave up waiting: {what}; last seen: {seen}"),
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Says how long peers took to act on a change, and whether that is what is promised.
pub fn in_time(what: &str, took: Duration) {
    let kept = if took <= PROMISED { "kept" } else { "MISSED" };
    println!("measured: {what} after {:.1} s (promised: {PROMISED:?}; {kept})", took.as_secs_f64());
    assert!(took < GIVEN, "{what}: {took:?}");
}
