//! Places of connections: so many, and a stranger never keeps a device out.
//!
//! Promises: no more connections than places are served, and strangers hold no more memory than [`STRANGERS_BYTES`] and
//! what goes with a connection: what one sent is buffered at most until it goes. When either is used up, the stranger that
//! came first goes; whoever showed a certificate stays. A device proves itself within seconds and without a certificate, so
//! a flood keeps it out only if it uses up all of that anew within that time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Bytes that strangers may have sent on connections that are open. A request is held whole before anybody looks at it;
/// this is a hundred of the longest.
const STRANGERS_BYTES: usize = 256 << 20;

/// Strangers by the order in which they came.
#[derive(Debug, Default)]
struct Strangers {
    came: u64,
    here: BTreeMap<u64, Stranger>,
    /// What all of them sent.
    sent: usize,
}

#[derive(Debug)]
struct Stranger {
    /// Tells it to go, by being dropped.
    _go: oneshot::Sender<()>,
    permit: OwnedSemaphorePermit,
    sent: usize,
}

impl Strangers {
    fn remove(&mut self, number: u64) -> Option<Stranger> {
        let stranger = self.here.remove(&number)?;
        self.sent = self.sent.saturating_sub(stranger.sent);
        Some(stranger)
    }

    /// The one that came first goes.
    fn dismiss(&mut self) -> Option<Stranger> {
        let first = *self.here.first_key_value()?.0;
        self.remove(first)
    }
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
            None => strangers.dismiss()?.permit,
        };
        strangers.came = strangers.came.wrapping_add(1);
        let (number, (go, lost)) = (strangers.came, oneshot::channel());
        strangers.here.insert(number, Stranger { _go: go, permit, sent: 0 });
        Some(Place { number, strangers: Arc::clone(&self.strangers), lost, kept: None })
    }
}

impl Place {
    /// Its holder has shown a certificate; false if the place is lost already.
    pub(super) fn keep(&mut self) -> bool {
        self.kept = lock(&self.strangers).remove(self.number).map(|stranger| stranger.permit);
        self.kept.is_some()
    }

    /// Its holder sent so many bytes more.
    pub(super) fn sent(&self, bytes: usize) {
        if self.kept.is_some() {
            return;
        }
        let mut strangers = lock(&self.strangers);
        let Some(stranger) = strangers.here.get_mut(&self.number) else { return };
        stranger.sent = stranger.sent.saturating_add(bytes);
        strangers.sent = strangers.sent.saturating_add(bytes);
        while strangers.sent > STRANGERS_BYTES && strangers.dismiss().is_some() {}
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
        lock(&self.strangers).remove(self.number);
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

    #[tokio::test]
    async fn strangers_hold_so_much_and_who_is_known_is_not_counted() {
        let places = Places::new(9);
        let (mut known, mut first, second) =
            (places.take().unwrap(), places.take().unwrap(), places.take().unwrap());
        assert!(known.keep());
        known.sent(STRANGERS_BYTES);
        first.sent(STRANGERS_BYTES / 2);
        second.sent(STRANGERS_BYTES / 2);
        assert_eq!(lock(&places.strangers).here.len(), 2, "it is all they may");
        second.sent(1);
        first.lost().await;
        assert_eq!(lock(&places.strangers).sent, STRANGERS_BYTES / 2 + 1);
        drop(second);
        assert_eq!(lock(&places.strangers).sent, 0);
        let mut third = places.take().unwrap();
        third.sent(STRANGERS_BYTES + 1);
        third.lost().await;
        assert_eq!(places.free.available_permits(), 8, "all but the known one's are free");
    }
}
