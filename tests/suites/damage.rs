//! A page of the broker's store that is not as it was written, wherever it lies: nothing that was acknowledged is missing, or
//! the broker says which store is damaged and what to do, and what it says to do works.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Answer, BrokerFolder, until};
use serde_json::Value;
use tempfile::TempDir;

use super::faults::{copy, files, plant};

/// Bytes of a segment of the store's log (`broker/src/store/sled/database.rs`).
const SEGMENT: usize = 8 << 20;
/// Bytes of the head of a segment, and of what is spoiled elsewhere.
const HEAD: usize = 20;
const PAGE: usize = 512;
/// Places between the first and the last byte of a log.
const PARTS: usize = 8;

/// A part of a file that is spoiled.
#[derive(Debug)]
struct Region {
    what: String,
    file: PathBuf,
    from: usize,
    length: usize,
}

/// Every region of the files below `folder`: of the log its heads, its first message, places between, and its tail; of all
/// others the beginning, the middle and the end.
fn regions(folder: &Path) -> Vec<Region> {
    let mut all = Vec::new();
    for (path, bytes) in files(folder) {
        let file = path.strip_prefix(folder).expect("a file of the folder").to_owned();
        let name = file.display().to_string();
        // Behind it there is room that was never written.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let mut add = |what: &str, from: usize, length: usize| {
            if from < used {
                let what = format!("{what} of {name}, byte {from} of {used}");
                all.push(Region { what, file: file.clone(), from, length });
            }
        };
        if name.ends_with("/db") {
            (0..used).step_by(SEGMENT).for_each(|at| add("the head of a segment", at, HEAD));
            add("the first message", HEAD, PAGE);
            (1..PARTS).for_each(|part| add("a page", used * part / PARTS, PAGE));
            add("the tail", used.saturating_sub(PAGE), PAGE);
        } else {
            add("the beginning", 0, HEAD);
            add("the middle", used / 2, HEAD);
            add("the end", used.saturating_sub(HEAD), HEAD);
        }
    }
    all
}

/// The zones that were acknowledged, some of them before the backup.
fn zones(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("zone-{n}")).collect()
}

const SAVED: usize = 6;
const ALL: usize = 12;

/// A plant that acknowledged all zones, its store as it was then, and a backup of half of them.
struct Whole {
    plant: BrokerFolder,
    content: TempDir,
    backup: PathBuf,
    owner: PathBuf,
}

impl Whole {
    fn new() -> Self {
        let plant = plant();
        let content = TempDir::new().expect("a folder");
        let (backup, owner) = (content.path().join("backup"), content.path().join("owner"));
        let (mut broker, address) = plant.start();
        copy(&plant.path("owner"), &owner);
        for zone in zones(SAVED) {
            done(&plant, &owner, &address, &["zone", "create", &zone, "--product", "edge-box"]);
        }
        done(&plant, &owner, &address, &["backup", "--out", backup.to_str().expect("a plain name")]);
        for zone in &zones(ALL)[SAVED..] {
            done(&plant, &owner, &address, &["zone", "create", zone, "--product", "edge-box"]);
        }
        broker.assert_alive();
        broker.kill();
        copy(&plant.path(""), &content.path().join("broker"));
        Self { plant, content, backup, owner }
    }

    /// Puts the store back as it was, but for `region`.
    fn spoil(&self, region: &Region) {
        let (folder, whole) = (self.plant.path(""), self.content.path().join("broker"));
        fs::remove_dir_all(&folder).expect("the broker's folder");
        copy(&whole, &folder);
        let file = folder.join(&region.file);
        let mut bytes = fs::read(&file).expect("a file of the store");
        let end = (region.from + region.length).min(bytes.len());
        bytes[region.from..end].iter_mut().for_each(|byte| *byte ^= 0xa5);
        fs::write(&file, bytes).expect("a file of the store");
    }

    /// Starts the broker: true if it comes up with everything, false if it says that its store is damaged.
    fn is_whole(&self, region: &Region) -> bool {
        match self.plant.try_start() {
            Ok((broker, address)) => {
                self.has_everything(region, &address);
                broker.kill();
                true
            }
            Err(said) => {
                assert!(said.contains("restore"), "{region:?}: {said}");
                let names = ["db-1", "db.acknowledged", "db.current"].iter().any(|name| said.contains(name));
                assert!(names, "{region:?}: it does not name what is damaged: {said}");
                false
            }
        }
    }

    fn has_everything(&self, region: &Region, address: &str) {
        let listed = self.plant.tool(&self.owner, address, &["zone", "list"]);
        assert_eq!(listed.code, 0, "{region:?}: {listed:?}");
        for zone in zones(ALL) {
            assert!(named(&listed.json).contains(&zone), "{region:?}: {zone} is lost: {:#}", listed.json);
        }
        let verified = self.plant.tool(&self.owner, address, &["audit", "verify"]);
        assert_eq!(verified.code, 0, "{region:?}: {verified:?}");
    }

    /// Restores the backup into a new folder, as the README says it.
    fn restores(&self) {
        let roots = fs::read_to_string(self.plant.run_path("tpm-roots.pem")).expect("the roots");
        let new = BrokerFolder::on_new_host(&self.plant.path("secrets/kek"), &roots, "127.0.0.1:0");
        let (broker, address) = new.start();
        let backup = self.backup.display().to_string();
        done(&new, &new.path("owner"), &address, &["restore", &backup, "--yes"]);
        until("the broker shows a certificate of the plant that was restored", || {
            let listed = new.tool(&self.owner, &address, &["zone", "list"]);
            match named(&listed.json) == zones(SAVED) {
                true => Ok(()),
                false => Err(format!("{listed:?}")),
            }
        });
        broker.terminate();
    }
}

fn done(plant: &BrokerFolder, owner: &Path, address: &str, args: &[&str]) {
    let answer: Answer = plant.tool(owner, address, args);
    answer.done();
}

fn named(listed: &Value) -> Vec<String> {
    let mut zones: Vec<String> = listed["zones"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|zone| zone["name"].as_str().map(str::to_owned))
        .collect();
    zones.sort();
    zones
}

#[test]
fn a_page_that_was_spoiled_anywhere_loses_nothing_in_silence_and_a_restore_works() {
    let whole = Whole::new();
    let folder = whole.content.path().join("broker");
    let store: Vec<Region> = regions(&folder)
        .into_iter()
        .filter(|region| region.file.starts_with("db-1") || region.what.contains(" db."))
        .collect();
    assert!(store.len() > PARTS + 2, "{store:#?}");
    let untouched = Region { what: "nothing".to_owned(), file: "broker.toml".into(), from: 0, length: 0 };
    whole.spoil(&untouched);
    assert!(whole.is_whole(&untouched), "a copy of the store is refused");
    let (mut held, mut said) = (0, 0);
    for region in store {
        whole.spoil(&region);
        let is_whole = whole.is_whole(&region);
        eprintln!("{}: {}", region.what, if is_whole { "nothing is lost" } else { "it says so" });
        if is_whole {
            held += 1;
        } else {
            said += 1;
            whole.restores();
        }
    }
    eprintln!("{held} regions cost nothing, of {said} the broker says that the store is damaged");
    assert!(said > 0, "no damage was noticed");
}
