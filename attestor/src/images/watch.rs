//! inotify: something changed in one of these folders. What it was, the next look finds out, so nothing here can be
//! overrun or grow.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
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
pub(super) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    #[expect(deprecated, reason = "sound for an OwnedFd, which is one descriptor; its successor is unsafe")]
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(AsyncFd::new(init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?))
    }

    /// Watches a folder; one that is watched already stays so.
    pub(super) fn add(&self, folder: &Path) -> io::Result<()> {
        add_watch(self.0.get_ref(), folder, CHANGES)?;
        Ok(())
    }

    /// Waits for a change, and then until the burst that it began is over.
    pub(super) async fn stirred(&self) -> io::Result<()> {
        self.next().await?;
        let give_up = Instant::now() + MOST;
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
            let mut guard = self.0.readable().await?;
            match read(self.0.get_ref(), &mut buffer) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
