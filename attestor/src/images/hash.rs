//! Hashes one file, piece by piece, and sees whether it was written meanwhile. A file system that hangs, as one of another
//! machine does, is waited for as long as [`Disk`] says.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use policy::digest::Digest;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::open::{self, Place};
use super::stamp::Stamp;
use super::throttle::Throttle;
use crate::ports::Clock;

/// Bytes that are read and hashed at once, and all the memory that it takes: they stay in a processor's own cache.
const CHUNK: usize = 1 << 17;
/// Processor's time for pieces in a row: long beside what handing them to another thread takes, short beside what it may
/// keep others waiting.
const SLICE: Duration = Duration::from_millis(10);
/// How often a file that is written meanwhile is hashed before it counts as one that never rests.
const ATTEMPTS: u32 = 3;
/// Pause before it is hashed again.
const PAUSE: Duration = Duration::from_secs(1);

/// Time for one step: opening a file, or reading some of it. A disk that spins up takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How files are opened, and how long a step with one may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    pub(super) open: fn(&Place) -> io::Result<(File, Stamp)>,
    pub(super) patience: Duration,
}

impl Default for Disk {
    fn default() -> Self {
        Self { open: open::file, patience: PATIENCE }
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Hashed {
    /// The content, and the file's stamp before and after; None: one in which a write might not have shown.
    Still(Content, Option<Stamp>),
    /// It was written meanwhile, whenever it was hashed; this is what was read last.
    Moving(Content),
    /// It is gone: the next look says so.
    Gone,
    /// It cannot be read.
    Unreadable(io::Error),
    /// Its file system does not answer; this ends once it does.
    Hangs(JoinHandle<()>),
}

/// Why a step brought nothing.
#[derive(Debug)]
enum Fault {
    Error(io::Error),
    Hangs(JoinHandle<()>),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Error(error)
    }
}

impl From<Fault> for Hashed {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Error(error) if error.kind() == ErrorKind::NotFound => Self::Gone,
            Fault::Error(error) => Self::Unreadable(error),
            Fault::Hangs(step) => Self::Hangs(step),
        }
    }
}

/// Hashes the file at `place`. One that is not polled for a while goes on where it was. `system`: the clock that file
/// systems go by.
pub(super) async fn hash(place: &Place, throttle: &Throttle, disk: Disk, system: &dyn Clock) -> Hashed {
    let mut attempt = 1;
    loop {
        match attempt_once(place, throttle, disk, system).await.unwrap_or_else(Hashed::from) {
            Hashed::Moving(_) if attempt < ATTEMPTS => sleep(PAUSE).await,
            hashed => return hashed,
        }
        attempt += 1;
    }
}

async fn attempt_once(
    place: &Place,
    throttle: &Throttle,
    disk: Disk,
    system: &dyn Clock,
) -> Result<Hashed, Fault> {
    let place = place.clone();
    let (file, before) = disk.step(move || (disk.open)(&place)).await?;
    // The content is of some moment from here on. A file that takes minutes would seem settled by the time at its end.
    let began = system.now();
    let mut reading = Reading { file, context: Context::new(&SHA256), buffer: vec![0; CHUNK], size: 0 };
    loop {
        let most = throttle.at_once();
        let (back, step) = disk.step(move || reading.step(most)).await?;
        reading = back;
        if step.last || reading.size > before.size {
            break;
        }
        throttle.pay(step.bytes, step.busy).await;
    }
    let Reading { file, context, size, .. } = reading;
    let after = disk.step(move || open::stamp(&file)).await?;
    let content = Content { digest: digest(context), size };
    if before != after || size != before.size {
        return Ok(Hashed::Moving(content));
    }
    Ok(Hashed::Still(content, Some(after).filter(|stamp| stamp.is_settled(began))))
}

impl Disk {
    /// Off the threads that serve everything else, and no longer than it may take.
    async fn step<T: Send + 'static>(
        self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let (done, mut result) = oneshot::channel();
        let step = spawn_blocking(move || drop(done.send(work())));
        match timeout(self.patience, &mut result).await {
            Ok(result) => Ok(result.map_err(io::Error::other)??),
            Err(_) => Err(Fault::Hangs(step)),
        }
    }
}

struct Reading {
    file: File,
    context: Context,
    buffer: Vec<u8>,
    size: u64,
}

/// Pieces that were read and hashed in a row.
struct Step {
    bytes: u64,
    /// The processor's time that they took.
    busy: Duration,
    /// The file ends there.
    last: bool,
}

impl Reading {
    /// Reads and hashes pieces until they are `most` bytes or have taken a slice of the processor's time.
    fn step(mut self, most: u64) -> io::Result<(Self, Step)> {
        let (begin, mut bytes) = (processor_time(), 0_u64);
        loop {
            let read = self.file.read(&mut self.buffer)?;
            self.context.update(self.buffer.get(..read).unwrap_or_default());
            let length = u64::try_from(read).unwrap_or(u64::MAX);
            bytes = bytes.saturating_add(length);
            let busy = processor_time().saturating_sub(begin);
            if read == 0 || bytes >= most || busy >= SLICE {
                self.size = self.size.saturating_add(bytes);
                return Ok((self, Step { bytes, busy, last: read == 0 }));
            }
        }
    }
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)).saturating_add(Duration::from_nanos(part(time.tv_nsec)))
}

fn digest(context: Context) -> Digest {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Digest(out)
}
