//! Places of a door: so many sessions are worked on at once, and others wait in the order in which they came.
//!
//! A plant that powers up brings all its devices at the same moment. Whoever is told to come later comes with everybody else
//! who was told so, and finds the places empty before and full after; whoever waits is served as soon as it can be.
//!
//! Promises: nobody who came later is served first, nobody waits longer than [`PATIENCE`], and all who wait have at most
//! [`WAITING`] KiB of requests. Only a few of those who begin wait for a place, and the others behind them: so a session that
//! has begun ends before many others begin, the long requests that end one are not all held at once, and a flood of
//! beginners takes at most a quarter of the places. Whoever goes away gives up its place in the line.

use std::time::Duration;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::session::Refusal;

/// A device waits no longer: its attestor gives a call up after 30 s, and in a storm it is some before a call is read.
const PATIENCE: Duration = Duration::from_secs(15);
/// KiB of requests that wait at a door: those of 60,000 devices that begin.
const WAITING: usize = 64 << 10;
/// Seconds after which a device that found no place asks again.
const BUSY: u32 = 5;

/// What a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A challenge.
    Begin,
    /// The answer to one.
    Complete,
}

/// The places of a door.
#[derive(Debug)]
pub(super) struct Queue {
    places: Semaphore,
    beginning: Semaphore,
    waiting: Semaphore,
    patience: Duration,
}

/// A place, given back with the value.
#[derive(Debug)]
pub(super) struct Place<'a> {
    _place: SemaphorePermit<'a>,
    _beginning: Option<SemaphorePermit<'a>>,
}

impl Queue {
    /// So many places; a quarter of them at most is taken by those who begin.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Semaphore::new(places),
            beginning: Semaphore::new(places.div_ceil(4)),
            waiting: Semaphore::new(WAITING),
            patience: PATIENCE,
        }
    }

    /// A place for a request of so many bytes, or a refusal that says when to come again.
    pub(super) async fn admit(&self, step: Step, bytes: usize) -> Result<Place<'_>, Refusal> {
        let kib = u32::try_from(bytes.div_ceil(1024).max(1)).map_err(|_| busy())?;
        let _waiting = self.waiting.try_acquire_many(kib).map_err(|_| busy())?;
        let admitted = timeout(self.patience, async {
            let beginning = match step {
                Step::Begin => Some(self.beginning.acquire().await?),
                Step::Complete => None,
            };
            Ok::<_, AcquireError>(Place { _place: self.places.acquire().await?, _beginning: beginning })
        });
        // Nobody closes them.
        admitted.await.map_err(|_| busy())?.map_err(|_| busy())
    }
}

fn busy() -> Refusal {
    Refusal::TryLater { why: "the broker is busy with other devices".to_owned(), seconds: BUSY }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::task::JoinHandle;

    use super::*;

    /// What a small request has.
    const SMALL: usize = 100;

    /// Somebody who comes, and writes its name down once it is served.
    async fn come(
        queue: &Arc<Queue>,
        served: &Arc<Mutex<Vec<&'static str>>>,
        (name, step): (&'static str, Step),
    ) -> JoinHandle<()> {
        let (queue, served) = (Arc::clone(queue), Arc::clone(served));
        let waiting = tokio::spawn(async move {
            let _place = queue.admit(step, SMALL).await.unwrap();
            served.lock().unwrap().push(name);
        });
        // With one thread, it runs until it waits.
        tokio::task::yield_now().await;
        waiting
    }

    fn is_busy(refusal: &Refusal) -> bool {
        matches!(refusal, Refusal::TryLater { seconds: BUSY, .. })
    }

    #[tokio::test]
    async fn who_has_begun_ends_before_others_begin_and_nobody_overtakes() {
        let (queue, served) = (Arc::new(Queue::new(1)), Arc::default());
        let first = queue.admit(Step::Complete, SMALL).await.unwrap();
        let mut waiting = Vec::new();
        for one in [("a", Step::Begin), ("b", Step::Begin), ("c", Step::Complete), ("d", Step::Begin)] {
            waiting.push(come(&queue, &served, one).await);
        }
        assert_eq!(served.lock().unwrap().len(), 0, "there is one place");
        drop(first);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(*served.lock().unwrap(), ["a", "c", "b", "d"]);
    }

    #[tokio::test]
    async fn who_goes_away_holds_nobody_up() {
        let (queue, served) = (Arc::new(Queue::new(1)), Arc::default());
        let first = queue.admit(Step::Complete, SMALL).await.unwrap();
        let away = [
            come(&queue, &served, ("a", Step::Begin)).await,
            come(&queue, &served, ("b", Step::Begin)).await,
            come(&queue, &served, ("c", Step::Complete)).await,
        ];
        let stays = come(&queue, &served, ("d", Step::Begin)).await;
        assert_eq!(queue.waiting.available_permits(), WAITING - 4);
        for one in away {
            one.abort();
            assert!(one.await.unwrap_err().is_cancelled());
        }
        assert_eq!(queue.waiting.available_permits(), WAITING - 1);
        drop(first);
        stays.await.unwrap();
        assert_eq!(*served.lock().unwrap(), ["d"]);
        assert_eq!(queue.waiting.available_permits(), WAITING);
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_when_to_come_again() {
        let queue = Queue { patience: Duration::ZERO, ..Queue::new(1) };
        let place = queue.admit(Step::Begin, SMALL).await.unwrap();
        for step in [Step::Begin, Step::Complete] {
            let refusal = queue.admit(step, SMALL).await.unwrap_err();
            assert!(is_busy(&refusal), "{refusal:?}");
        }
        drop(place);
        queue.admit(Step::Begin, SMALL).await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_has_a_bound_and_who_comes_then_is_told_at_once() {
        let (queue, served) = (Arc::new(Queue::new(1)), Arc::default());
        let first = queue.admit(Step::Complete, SMALL).await.unwrap();
        let waits = come(&queue, &served, ("a", Step::Complete)).await;
        let rest = (WAITING - 1) * 1024;
        // More than there is room for, by one byte, and by more than can be counted.
        for bytes in [rest + 1, usize::MAX] {
            let refusal = queue.admit(Step::Complete, bytes).await.unwrap_err();
            assert!(is_busy(&refusal), "{refusal:?}");
        }
        let long = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.admit(Step::Complete, rest).await.map(drop) }
        });
        tokio::task::yield_now().await;
        let refusal = queue.admit(Step::Begin, SMALL).await.unwrap_err();
        assert!(is_busy(&refusal), "{refusal:?}");
        drop(first);
        waits.await.unwrap();
        long.await.unwrap().unwrap();
        queue.admit(Step::Begin, SMALL).await.unwrap();
    }

    #[tokio::test]
    async fn a_flood_of_beginners_leaves_places_for_those_who_end() {
        let (queue, served) = (Arc::new(Queue::new(8)), Arc::default());
        // They work, and never end.
        let _stuck =
            [queue.admit(Step::Begin, SMALL).await.unwrap(), queue.admit(Step::Begin, SMALL).await.unwrap()];
        let mut flood = Vec::new();
        for _ in 0..1_000 {
            flood.push(come(&queue, &served, ("flood", Step::Begin)).await);
        }
        for _ in 0..100 {
            come(&queue, &served, ("ends", Step::Complete)).await.await.unwrap();
        }
        assert_eq!(*served.lock().unwrap(), ["ends"; 100]);
        flood.iter().for_each(JoinHandle::abort);
    }
}
