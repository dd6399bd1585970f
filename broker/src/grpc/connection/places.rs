//! Places of connections: so many, and a stranger never keeps a device out.
//!
//! Promises: no more connections than places are served. When all are taken, the stranger that came first gives its place to
//! the newcomer; whoever showed a certificate keeps it. A device proves itself within seconds and without a certificate, so
//! a flood keeps it out only if it takes all places anew within that time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Strangers by the order in which they came: what tells them to go, and their permit.
#[derive(Debug, Default)]
struct Strangers {
    came: u64,
    here: BTreeMap<u64, (oneshot::Sender<()>, OwnedSemaphorePermit)>,
}

/// All places of a port.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    strangers: Arc<Mutex<Strangers>>,
}

/// The place of one connection, given back with the value.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    strangers: Arc<Mutex<Strangers>>,
    lost: oneshot::Receiver<()>,
    kept: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), strangers: Arc::default() }
    }

    /// A place for somebody who has shown nothing yet; None if all belong to peers with a certificate.
    pub(super) fn take(&self) -> Option<Place> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok();
        let mut strangers = lock(&self.strangers);
        let permit = match free {
            Some(permit) => permit,
            None => strangers.here.pop_first()?.1.1,
        };
        strangers.came = strangers.came.wrapping_add(1);
        let (number, (go, lost)) = (strangers.came, oneshot::channel());
        strangers.here.insert(number, (go, permit));
        Some(Place { number, strangers: Arc::clone(&self.strangers), lost, kept: None })
    }
}

impl Place {
    /// Its holder has shown a certificate; false if the place is lost already.
    pub(super) fn keep(&mut self) -> bool {
        self.kept = lock(&self.strangers).here.remove(&self.number).map(|(_, permit)| permit);
        self.kept.is_some()
    }

    /// Ready once it was given to somebody else.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.kept {
            Some(_) => Poll::Pending,
            None => Pin::new(&mut self.lost).poll(cx).map(drop),
        }
    }

    /// Waits until it was given to somebody else.
    pub(super) async fn lost(&mut self) {
        std::future::poll_fn(|cx| self.poll_lost(cx)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.strangers).here.remove(&self.number);
    }
}

fn lock(strangers: &Mutex<Strangers>) -> MutexGuard<'_, Strangers> {
    strangers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_stranger_goes_and_who_is_known_stays() {
        let places = Places::new(2);
        let (mut known, mut first) = (places.take().unwrap(), places.take().unwrap());
        assert!(known.keep());
        let mut second = places.take().unwrap();
        first.lost().await;
        assert!(!first.keep(), "it came too late with its certificate");
        assert!(second.keep());
        assert!(places.take().is_none(), "nobody is left who could go");
        drop(first);
        assert!(places.take().is_none(), "it had given its place already");
        drop(known);
        drop(places.take().expect("a place was given back"));
        assert!(places.take().is_some(), "and again");
    }
}
