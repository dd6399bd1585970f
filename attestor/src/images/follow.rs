//! Goes round: looks, hashes what is new or changed, logs it, tells, and waits for the next change.
//!
//! Promises: a change is noticed while others are hashed, and does not wait for one that is longer, which goes on where
//! it was.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::eventlog::image::{ImageKind, ImageMeasurement};
use policy::time::UnixTime;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::hash::{Disk, Hashed, hash};
use super::plan::{Job, Known, Plan, plan};
use super::stamps::Stamps;
use super::throttle::Throttle;
use super::walk::{Seen, is_named, unreadable_words, walk};
use super::watch::Watch;
use super::{Book, Images, LedgerError, WaitingImage};
use crate::ports::Clock;

/// How often everything is looked at without a sign of change: file systems of other machines give none.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The same while a file was written so lately that another write might not show.
const UNSETTLED: Duration = Duration::from_secs(3);
/// A look ends within this time, unless a file system hangs.
const LOOKED: Duration = Duration::from_secs(60);
/// The same while a change could not be logged.
const RETRY: Duration = Duration::from_secs(5);
/// Most files that are hashed at a time, each but one of them waiting for a shorter one: each takes a buffer.
const MOST_BEGUN: usize = 4;

/// Measures until it is dropped. `clock` decides about quiet hours, `system` is the one that file systems go by.
pub async fn follow(images: Arc<Images>, clock: Arc<dyn Clock>, system: Arc<dyn Clock>) {
    follow_on(images, clock, system, Disk::default()).await;
}

/// The same on another disk than the machine's.
pub(super) async fn follow_on(
    images: Arc<Images>,
    clock: Arc<dyn Clock>,
    system: Arc<dyn Clock>,
    disk: Disk,
) {
    if let Book::Refused(_) = *images.book.lock().await {
        return;
    }
    let watch = Watch::new().inspect_err(
        |error| tracing::warn!(%error, "the system tells of no changes (see fs.inotify.max_user_instances); images are looked at once a minute"),
    );
    let watch = watch.ok().map(Arc::new);
    let mut round = Round {
        stamps: Stamps::beside(&images.config.log),
        throttle: Arc::new(Throttle::new(images.config.limits)),
        images,
        clock,
        system,
        watch,
        waiting: BTreeMap::new(),
        due: BTreeMap::new(),
        problems: Vec::new(),
        unsettled: false,
        looking: None,
        disk,
        hanging: None,
    };
    loop {
        let next = match round.go().await {
            Ok(()) if round.unsettled => UNSETTLED,
            Ok(()) => LOOK_EVERY,
            Err(LedgerError::Refused(_)) => return,
            Err(error) => {
                tracing::error!(%error, "an image is not logged; no evidence is given until it is");
                round.images.unlogged(Some(error.to_string()));
                round.images.tell(|told| told.measuring = None);
                // Whoever waits for evidence is told why there is none.
                round.images.ready.send_replace(true);
                RETRY
            }
        };
        round.wait(next).await;
    }
}

struct Round {
    images: Arc<Images>,
    clock: Arc<dyn Clock>,
    system: Arc<dyn Clock>,
    watch: Option<Arc<Watch>>,
    throttle: Arc<Throttle>,
    stamps: Stamps,
    /// Changes that wait, since when.
    waiting: BTreeMap<String, UnixTime>,
    /// Those of them that wait for their turn only.
    due: BTreeMap<String, Instant>,
    problems: Vec<String>,
    /// A file may be written once more without a sign.
    unsettled: bool,
    /// A look that has not ended yet.
    looking: Option<JoinHandle<Seen>>,
    disk: Disk,
    /// A file whose file system did not answer, and the step that waits for it.
    hanging: Option<(String, JoinHandle<()>)>,
}

/// A file that is being hashed.
struct Begun {
    job: Job,
    hashing: Pin<Box<dyn Future<Output = Hashed> + Send>>,
}

