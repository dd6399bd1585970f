//! Measured images: what the attestor itself vouches for besides the boot. Controller programs, models and the digests
//! of containers are hashed before they are used, and again when they change.
//!
//! Promises: what was found is in the log before it is in the PCR, so a crash loses nothing; log and PCR stand still
//! while they are quoted; a removed file, and one that cannot be measured, is an entry too; nothing outside the named
//! folders is opened, and nothing but regular files is read; work keeps to its limits. Any failure to log denies: no
//! evidence is given meanwhile.
//! Does not promise: that a program runs what was measured. Whoever can write the file can write it back between two
//! looks, or change what runs in memory; the kernel's IMA sees more.
//!
//! `walk` looks, `plan` compares, `hash` reads within the `throttle`, `ledger` writes and extends, `follow` goes round.

mod container;
mod follow;
mod hash;
mod ledger;
mod open;
mod plan;
mod refusal;
mod stamp;
mod stamps;
mod throttle;
mod walk;
mod watch;
mod way;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy::time::UnixTime;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Notify, watch as latest};

pub use self::follow::follow;
pub use self::ledger::{Ledger, LedgerError};
pub use self::refusal::Refusal;
pub use self::throttle::Limits;
use crate::config::Images as Config;
use crate::tpm::TpmHandle;

/// A change that waits longer than this for its turn outside quiet hours is not proven away: no evidence is given before
/// it is measured.
const LATE: Duration = Duration::from_secs(600);
/// Most changes and problems that the status names.
const MAX_TOLD: usize = 16;

/// The images of this device.
#[derive(Debug)]
pub struct Images {
    config: Config,
    book: AsyncMutex<Book>,
    /// What was never measured is in the log now.
    ready: latest::Sender<bool>,
    /// The log has a new entry.
    changed: Notify,
    /// Why a change is not in the log, while one is not.
    unlogged: Mutex<Option<String>>,
    /// Since when a change waits for its turn, while one does.
    due: Mutex<Option<Instant>>,
    told: Mutex<ImagesStatus>,
}

/// Where measurements go.
#[derive(Debug)]
enum Book {
    /// Into this log.
    Open(Ledger),
    /// Nowhere; what there is of a log is sent all the same, so that the broker says no with a reason.
    Refused(PathBuf),
}

/// What the device says of its images to people on the spot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesStatus {
    /// How many there are.
    pub measured: usize,
    /// Entries of the log.
    pub entries: usize,
    /// The file that is hashed now; a long one takes minutes, and one whose file system hangs is named in `problems`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measuring: Option<String>,
    /// Changes that wait for the end of quiet hours or for their turn.
    pub waiting: Vec<WaitingImage>,
    /// What could not be measured, and what to do.
    pub problems: Vec<String>,
}

/// A change that is not measured yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingImage {
    /// Where.
    pub path: String,
    /// When it was noticed.
    pub since: UnixTime,
}

/// The log, with nothing being added to it.
#[derive(Debug)]
pub struct Held<'a> {
    /// The log as it is sent.
    pub log: Vec<u8>,
    _still: MutexGuard<'a, Book>,
}

impl Images {
    /// Takes up the log of this boot, or begins one. `refusal`: why PCR 13 is not the attestor's alone.
    pub async fn open(config: Config, tpm: TpmHandle, refusal: Option<Refusal>) -> Result<Self, LedgerError> {
        let opened = match refusal {
            Some(refusal) => Err(refusal),
            None => Ledger::open(tpm, &config.log).await?,
        };
        let mut told = ImagesStatus::default();
        let book = match opened {
            Ok(ledger) => Book::Open(ledger),
            Err(refusal) => {
                tracing::error!(%refusal, "images are not measured");
                told.problems.push(refusal.to_string());
                Book::Refused(config.log.clone())
            }
        };
        let (ready, _) = latest::channel(matches!(book, Book::Refused(_)));
        let (book, told) = (AsyncMutex::new(book), Mutex::new(told));
        Ok(Self {
            config,
            book,
            ready,
            changed: Notify::new(),
            unlogged: Mutex::default(),
            due: Mutex::default(),
            told,
        })
    }

    /// Waits until everything that was never measured is in the log.
    pub async fn ready(&self) {
        // The sender lives as long as this.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Waits until the log has an entry that it did not have when this was asked last.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The log, which stands still, and its PCR with it, until the value is dropped.
    pub async fn hold(&self) -> Result<Held<'_>, LedgerError> {
        let mut book = self.book.lock().await;
        let unlogged = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(why) = unlogged {
            return Err(LedgerError::Unlogged(why));
        }
        self.in_time()?;
        let proven = match &mut *book {
            Book::Open(ledger) => ledger.proven().await,
            Book::Refused(log) => ledger::read(log),
        };
        let log = match proven {
            Err(LedgerError::Refused(refusal)) => {
                self.refuse(&mut book, &refusal);
                ledger::read(&self.config.log)?
            }
            other => other?,
        };
        Ok(Held { log, _still: book })
    }

    /// Whether no change waits for its turn for too long.
    fn in_time(&self) -> Result<(), LedgerError> {
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        match due.map(|since| since.elapsed()).filter(|waited| *waited > LATE) {
            None => Ok(()),
            Some(waited) => Err(LedgerError::Unlogged(format!(
                "a changed image waits for {} min to be measured, behind longer ones; raise io_limit and cpu_limit in \
                 [images], or name no files of such a size",
                waited.as_secs() / 60
            ))),
        }
    }

    /// Since when a change waits for its turn, or that none does.
    fn is_due(&self, since: Option<Instant>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// The same error; after one that only a restart ends, nothing is measured any more.
    fn denied(&self, book: &mut Book, error: LedgerError) -> LedgerError {
        if let LedgerError::Refused(refusal) = &error {
            self.refuse(book, refusal);
        }
        error
    }

    /// Measures nothing any more: the broker is to say no.
    fn refuse(&self, book: &mut Book, refusal: &Refusal) {
        tracing::error!(%refusal, "images are not measured any more");
        *book = Book::Refused(self.config.log.clone());
        self.tell(|told| told.problems.insert(0, refusal.to_string()));
        self.ready.send_replace(true);
    }

    /// What the device says of them.
    pub fn status(&self) -> ImagesStatus {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether, and why, a change is not in the log.
    fn unlogged(&self, why: Option<String>) {
        if let Some(why) = &why {
            self.tell(|told| told.problems.insert(0, why.clone()));
        }
        *self.unlogged.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn tell(&self, change: impl FnOnce(&mut ImagesStatus)) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut told);
        told.waiting.truncate(MAX_TOLD);
        told.problems.truncate(MAX_TOLD);
    }
}
