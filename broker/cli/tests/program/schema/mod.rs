//! Every command's `-o json` answer is what the committed files in `schema/` say.
//!
//! Within schema 1 fields are added, never changed: one that is gone, has another name or type, or may be null where it
//! never was, fails here. A field or command that is new is written down by running this test with
//! `TOUCHSTONE_REGENERATE=1`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot read its shapes or run its commands has failed"
)]

pub(crate) mod filler;
mod runs;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::shape::Shape;
use crate::tool::run;

/// What prints no document of this tool: a script, and a JWK Set as other programs read it.
const NO_DOCUMENT: [&str; 2] = ["authority jwks", "completion"];
/// What needs more than a made-up answer, and is held by the end-to-end suites (`people`, `audit`).
const END_TO_END: [&str; 2] = ["admin accept", "audit verify"];

/// Of these no input here shows every part. What is missing is written into the files by hand.
const PARTLY: [&str; 7] = [
    "conduit close",
    "conduit why",
    "golden apply --wait",
    "inspect ek",
    "inspect eventlog",
    "inspect eventlog --events",
    "inspect secureboot",
];

/// Shapes by what was run, for example `device admit` and `device admit --dry-run`.
type Shapes = BTreeMap<String, Shape>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema")
}

fn committed() -> Shapes {
    let mut shapes = Shapes::new();
    let paths = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let text = fs::read_to_string(path).unwrap();
        let file: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
        shapes.extend(file.iter().map(|(label, shape)| (label.clone(), Shape::read(shape))));
    }
    shapes
}

/// One file for each noun.
fn write(shapes: &Shapes) {
    let mut files: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for (label, shape) in shapes {
        let noun = label.split(' ').next().unwrap();
        files.entry(noun).or_default().insert(label, shape.write());
    }
    for (noun, file) in files {
        let text = serde_json::to_string_pretty(&file).unwrap();
        fs::write(folder().join(format!("{noun}.json")), text + "\n").unwrap();
    }
}

#[test]
fn no_answer_breaks_a_program_that_was_written_for_it() {
    let (mut seen, mut known) = (runs::answers(), committed());
    for (label, now) in seen.iter_mut().filter(|(label, _)| PARTLY.contains(&label.as_str())) {
        *now = known.get(label).cloned().unwrap_or(now.clone()).or(now.clone());
    }
    let (mut faults, mut new) = (Vec::new(), BTreeSet::new());
    for (label, shape) in &known {
        match seen.get(label) {
            Some(now) => shape.broken_by(now, label, &mut faults),
            None => faults.push(format!("{label}: no run in runs.rs")),
        }
    }
    for (label, now) in seen {
        if now.has_unseen() && known.contains_key(&label) {
            faults.push(format!("{label}: a field was never seen with a value: {}", now.write()));
        }
        if known.get(&label).is_none_or(|shape| shape.clone().or(now.clone()) != *shape) {
            new.insert(label.clone());
            let grown = now.grown(known.get(&label));
            known.insert(label, grown);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    if std::env::var_os("TOUCHSTONE_REGENERATE").is_some() {
        return write(&known);
    }
    assert!(
        new.is_empty(),
        "new, run this test with TOUCHSTONE_REGENERATE=1 and look at the change: {new:?}"
    );
}

/// The command in a label: its words up to an option or a placeholder.
fn command(label: &str) -> String {
    let word = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    label.split(' ').take_while(word).collect::<Vec<_>>().join("-")
}

#[test]
fn every_command_has_a_shape() {
    let pages = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", "--out", pages.path().to_str().unwrap()]).code, 0);
    let names =
        fs::read_dir(pages.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = |file: String| file.strip_prefix("touchstone-")?.strip_suffix(".1").map(str::to_owned);
    let all: BTreeSet<String> = names.filter_map(name).collect();
    let is_noun = |name: &&String| all.iter().any(|other| other.starts_with(&format!("{name}-")));
    let shapes = committed();
    let labels = shapes.keys().filter(|label| !label.starts_with("any "));
    let known: BTreeSet<String> =
        labels.map(String::as_str).chain(NO_DOCUMENT).chain(END_TO_END).map(command).collect();
    let missing: Vec<_> = all.iter().filter(|name| !is_noun(name) && !known.contains(*name)).collect();
    assert!(missing.is_empty(), "add a run of it in runs.rs: {missing:?}");
    let gone: Vec<_> = known.iter().filter(|name| !all.contains(*name)).collect();
    assert!(gone.is_empty(), "these are no commands any more: {gone:?}");
}
