//! What is hashed again after a start of the attestor, and what is not.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use policy::digest::Digest;
use policy::eventlog::image::{ImageKind, ImageMeasurement};
use policy::time::UnixTime;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::rounds::{At, PATIENCE, config};
use super::{Pcr, image};
use crate::config::Images as Config;
use crate::images::Images;
use crate::images::follow::follow_on;
use crate::images::hash::{Disk, Hashed, hash};
use crate::images::open::{self, Place};
use crate::images::plan::{Job, Known, plan};
use crate::images::stamp::Stamp;
use crate::images::stamps::Stamps;
use crate::images::throttle::Throttle;
use crate::images::walk::{MAX_IMAGES, Sight};
use crate::ports::Clock;

/// What was opened, by every test.
static OPENED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn open_and_note(place: &Place) -> io::Result<(File, Stamp)> {
    OPENED.lock().unwrap().push(place.root.join(&place.below));
    open::file(place)
}

/// Files that are measured, named and in a folder, by an attestor that starts again and again.
struct Scene {
    dir: TempDir,
    pcr: Pcr,
    running: Option<(Arc<Images>, JoinHandle<()>)>,
}

impl Scene {
    /// With two releases of a named file beside each other, of which a link says which one is used, and two other files.
    fn new() -> Self {
        let scene = Self { dir: TempDir::new().unwrap(), pcr: Pcr::new(), running: None };
        for folder in ["plc", "r1", "r2"] {
            fs::create_dir(scene.at(folder)).unwrap();
        }
        for (name, content) in [("plc/a", "1"), ("plc/b", "22"), ("r1/press", "1"), ("r2/press", "22")] {
            fs::write(scene.at(name), content).unwrap();
        }
        scene.lead_to("r1");
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lead_to(&self, release: &str) {
        symlink(release, self.at("next")).unwrap();
        fs::rename(self.at("next"), self.at("current")).unwrap();
    }

    fn stamps(&self) -> PathBuf {
        self.at("images.log.stamps")
    }

    fn opened(&self) -> usize {
        OPENED.lock().unwrap().iter().filter(|file| file.starts_with(self.dir.path())).count()
    }

    async fn stop(&mut self) {
        let (_, following) = self.running.take().unwrap();
        following.abort();
        assert!(following.await.unwrap_err().is_cancelled());
    }

    async fn start(&mut self) {
        let (log, folder, press) = (self.at("images.log"), self.at("plc"), self.at("current/press"));
        let config = Config { log, ..config(&[&press], &[&folder]) };
        let images = Arc::new(Images::open(config, self.pcr.start(), None).await.unwrap());
        // Every write was long ago.
        let clock: Arc<dyn Clock> = Arc::new(At(4_000_000_000));
        let disk = Disk { open: open_and_note, ..Disk::default() };
        let following = tokio::spawn(follow_on(Arc::clone(&images), Arc::clone(&clock), clock, disk));
        self.running = Some((images, following));
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < give_up, "{what}: {:?}", fs::read_to_string(self.stamps()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the log has so many entries; name and length of the last one.
    async fn last_of(&self, entries: usize) -> (String, u64) {
        let (images, _) = self.running.as_ref().unwrap();
        self.until("entries", |_| images.status().entries >= entries).await;
        let history = self.pcr.assert_explained(&images.hold().await.unwrap().log);
        assert_eq!(history.len(), entries, "{history:?}");
        let last = history.last().unwrap();
        (Path::new(&last.path).file_name().unwrap().to_str().unwrap().to_owned(), last.size)
    }

    async fn kept(&self) {
        let names = ["plc/a", "plc/b", "current/press"].map(|name| self.at(name));
        let is_kept = |stamps: &str| names.iter().all(|name| stamps.contains(name.to_str().unwrap()));
        self.until("stamps", |scene| fs::read_to_string(scene.stamps()).is_ok_and(|text| is_kept(&text)))
            .await;
    }
}

#[tokio::test]
async fn an_attestor_that_starts_again_hashes_only_what_changed() {
    let mut scene = Scene::new();
    scene.start().await;
    scene.kept().await;
    assert_eq!(scene.opened(), 3);
    scene.stop().await;
    // The shorter ones would be hashed before this, if they were.
    fs::write(scene.at("plc/b"), "333").unwrap();
    scene.start().await;
    assert_eq!(scene.last_of(4).await, ("b".to_owned(), 3));
    assert_eq!(scene.opened(), 4);
}

/// Killed between the entry and the stamps, which say of the file that is used again now what they said before it was not.
#[tokio::test]
async fn stamps_that_are_older_than_the_log_do_not_hide_what_changed() {
    let mut scene = Scene::new();
    scene.start().await;
    scene.kept().await;
    scene.stop().await;
    let old = fs::read(scene.stamps()).unwrap();
    scene.lead_to("r2");
    scene.start().await;
    assert_eq!(scene.last_of(4).await, ("press".to_owned(), 2));
    scene.until("new stamps", |scene| fs::read(scene.stamps()).unwrap() != old).await;
    scene.stop().await;
    fs::write(scene.stamps(), old).unwrap();
    scene.lead_to("r1");
    scene.start().await;
    assert_eq!(scene.last_of(5).await, ("press".to_owned(), 1));
}

#[tokio::test]
async fn stamps_that_are_not_of_this_log_or_form_count_for_nothing() {
    let mut scene = Scene::new();
    scene.start().await;
    scene.kept().await;
    let good: serde_json::Value = serde_json::from_slice(&fs::read(scene.stamps()).unwrap()).unwrap();
    let mut later = good.clone();
    later["schema"] = 3.into();
    let mut many = good.clone();
    let one = good["stamps"][scene.at("plc/a").to_str().unwrap()].clone();
    for number in 0..MAX_IMAGES - 2 {
        many["stamps"][format!("/{number}")] = one.clone();
    }
    let cut = good.to_string()[..100].to_owned();
    for (what, stamps, rebooted) in [
        ("of a later form", later.to_string(), false),
        ("too many", many.to_string(), false),
        ("cut off", cut, false),
        ("of the boot before", good.to_string(), true),
    ] {
        scene.stop().await;
        fs::write(scene.stamps(), stamps).unwrap();
        if rebooted {
            scene.pcr = Pcr::new();
        }
        let before = scene.opened();
        scene.start().await;
        scene.until(what, |scene| scene.opened() == before + 3).await;
    }
}

#[test]
fn stamps_lie_beside_the_log_whatever_it_is_called() {
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("x.stamps");
    fs::write(&log, "entries").unwrap();
    let (_, stamp) = open::file(&Place::of_file(&log).unwrap()).unwrap();
    let mut stamps = Stamps::beside(&log);
    stamps.insert("/a".to_owned(), stamp, Digest::of(b"a"));
    stamps.keep();
    assert_eq!(fs::read_to_string(&log).unwrap(), "entries");
    assert!(Stamps::beside(&log).confirm(&image("/a", "a"), &stamp));
}

#[test]
fn a_stamp_counts_beside_the_entry_of_the_same_content_and_what_never_rests_comes_last() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a");
    fs::write(&file, "a").unwrap();
    let place = Place::of_file(&file).unwrap();
    let (_, stamp) = open::file(&place).unwrap();
    let mut stamps = Stamps::beside(&dir.path().join("images.log"));
    stamps.insert("/a".to_owned(), stamp, Digest::of(b"a"));
    let sights = [("/a".to_owned(), Sight::File(place.clone(), stamp))].into();
    let jobs = |kind, content: &str| {
        let last = [("/a".to_owned(), ImageMeasurement { kind, ..image("/a", content) })].into();
        plan(&sights, Known { last: &last, stamps: &stamps }, |_| true, false).jobs
    };
    let job = |is_restless, again| {
        vec![Job { path: "/a".to_owned(), place: place.clone(), turn: (is_restless, 1), again }]
    };
    assert_eq!(jobs(ImageKind::File, "a"), []);
    assert_eq!(jobs(ImageKind::File, "b"), job(false, true));
    assert_eq!(jobs(ImageKind::Unstable, "a"), job(true, true));
    assert_eq!(jobs(ImageKind::Removed, "a"), job(false, false));
    assert!(job(true, true)[0].turn > (false, u64::MAX));
}

/// A file that was opened, whose position is that of who reads it.
static READ: Mutex<Option<File>> = Mutex::new(None);

fn open_and_share(place: &Place) -> io::Result<(File, Stamp)> {
    let (file, stamp) = open::file(place)?;
    *READ.lock().unwrap() = Some(file.try_clone()?);
    Ok((file, stamp))
}

/// Stands still until some of the file was read, which takes a minute.
#[derive(Debug)]
struct UntilRead(u64);

impl Clock for UntilRead {
    fn now(&self) -> UnixTime {
        let mut file = READ.lock().unwrap();
        let read = file.as_mut().map_or(0, |file| file.stream_position().unwrap());
        UnixTime(if read > 0 { self.0 + 60 } else { self.0 })
    }
}

/// A write after the first piece may leave the times as they are, however long the rest takes.
#[tokio::test]
async fn a_file_is_settled_by_the_time_at_which_its_reading_began() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("model");
    fs::write(&file, vec![7; 1 << 20]).unwrap();
    let written = u64::try_from(fs::metadata(&file).unwrap().ctime()).unwrap();
    let (place, throttle) = (Place::of_file(&file).unwrap(), Throttle::new(config(&[], &[]).limits));
    for (after, is_settled) in [(1, false), (10, true)] {
        let disk = Disk { open: open_and_share, ..Disk::default() };
        let hashed = hash(&place, &throttle, disk, &UntilRead(written + after)).await;
        assert!(matches!(hashed, Hashed::Still(_, stamp) if stamp.is_some() == is_settled), "{hashed:?}");
    }
}
