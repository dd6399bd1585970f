//! What is to be done after a look: a pure comparison of what is there with what the log says last.

use std::collections::{BTreeMap, BTreeSet};

use policy::eventlog::image::{ImageKind, ImageMeasurement};

use super::open::Place;
use super::stamps::Stamps;
use super::walk::Sight;

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// To be logged as they are.
    pub(super) entries: Vec<ImageMeasurement>,
    /// To be hashed.
    pub(super) jobs: Vec<Job>,
    /// What waits for the end of quiet hours.
    pub(super) waiting: BTreeSet<String>,
}

/// A file that is to be hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) path: String,
    pub(super) place: Place,
    /// The lesser one is hashed first: a short file, and last of all one that was written whenever it was hashed.
    pub(super) turn: (bool, u64),
    /// The log has a content of it, so it does not have to be hashed before anything uses it.
    pub(super) again: bool,
}

/// What is known of this boot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// The last entry of each path.
    pub(super) last: &'a BTreeMap<String, ImageMeasurement>,
    pub(super) stamps: &'a Stamps,
}

/// Compares. `is_named`: whether a path is one of those that are to be measured; `quiet`: nothing is hashed again now.
pub(super) fn plan(
    sights: &BTreeMap<String, Sight>,
    known: Known<'_>,
    is_named: impl Fn(&str) -> bool,
    quiet: bool,
) -> Plan {
    let mut plan = Plan::default();
    for (path, sight) in sights {
        let last = known.last.get(path);
        match sight {
            Sight::Measured(image) if last == Some(image) => {}
            Sight::Measured(image) => plan.entries.push(image.clone()),
            Sight::File(place, stamp) => {
                let is_restless = last.is_some_and(|image| image.kind == ImageKind::Unstable);
                let turn = (is_restless, stamp.size);
                let job = |again| Job { path: path.clone(), place: place.clone(), turn, again };
                match last.filter(|image| is_restless || image.kind == ImageKind::File) {
                    Some(image) if known.stamps.confirm(image, stamp) => {}
                    Some(_) if quiet => drop(plan.waiting.insert(path.clone())),
                    Some(_) => plan.jobs.push(job(true)),
                    None => plan.jobs.push(job(false)),
                }
            }
        }
    }
    let gone = known.last.values().filter(|image| {
        image.kind != ImageKind::Removed && !sights.contains_key(&image.path) && is_named(&image.path)
    });
    plan.entries.extend(gone.map(|image| ImageMeasurement { kind: ImageKind::Removed, ..image.clone() }));
    plan
}
