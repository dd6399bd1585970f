//! inotify: something changed in one of these folders. What it was, the next look finds out, so nothing here can be
//! overrun or grow.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::{Errno, read};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};

/// A burst of changes is over after this long without one.
const REST: Duration = Duration::from_millis(500);
/// A burst that goes on is looked at after this long.
const MOST: Duration = Duration::from_secs(10);
/// Bytes of events that are taken at once: some thousand of them.
const BUFFER: usize = 64 * 1024;

const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The folders that are watched; the kernel holds them.
#[derive(Debug)]
pub(super) struct Watch {
    events: AsyncFd<OwnedFd>,
    /// Since when a burst of changes goes on, while one does: whoever waited for its end may have been called away.
    burst: Mutex<Option<Instant>>,
}

impl Watch {
    #[expect(deprecated, reason = "sound for an OwnedFd, which is one descriptor; its successor is unsafe")]
    pub(super) fn new() -> io::Result<Self> {
        let events = AsyncFd::new(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?;
        Ok(Self { events, burst: Mutex::default() })
    }

    /// Watches a folder; one that is watched already stays so.
    pub(super) fn add(&self, folder: &Path) -> io::Result<()> {
        add_watch(self.events.get_ref(), folder, CHANGES)?;
        Ok(())
    }

    /// Waits for a change, and then until the burst that it began is over. One who gave up waiting misses nothing.
    pub(super) async fn stirred(&self) -> io::Result<()> {
        if self.burst().is_none() {
            self.next().await?;
        }
        let begin = *self.burst().get_or_insert_with(Instant::now);
        self.over(begin + MOST).await?;
        *self.burst() = None;
        Ok(())
    }

    fn burst(&self) -> MutexGuard<'_, Option<Instant>> {
        self.burst.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no change follows another, or to this moment.
    async fn over(&self, give_up: Instant) -> io::Result<()> {
        loop {
            let rest = Instant::now() + REST;
            match timeout_at(rest.min(give_up), self.next()).await {
                Ok(Ok(())) if Instant::now() < give_up => sleep(REST / 10).await,
                Ok(Err(error)) => return Err(error),
                Ok(Ok(())) | Err(_) => return Ok(()),
            }
        }
    }

    /// Waits for events and forgets them.
    async fn next(&self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut guard = self.events.readable().await?;
            match read(self.events.get_ref(), &mut buffer) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