impl Round {
    /// One round. An error leaves a change out of the log.
    async fn go(&mut self) -> Result<(), LedgerError> {
        self.unsettled = false;
        self.await_hanging()?;
        let mut begun: Vec<Begun> = Vec::new();
        let mut jobs = self.take_stock().await?;
        // What is found later does not keep back that these are in the log.
        let mut owed: BTreeSet<String> = jobs.iter().map(|job| job.path.clone()).collect();
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            let shorter = |next: &Job| begun.last().is_none_or(|now| next.turn < now.job.turn);
            if begun.len() < MOST_BEGUN && jobs.front().is_some_and(shorter) {
                begun.extend(jobs.pop_front().map(|job| self.begin(job)));
            }
            if jobs.iter().chain(begun.iter().map(|begun| &begun.job)).all(|job| job.again) {
                self.images.ready.send_replace(true);
            }
            if owed.is_empty() {
                self.images.unlogged(None);
            }
            if begun.is_empty() {
                break;
            }
            match self.go_on(&mut begun, look_at).await {
                Some((job, hashed)) => {
                    owed.remove(&job.path);
                    self.enter(job, hashed).await?;
                }
                None => {
                    jobs = self.take_stock().await?;
                    jobs.retain(|job| begun.iter().all(|begun| begun.job.path != job.path));
                    // What is gone is logged as such by now, and what waits for quiet hours keeps nothing back.
                    owed.retain(|path| {
                        jobs.iter().chain(begun.iter().map(|begun| &begun.job)).any(|job| job.path == *path)
                    });
                    look_at = Instant::now() + LOOK_EVERY;
                }
            }
        }
        self.stamps.keep();
        self.tell().await;
        Ok(())
    }

    /// Looks, logs what needs no hashing, and gives what does, in its order.
    async fn take_stock(&mut self) -> Result<VecDeque<Job>, LedgerError> {
        let Seen { sights, problems } = self.look().await?;
        let Plan { entries, mut jobs, waiting } = self.compare(&sights).await?;
        self.problems = problems;
        self.stamps.retain(|path| sights.contains_key(path));
        self.stamps.keep();
        let again = || jobs.iter().filter(|job| job.again).map(|job| job.path.clone());
        self.wait_for(waiting.into_iter().chain(again()).collect());
        self.due = again().map(|path| (path.clone(), self.due_since(&path))).collect();
        self.images.is_due(self.due.values().min().copied());
        self.images.tell(|told| told.measured = sights.len());
        self.tell().await;
        for entry in entries {
            self.log(entry).await?;
        }
        let ready = *self.images.ready.borrow();
        // Before anything is proven, what was never measured comes first.
        jobs.sort_by_key(|job| (job.again && !ready, job.turn));
        Ok(jobs.into())
    }

    fn due_since(&self, path: &str) -> Instant {
        self.due.get(path).copied().unwrap_or_else(Instant::now)
    }

    fn begin(&self, job: Job) -> Begun {
        let (place, throttle, disk) = (job.place.clone(), Arc::clone(&self.throttle), self.disk);
        let system = Arc::clone(&self.system);
        Begun { job, hashing: Box::pin(async move { hash(&place, &throttle, disk, &system).await }) }
    }

    /// Goes on with what was begun last until it is hashed; None: something may have changed before that.
    async fn go_on(&self, begun: &mut Vec<Begun>, look_at: Instant) -> Option<(Job, Hashed)> {
        let now = begun.last_mut()?;
        self.images.tell(|told| told.measuring = Some(now.job.path.clone()));
        let hashed = tokio::select! {
            hashed = &mut now.hashing => hashed,
            () = self.wait(look_at.saturating_duration_since(Instant::now())) => return None,
        };
        self.images.tell(|told| told.measuring = None);
        Some((begun.pop()?.job, hashed))
    }

    /// A step that hangs is waited for, instead of beginning another beside it.
    fn await_hanging(&mut self) -> Result<(), LedgerError> {
        if let Some((path, _)) = self.hanging.take_if(|(_, step)| step.is_finished()) {
            tracing::info!(path, "the file system of an image answers again");
        }
        match &self.hanging {
            Some((path, _)) => Err(LedgerError::Hangs { path: path.clone() }),
            None => Ok(()),
        }
    }

    /// Looks at everything. A look that hangs is waited for again, instead of beginning another beside it.
    async fn look(&mut self) -> Result<Seen, LedgerError> {
        let (images, watch) = (Arc::clone(&self.images), self.watch.clone());
        let begin = || spawn_blocking(move || walk(&images.config, watch.as_deref()));
        let mut looking = self.looking.take().unwrap_or_else(begin);
        match timeout(LOOKED, &mut looking).await {
            Ok(looked) => looked.map_err(|error| LedgerError::Unlogged(error.to_string())),
            Err(_) => {
                self.looking = Some(looking);
                Err(LedgerError::Unlogged(
                    "the folders of [images] could not be looked at within a minute: a file system hangs; see what is mounted there"
                        .to_owned(),
                ))
            }
        }
    }

    async fn compare(&self, sights: &BTreeMap<String, super::walk::Sight>) -> Result<Plan, LedgerError> {
        let now = self.clock.now();
        let config = &self.images.config;
        let quiet = config.quiet.as_ref().is_some_and(|hours| hours.is_open(now));
        let mut book = self.images.book.lock().await;
        let Book::Open(ledger) = &mut *book else { return Ok(Plan::default()) };
        // A first entry that the TPM refused is taken back, and is to be logged again.
        if let Err(error) = ledger.catch_up().await {
            return Err(self.images.denied(&mut book, error));
        }
        if ledger.is_full() {
            return Ok(Plan::default());
        }
        let known = Known { last: ledger.last(), stamps: &self.stamps };
        Ok(plan(sights, known, |path| is_named(config, path), quiet))
    }

    fn wait_for(&mut self, paths: Vec<String>) {
        let now = self.clock.now();
        let before = std::mem::take(&mut self.waiting);
        self.waiting =
            paths.into_iter().map(|path| (path.clone(), before.get(&path).copied().unwrap_or(now))).collect();
    }

    /// Logs what a file holds, if the log does not say so already.
    async fn enter(&mut self, job: Job, hashed: Hashed) -> Result<(), LedgerError> {
        let Job { path, .. } = job;
        let (kind, content, stamp) = match hashed {
            Hashed::Still(content, stamp) => (ImageKind::File, Some(content), stamp),
            Hashed::Moving(content) => (ImageKind::Unstable, Some(content), None),
            Hashed::Gone => {
                self.unsettled = true;
                self.is_no_more_due(&path);
                return Ok(());
            }
            Hashed::Hangs(step) => {
                self.hanging = Some((path.clone(), step));
                return Err(LedgerError::Hangs { path });
            }
            Hashed::Unreadable(error) => {
                self.problems.push(unreadable_words(&path, &error));
                (ImageKind::Unreadable, None, None)
            }
        };
        self.waiting.remove(&path);
        self.is_no_more_due(&path);
        let digest = content.map_or(policy::digest::Digest([0; 32]), |content| content.digest);
        let size = content.map_or(0, |content| content.size);
        self.log(ImageMeasurement { kind, path: path.clone(), digest, size }).await?;
        match stamp {
            Some(stamp) => self.stamps.insert(path, stamp, digest),
            None => self.unsettled = true,
        }
        Ok(())
    }

    fn is_no_more_due(&mut self, path: &str) {
        self.due.remove(path);
        self.images.is_due(self.due.values().min().copied());
    }

    async fn log(&mut self, image: ImageMeasurement) -> Result<(), LedgerError> {
        let mut book = self.images.book.lock().await;
        let Book::Open(ledger) = &mut *book else { return Ok(()) };
        let last = ledger.last().get(&image.path);
        let is_told = last == Some(&image)
            // One that never rests is told once.
            || image.kind == ImageKind::Unstable && last.is_some_and(|last| last.kind == ImageKind::Unstable);
        if is_told {
            return Ok(());
        }
        tracing::info!(path = %image.path, kind = %image.kind, digest = %image.digest, "an image is measured");
        let logged = ledger.append(image).await;
        self.images.changed.notify_one();
        logged.map_err(|error| self.images.denied(&mut book, error))
    }

    async fn tell(&self) {
        let (entries, full) = match &*self.images.book.lock().await {
            Book::Open(ledger) => (ledger.entries(), ledger.is_full()),
            Book::Refused(_) => return,
        };
        let full = full.then(|| {
            "the image log is full, so nothing more is measured: name no files that programs write to in [images], and \
             restart the device, which is refused until then"
                .to_owned()
        });
        let waiting = self.waiting.iter();
        let waiting = waiting.map(|(path, since)| WaitingImage { path: path.clone(), since: *since });
        self.images.tell(|told| {
            told.entries = entries;
            told.waiting = waiting.collect();
            told.problems = full.into_iter().chain(self.problems.iter().cloned()).collect();
        });
    }

    /// Waits for a change, at most `longest`, and no longer than to the end of quiet hours.
    async fn wait(&self, longest: Duration) {
        let now = self.clock.now();
        let edge = self.images.config.quiet.as_ref().and_then(|hours| hours.next_edge(now));
        let longest = edge.map_or(longest, |edge| longest.min(Duration::from_secs(edge.since(now).max(1))));
        let stirred = async {
            match &self.watch {
                Some(watch) => watch.stirred().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = stirred => if let Err(error) = result {
                tracing::warn!(%error, "the system's word of changes cannot be read");
                sleep(longest).await;
            },
            () = sleep(longest) => {}
        }
    }
}
