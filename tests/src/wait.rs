//! Waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

/// Time for anything that a test waits for; on an idle machine most of it takes well under a second.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Time within which peers must have acted on a change. What is promised is 5 s, and tests print what it took; they run
/// beside each other, on machines that may be slow, so that they fail at three times as much.
pub const PROMISE: Duration = Duration::from_secs(15);
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
