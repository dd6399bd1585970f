//! What software has been shown, and when it must be shown something else.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use policy::time::UnixTime;

/// How often the clock is looked at while an edge of a conduit's hours is awaited, and how soon what could not be
/// delivered is tried again.
const LOOK: Duration = Duration::from_secs(60);

/// The second as of which software has everything that the state holds; nothing while it does not.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Option<UnixTime>>);

impl Shown {
    /// Software has everything as of `at`, or (None) not everything.
    pub(super) fn set(&self, at: Option<UnixTime>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// As of when it has everything.
    pub(super) fn as_of(&self) -> Option<UnixTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long until software must be shown something without any word from the broker; None: never. `next_edge` is the
/// first second after one at which a conduit opens or closes.
///
/// It is counted from what software was shown, not from now: an edge in the second in which something else happened is
/// not passed over.
pub(super) fn next_look(
    shown: Option<UnixTime>,
    now: UnixTime,
    next_edge: impl FnOnce(UnixTime) -> Option<UnixTime>,
) -> Option<Duration> {
    let Some(shown) = shown else { return Some(LOOK) };
    let edge = next_edge(shown.min(now))?;
    Some(LOOK.min(Duration::from_secs(edge.since(now))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: UnixTime = UnixTime(1_000);

    fn look(shown: Option<u64>, now: u64) -> Option<u64> {
        let edge = |after: UnixTime| (after < EDGE).then_some(EDGE);
        next_look(shown.map(UnixTime), UnixTime(now), edge).map(|wait| wait.as_secs())
    }

    #[test]
    fn an_edge_is_awaited_and_passed_over_by_nothing() {
        assert_eq!(look(Some(990), 990), Some(10));
        assert_eq!(look(Some(990), 995), Some(5));
        assert_eq!(look(Some(990), 1_000), Some(0), "something else happened in its second");
        assert_eq!(look(Some(990), 1_500), Some(0), "the clock was set ahead");
        assert_eq!(look(Some(1_000), 1_000), None, "it is shown");
        assert_eq!(look(Some(1_500), 990), Some(10), "the clock was set back");
        assert_eq!(look(Some(0), 0), Some(60), "the clock may be set meanwhile");
    }

    #[test]
    fn what_is_not_shown_is_tried_again_in_a_while() {
        assert_eq!((look(None, 990), look(None, 2_000)), (Some(60), Some(60)));
    }
}
