//! Rounds on a real file system with real inotify: what is noticed, what waits, and what is never missed.

use std::fs::{self, File as OpenFile};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use policy::eventlog::image::{ImageKind, ImageMeasurement};
use policy::time::UnixTime;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Fault, Pcr};
use crate::config::Images as Config;
use crate::images::follow::follow_on;
use crate::images::hash::Disk;
use crate::images::open::{self, Place};
use crate::images::stamp::Stamp;
use crate::images::{Images, Limits, follow};
use crate::ports::{Clock, System};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn config(files: &[&Path], folders: &[&Path]) -> Config {
    let own = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
    let limits = Limits { bytes: NonZeroU64::new(1 << 30).unwrap(), processor: 1.0 };
    let log = std::env::temp_dir().join("never-written");
    Config { log, files: own(files), folders: own(folders), containers: Vec::new(), limits, quiet: None }
}

/// Stands still.
#[derive(Debug)]
pub(super) struct At(pub(super) u64);

impl Clock for At {
    fn now(&self) -> UnixTime {
        UnixTime(self.0)
    }
}

/// A folder whose files are measured.
struct Scene {
    dir: TempDir,
    pcr: Pcr,
    images: Arc<Images>,
    following: JoinHandle<()>,
}

impl Scene {
    async fn begin(pcr: &Pcr, dir: TempDir, quiet: Option<&str>) -> Self {
        let folder = dir.path().join("plc");
        fs::create_dir_all(&folder).unwrap();
        let quiet = quiet.map(|text| text.parse().unwrap());
        let config = Config { log: dir.path().join("images.log"), quiet, ..config(&[], &[&folder]) };
        let images = Arc::new(Images::open(config, pcr.start(), None).await.unwrap());
        // A Monday at noon.
        let clock: Arc<dyn Clock> = Arc::new(At(1_767_614_400));
        let system: Arc<dyn Clock> = Arc::new(System::default());
        let following = tokio::spawn(follow(Arc::clone(&images), clock, system));
        tokio::time::timeout(PATIENCE, images.ready()).await.unwrap();
        Self { dir, pcr: pcr.clone(), images, following }
    }

    async fn again(self, quiet: Option<&str>) -> Self {
        self.following.abort();
        let Self { dir, pcr, .. } = self;
        Self::begin(&pcr, dir, quiet).await
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join("plc").join(name), content).unwrap();
    }

    fn replace(&self, name: &str, content: &str) {
        let fresh = self.dir.path().join("fresh");
        fs::write(&fresh, content).unwrap();
        fs::rename(fresh, self.dir.path().join("plc").join(name)).unwrap();
    }

    /// What was measured so far: kind, name, and how long it is.
    async fn history(&self) -> Vec<(ImageKind, String, u64)> {
        let held = self.images.hold().await.unwrap();
        let told = |image: ImageMeasurement| {
            (image.kind, image.path.rsplit('/').next().unwrap().to_owned(), image.size)
        };
        self.pcr.assert_explained(&held.log).into_iter().map(told).collect()
    }

    async fn until(&self, what: &str, count: usize) -> Vec<(ImageKind, String, u64)> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let history = self.history().await;
            if history.len() >= count {
                return history;
            }
            assert!(Instant::now() < give_up, "{what}: {history:?} {:?}", self.images.status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn entry(kind: ImageKind, name: &str, size: u64) -> (ImageKind, String, u64) {
    (kind, name.to_owned(), size)
}

use ImageKind::{File, Removed};

#[tokio::test]
async fn files_are_measured_before_ready_and_again_when_they_change_or_go() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("plc")).unwrap();
    fs::write(dir.path().join("plc/press"), "1").unwrap();
    let scene = Scene::begin(&Pcr::new(), dir, None).await;
    let mut wanted = vec![entry(File, "press", 1)];
    assert_eq!(scene.history().await, wanted, "before anything is proven");
    scene.images.changed().await;
    scene.replace("press", "22");
    wanted.push(entry(File, "press", 2));
    assert_eq!(scene.until("a change is noticed", 2).await, wanted);
    tokio::time::timeout(PATIENCE, scene.images.changed()).await.expect("the driver is told");
    fs::remove_file(scene.dir.path().join("plc/press")).unwrap();
    wanted.push(entry(Removed, "press", 2));
    assert_eq!(scene.until("a removal is noticed", 3).await, wanted);
    fs::create_dir(scene.dir.path().join("plc/new")).unwrap();
    scene.write("new/model", "333");
    wanted.push(entry(File, "model", 3));
    assert_eq!(scene.until("a file in a new folder is noticed", 4).await, wanted);
    scene.replace("press", "22");
    wanted.push(entry(File, "press", 2));
    assert_eq!(scene.until("what comes back is noticed", 5).await, wanted);
}

