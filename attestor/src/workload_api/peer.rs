//! Who is at the other end of a connection, and how many connections and streams one user has.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// User and group of the process that opened the connection (SO_PEERCRED: as the kernel saw them at that moment).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A bounded number of places, and a bounded share of them for each user.
#[derive(Debug)]
pub(super) struct Places {
    each: usize,
    all: usize,
    taken: Mutex<BTreeMap<u32, usize>>,
}

impl Places {
    pub(super) fn new(each: usize, all: usize) -> Arc<Self> {
        Arc::new(Self { each, all, taken: Mutex::default() })
    }

    /// A place for `uid` until it is dropped; None if its share, or everything, is taken.
    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut taken = self.lock();
        let own = taken.get(&uid).copied().unwrap_or_default();
        if own >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(uid, own.saturating_add(1));
        Some(Place { places: Arc::clone(self), uid })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        // Each change is one insert or remove: nothing can be half done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match taken.get_mut(&self.uid) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => drop(taken.remove(&self.uid)),
        }
    }
}

/// A connection with its caller and its place.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) caller: Caller,
    pub(super) _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_has_its_share_and_all_have_the_whole() {
        let places = Places::new(2, 3);
        let mut own: Vec<Place> = (0..2).map(|_| places.take(990).unwrap()).collect();
        assert!(places.take(990).is_none(), "its share");
        let _other = places.take(991).unwrap();
        assert!(places.take(992).is_none(), "everything");
        own.pop();
        let _third = places.take(992).unwrap();
        own.clear();
        assert_eq!(places.lock().len(), 2, "who left is not remembered");
    }
}
