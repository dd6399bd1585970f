//! When something was written, by a clock that nobody sets: this boot, and how long it lasts.
//!
//! A reader of another process sees by it whether the writer still lives, whatever the wall clock shows: one without a battery
//! begins in 1970, and one that is corrected jumps. Time in which the machine sleeps does not count; neither writes then.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::durable;

/// Where the kernel names the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Longest name of a boot in bytes: a UUID and a line end.
const MAX_BOOT_ID: u64 = 64;

/// A moment of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// The kernel's name for the boot; empty where it gives none.
    pub boot: String,
    /// Seconds since it began.
    pub seconds: u64,
}

impl Uptime {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let boot = durable::read_bounded(BOOT_ID.as_ref(), MAX_BOOT_ID).unwrap_or_default();
        let seconds = u64::try_from(clock_gettime(ClockId::Monotonic).tv_sec).unwrap_or(0);
        Self { boot: String::from_utf8_lossy(&boot).trim().to_owned(), seconds }
    }

    /// Later in the same boot.
    #[must_use]
    pub fn plus(&self, seconds: u64) -> Self {
        Self { boot: self.boot.clone(), seconds: self.seconds.saturating_add(seconds) }
    }

    /// Whether `self` is at most `most` seconds before `now`, in the same boot.
    #[must_use]
    pub fn is_within(&self, most: u64, now: &Self) -> bool {
        self.boot == now.boot
            && self.seconds <= now.seconds
            && now.seconds.saturating_sub(self.seconds) <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_moment_ago_in_the_same_boot_is_near() {
        let now = Uptime::now().plus(100);
        assert!(!now.boot.is_empty() && !now.boot.contains('\n'), "{now:?}");
        let ago = |seconds| Uptime { seconds: now.seconds - seconds, ..now.clone() };
        assert!(ago(0).is_within(90, &now) && ago(90).is_within(90, &now));
        assert!(!ago(91).is_within(90, &now));
        let other = Uptime { boot: "another".to_owned(), ..now.clone() };
        assert!(!other.is_within(90, &now), "written before the machine restarted");
        assert!(!now.plus(1).is_within(90, &now), "it cannot be of later");
    }
}