/// An attestor that was away measures what changed meanwhile, and repeats nothing.
#[tokio::test]
async fn what_changed_while_the_attestor_was_away_is_measured_at_its_start() {
    let scene = Scene::begin(&Pcr::new(), tempfile::tempdir().unwrap(), None).await;
    for (name, content) in [("a", "1"), ("b", "1"), ("c", "1")] {
        scene.write(name, content);
    }
    let before = scene.until("all are measured", 3).await;
    scene.following.abort();
    scene.write("b", "22");
    fs::remove_file(scene.dir.path().join("plc/c")).unwrap();
    let scene = scene.again(None).await;
    let after = scene.until("the changes are measured", 5).await;
    assert_eq!(after[..3], before);
    let mut new = after[3..].to_vec();
    new.sort();
    assert_eq!(new, [entry(File, "b", 2), entry(Removed, "c", 1)]);
}

#[tokio::test]
async fn quiet_hours_put_off_what_changed_and_not_what_is_new() {
    let scene = Scene::begin(&Pcr::new(), tempfile::tempdir().unwrap(), Some("mon 00:00-24:00")).await;
    scene.write("press", "1");
    scene.until("what was never measured is measured", 1).await;
    scene.replace("press", "22");
    let give_up = Instant::now() + PATIENCE;
    let waiting = loop {
        if let [waiting] = &scene.images.status().waiting[..] {
            break waiting.clone();
        }
        assert!(Instant::now() < give_up, "{:?}", scene.images.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(waiting.path.ends_with("/plc/press") && waiting.since == UnixTime(1_767_614_400), "{waiting:?}");
    scene.write("model", "333");
    let history = scene.until("another new file", 2).await;
    assert_eq!(history, [entry(File, "press", 1), entry(File, "model", 3)]);
    let scene = scene.again(Some("sun 00:00-24:00")).await;
    assert_eq!(scene.until("quiet is over", 3).await[2], entry(File, "press", 2));
}

#[tokio::test]
async fn nothing_is_proven_while_a_change_cannot_be_logged() {
    let pcr = Pcr::new();
    let scene = Scene::begin(&pcr, tempfile::tempdir().unwrap(), None).await;
    scene.images.unlogged(Some("the disk is full".to_owned()));
    let refused = scene.images.hold().await.unwrap_err().to_string();
    assert!(refused.contains("could not be logged: the disk is full"), "{refused}");
    scene.write("press", "1");
    let give_up = Instant::now() + PATIENCE;
    while scene.images.hold().await.is_err() {
        assert!(Instant::now() < give_up, "a round that logs everything ends it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the log says last of a pcr that somebody else extended meanwhile is no proof, and the broker is to say so.
#[tokio::test]
async fn a_refused_log_is_sent_as_it_is() {
    let (pcr, dir) = (Pcr::new(), tempfile::tempdir().unwrap());
    let scene = Scene::begin(&pcr, dir, None).await;
    scene.write("press", "1");
    scene.until("it is measured", 1).await;
    for value in pcr.values.lock().unwrap().iter_mut() {
        *value = value.extend(value.alg().hash(&[b"sysext"]).as_bytes());
    }
    let log = scene.images.hold().await.unwrap().log.clone();
    let scene = {
        scene.following.abort();
        let config = Config { log: scene.dir.path().join("images.log"), ..config(&[], &[scene.dir.path()]) };
        Images::open(config, pcr.start(), None).await.unwrap()
    };
    scene.ready().await;
    assert_eq!(scene.hold().await.unwrap().log, log);
    assert!(scene.status().problems[0].contains("entries were lost, or other software extends that PCR"));
}

#[tokio::test]
async fn a_short_file_does_not_wait_for_a_long_one() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("plc");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a-model"), vec![7; 1 << 20]).unwrap();
    fs::write(folder.join("program"), "run").unwrap();
    let scene = Scene::begin(&Pcr::new(), dir, None).await;
    let names: Vec<String> = scene.history().await.into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(names, ["program", "a-model"]);
}

#[tokio::test]
async fn a_change_that_waits_for_too_long_holds_evidence_back() {
    let dir = TempDir::new().unwrap();
    let scene = Scene::begin(&Pcr::new(), dir, None).await;
    scene.images.hold().await.unwrap();
    let long_ago = Instant::now().checked_sub(Duration::from_secs(661)).unwrap();
    *scene.images.due.lock().unwrap() = Some(long_ago);
    let why = scene.images.hold().await.unwrap_err().to_string();
    assert!(why.contains("a changed image waits for 11 min") && why.contains("io_limit"), "{why}");
}

#[tokio::test]
async fn who_waits_for_the_first_measurement_is_told_why_there_is_none() {
    let (dir, pcr) = (TempDir::new().unwrap(), Pcr::new());
    let folder = dir.path().join("plc");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("program"), "run").unwrap();
    pcr.fail(std::iter::repeat_n(Some(Fault::Before), 1000));
    let scene = Scene::begin(&pcr, dir, None).await;
    let why = scene.images.hold().await.unwrap_err().to_string();
    assert!(why.contains("locked"), "{why}");
}

#[tokio::test]
async fn a_first_measuring_that_takes_long_says_what_it_is_at() {
    let (dir, pcr) = (TempDir::new().unwrap(), Pcr::new());
    let folder = dir.path().join("plc");
    fs::create_dir_all(&folder).unwrap();
    // Some minutes at this limit.
    fs::write(folder.join("model"), vec![7; 10 << 20]).unwrap();
    let limits = Limits { bytes: NonZeroU64::new(50_000).unwrap(), processor: 1.0 };
    let config = Config { log: dir.path().join("images.log"), limits, ..config(&[], &[&folder]) };
    let images = Arc::new(Images::open(config, pcr.start(), None).await.unwrap());
    let system: Arc<dyn Clock> = Arc::new(System::default());
    let following = tokio::spawn(follow(Arc::clone(&images), Arc::clone(&system), system));
    let give_up = Instant::now() + PATIENCE;
    let is_told = || images.status().measuring.is_some_and(|path| path.ends_with("/plc/model"));
    while !is_told() {
        assert!(Instant::now() < give_up, "{:?}", images.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    following.abort();
}

/// A model takes hours at a low limit; a program that changes meanwhile is logged and told at once.
#[tokio::test]
async fn a_change_while_a_long_file_is_hashed_does_not_wait_for_it() {
    let (dir, pcr) = (TempDir::new().unwrap(), Pcr::new());
    let folder = dir.path().join("plc");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("program"), "1").unwrap();
    fs::write(folder.join("model"), vec![7; 600_000]).unwrap();
    let limits = Limits { bytes: NonZeroU64::new(50_000).unwrap(), processor: 1.0 };
    let config = Config { log: dir.path().join("images.log"), limits, ..config(&[], &[&folder]) };
    let images = Arc::new(Images::open(config, pcr.start(), None).await.unwrap());
    let system: Arc<dyn Clock> = Arc::new(System::default());
    let following = tokio::spawn(follow(Arc::clone(&images), Arc::clone(&system), system));
    let scene = Scene { dir, pcr, images, following };
    let mut wanted = vec![entry(File, "program", 1)];
    assert_eq!(scene.until("the short one is measured", 1).await, wanted);
    scene.images.changed().await;
    scene.replace("program", "22");
    tokio::time::timeout(PATIENCE, scene.images.changed()).await.expect("the driver is told");
    fs::remove_file(scene.dir.path().join("plc/program")).unwrap();
    wanted.extend([entry(File, "program", 2), entry(Removed, "program", 2)]);
    assert_eq!(scene.until("both changes are logged", 3).await, wanted);
    assert!(scene.images.status().measuring.is_some_and(|path| path.ends_with("/plc/model")));
    wanted.push(entry(File, "model", 600_000));
    assert_eq!(scene.until("the long one goes on", 4).await, wanted);
}

/// As of a controller whose releases lie beside each other, and a link says which one is used.
#[tokio::test]
async fn a_link_above_a_named_file_that_leads_elsewhere_is_noticed_at_once() {
    let (dir, pcr) = (TempDir::new().unwrap(), Pcr::new());
    let at = |name: &str| dir.path().join(name);
    for (release, content) in [("1", "1"), ("2", "22")] {
        fs::create_dir_all(at("releases").join(release).join("bin")).unwrap();
        fs::write(at("releases").join(release).join("bin/press"), content).unwrap();
    }
    symlink("releases/1", at("current")).unwrap();
    let config = Config { log: at("images.log"), ..config(&[&at("current/bin/press")], &[]) };
    let images = Arc::new(Images::open(config, pcr.start(), None).await.unwrap());
    let system: Arc<dyn Clock> = Arc::new(System::default());
    let following = tokio::spawn(follow(Arc::clone(&images), Arc::clone(&system), system));
    tokio::time::timeout(PATIENCE, images.ready()).await.unwrap();
    let link = at("next");
    symlink("releases/2", &link).unwrap();
    let begin = Instant::now();
    fs::rename(link, at("current")).unwrap();
    let scene = Scene { dir, pcr, images, following };
    let history = scene.until("another file is there", 2).await;
    assert_eq!(history, [entry(File, "press", 1), entry(File, "press", 2)]);
    // Without a sign it would be found by the look that comes once a minute.
    assert!(begin.elapsed() < Duration::from_secs(45), "{:?}", begin.elapsed());
}

/// After a failure evidence waits for what changed meanwhile, but not for what is gone again.
#[tokio::test]
async fn what_is_removed_before_its_turn_is_owed_no_more() {
    let (dir, pcr) = (TempDir::new().unwrap(), Pcr::new());
    let folder = dir.path().join("plc");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("program"), "run").unwrap();
    // Seconds, and some minutes at this limit.
    for (name, size) in [("short", 1 << 20), ("long", 2 << 20)] {
        fs::write(folder.join(name), vec![7; size]).unwrap();
    }
    OpenFile::create(dir.path().join("fresh")).unwrap().set_len(200 << 20).unwrap();
    pcr.fail([Some(Fault::Before)]);
    let limits = Limits { bytes: NonZeroU64::new(400_000).unwrap(), processor: 1.0 };
    let config = Config { log: dir.path().join("images.log"), limits, ..config(&[], &[&folder]) };
    let images = Arc::new(Images::open(config, pcr.start(), None).await.unwrap());
    let system: Arc<dyn Clock> = Arc::new(System::default());
    let following = tokio::spawn(follow(Arc::clone(&images), Arc::clone(&system), system));
    tokio::time::timeout(PATIENCE, images.ready()).await.expect("whoever waits is told");
    let measuring =
        |name: &str| images.status().measuring.is_some_and(|path| path.ends_with(&format!("/plc/{name}")));
    assert!(images.hold().await.is_err(), "the first entry is not in the pcr");
    let give_up = Instant::now() + PATIENCE;
    while !measuring("short") {
        assert!(Instant::now() < give_up, "{:?}", images.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fs::remove_file(folder.join("long")).unwrap();
    fs::rename(dir.path().join("fresh"), folder.join("model")).unwrap();
    while let Err(error) = images.hold().await {
        assert!(Instant::now() < give_up, "{error}: {:?}", images.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let scene = Scene { dir, pcr, images, following };
    assert_eq!(scene.history().await, [entry(File, "program", 3), entry(File, "short", 1 << 20)]);
    scene.following.abort();
}

/// Whether the file system hangs.
static HANGS: (Mutex<bool>, Condvar) = (Mutex::new(true), Condvar::new());

fn open_when_it_answers(place: &Place) -> io::Result<(OpenFile, Stamp)> {
    if place.below.ends_with("far") {
        drop(HANGS.1.wait_while(HANGS.0.lock().unwrap(), |hangs| *hangs).unwrap());
    }
    open::file(place)
}

/// The first measuring of all, on a file system of another machine that went away.
#[tokio::test]
async fn a_file_system_that_hangs_is_named_and_measured_once_it_answers() {
    let (dir, pcr) = (TempDir::new().unwrap(), Pcr::new());
    let folder = dir.path().join("plc");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("far"), "run").unwrap();
    let config = Config { log: dir.path().join("images.log"), ..config(&[], &[&folder]) };
    let images = Arc::new(Images::open(config, pcr.start(), None).await.unwrap());
    let system: Arc<dyn Clock> = Arc::new(System::default());
    let disk = Disk { open: open_when_it_answers, patience: Duration::from_millis(50) };
    let following = tokio::spawn(follow_on(Arc::clone(&images), Arc::clone(&system), system, disk));
    tokio::time::timeout(PATIENCE, images.ready()).await.expect("whoever waits is told");
    let why = images.hold().await.unwrap_err().to_string();
    assert!(why.contains("/plc/far does not give its content: its file system hangs"), "{why}");
    let told = images.status().problems;
    assert!(told[0].contains("/plc/far"), "{told:?}");
    *HANGS.0.lock().unwrap() = false;
    HANGS.1.notify_all();
    let scene = Scene { dir, pcr, images, following };
    let give_up = Instant::now() + PATIENCE;
    while scene.images.hold().await.is_err() {
        assert!(Instant::now() < give_up, "{:?}", scene.images.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(scene.history().await, [entry(File, "far", 3)]);
}
