//! Reads a document, and finds everything in it that has to be mended.
//!
//! An entry that cannot be read as it is, is read field by field, each by itself in an entry that has nothing but what
//! every one has. What can be read of it stands in for it where zones and conduits are held against each other, so that
//! a slip in a zone does not look like a zone that is missing.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{ConduitEntry, MAX_DOCUMENT, SCHEMA, ZoneEntry, zone};
use crate::id::ZoneName;
use crate::zone::conduit::Conduit;
use crate::zone::model::{Entry, MAX_CONDUITS, MAX_ZONES, Segmentation, Zone, ZoneFault};

/// Faults that are told; whoever has more mends these first.
const MAX_FAULTS: usize = 100;
/// A zone with nothing but what every zone says.
const LEAST_ZONE: &str =
    "name = \"zone\"\nmode = \"observe\"\nreattest_every = \"15m\"\noutlive_broker = \"8h\"\n";
/// The same of a conduit.
const LEAST_CONDUIT: &str = "from = \"from\"\nto = \"to\"\nservice = \"service\"\n";

/// What is wrong with a document; each line names its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentFaults {
    told: Vec<String>,
    left_out: usize,
}

impl DocumentFaults {
    fn one(fault: String) -> Self {
        Self { told: vec![fault], left_out: 0 }
    }
}

impl fmt::Display for DocumentFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, left_out } = self;
        let more = if *left_out > 0 { format!("\nand {left_out} more") } else { String::new() };
        write!(f, "the zones' file has {} fault(s)\n{}{more}", told.len() + left_out, told.join("\n"))
    }
}

/// Reads a document.
pub fn parse(text: &str) -> Result<Segmentation, DocumentFaults> {
    let refuse = |fault: String| Err(DocumentFaults::one(fault));
    if text.len() > MAX_DOCUMENT {
        return refuse(format!("it has {} bytes; {MAX_DOCUMENT} are allowed", text.len()));
    }
    let document = match DeTable::parse(text) {
        Ok(document) => document.into_inner(),
        Err(error) => return refuse(placed(text, start(&error), &words(&error))),
    };
    let mut faults = Faults::default();
    let [zones, conduits] = match Parts::of(document, &mut faults) {
        Ok(Parts { zones, conduits }) => [zones, conduits],
        Err(fault) => return refuse(fault),
    };
    let fitting = fit(zones, conduits, &mut faults);
    match fitting {
        Some(segmentation) if faults.is_empty() => Ok(segmentation),
        _ => Err(faults.told(text)),
    }
}

/// Faults with the place of each, the first ones of the document.
#[derive(Default)]
struct Faults {
    first: BTreeSet<(usize, String)>,
    left_out: usize,
}

impl Faults {
    fn add(&mut self, at: usize, fault: impl Into<String>) {
        if self.first.insert((at, fault.into())) && self.first.len() > MAX_FAULTS {
            self.first.pop_last();
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn told(self, text: &str) -> DocumentFaults {
        let told = self.first.into_iter().map(|(at, fault)| placed(text, at, &fault)).collect();
        DocumentFaults { told, left_out: self.left_out }
    }
}

fn start(error: &toml::de::Error) -> usize {
    error.span().unwrap_or_default().start
}

/// The error in one line.
fn words(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(" ")
}

fn placed(text: &str, at: usize, fault: &str) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {fault}")
}

type Entries<'a> = Vec<Spanned<DeValue<'a>>>;

/// The entries of a document, not read yet.
#[derive(Default)]
struct Parts<'a> {
    zones: Entries<'a>,
    conduits: Entries<'a>,
}

impl<'a> Parts<'a> {
    /// Counts before anything is read closely: each entry may hold a schedule, and each schedule a time zone.
    fn of(document: DeTable<'a>, faults: &mut Faults) -> Result<Self, String> {
        let (mut parts, mut schema) = (Self::default(), None);
        for (key, value) in document {
            let at = key.span().start;
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("schema", _) => schema = Some(u64::deserialize(ValueDeserializer::from(value))),
                ("zone", DeValue::Array(_)) => parts.zones = entries(value),
                ("conduit", DeValue::Array(_)) => parts.conduits = entries(value),
                (name @ ("zone" | "conduit"), _) => {
                    faults.add(at, format!("`{name}` is a list; write [[{name}]] above each"));
                }
                (other, _) => {
                    let other: String = other.chars().take(40).collect();
                    faults.add(
                        at,
                        format!("unknown field `{other}`, expected one of `schema`, `zone`, `conduit`"),
                    );
                }
            }
        }
        match schema {
            Some(Ok(SCHEMA)) => {}
            Some(Ok(other)) => {
                return Err(format!("schema {other} is not known here; write schema = {SCHEMA}"));
            }
            Some(Err(error)) => faults.add(start(&error), format!("schema: {}", words(&error))),
            None => faults.add(0, format!("missing field `schema`; write schema = {SCHEMA}")),
        }
        let counts =
            [("zones", parts.zones.len(), MAX_ZONES), ("conduits", parts.conduits.len(), MAX_CONDUITS)];
        match counts.into_iter().find(|(_, count, most)| count > most) {
            Some((what, count, most)) => Err(format!("it has {count} {what}; a plant has at most {most}")),
            None => Ok(parts),
        }
    }
}

fn entries(value: Spanned<DeValue<'_>>) -> Entries<'_> {
    match value.into_inner() {
        DeValue::Array(all) => all.into_iter().collect(),
        _ => Vec::new(),
    }
}

/// An entry; what cannot be read of it is as in the least one.
struct Read<E> {
    entry: E,
    at: usize,
    unread: BTreeSet<String>,
}

impl<E: DeserializeOwned> Read<E> {
    fn of(value: &Spanned<DeValue<'_>>, least: &DeTable<'_>, faults: &mut Faults) -> Option<Self> {
        let at = value.span().start;
        let whole = match E::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(entry) => return Some(Self { entry, at, unread: BTreeSet::new() }),
            Err(whole) => whole,
        };
        let DeValue::Table(fields) = value.get_ref() else {
            faults.add(at, words(&whole));
            return None;
        };
        let (mut sound, mut unread) = (least.clone(), BTreeSet::new());
        for missing in least.keys().filter(|key| !fields.contains_key(*key)) {
            faults.add(at, format!("missing field `{}`", missing.get_ref()));
            unread.insert(missing.get_ref().to_string());
        }
        // Beyond those that are told nobody needs to know more.
        for (key, field) in fields {
            if faults.left_out > 0 {
                break;
            }
            let with = |part| {
                let mut table = least.clone();
                table.insert(key.clone(), part);
                E::deserialize(ValueDeserializer::from(Spanned::new(value.span(), DeValue::Table(table))))
            };
            let wrong: Vec<_> = alone(field).into_iter().filter_map(|part| with(part).err()).collect();
            if wrong.is_empty() {
                sound.insert(key.clone(), field.clone());
            } else {
                unread.insert(key.get_ref().to_string());
            }
            wrong.iter().for_each(|error| faults.add(start(error), words(error)));
        }
        if unread.is_empty() {
            faults.add(start(&whole), words(&whole));
        }
        let sound = Spanned::new(value.span(), DeValue::Table(sound));
        let entry = E::deserialize(ValueDeserializer::from(sound)).ok()?;
        Some(Self { entry, at, unread })
    }

    fn says(&self, fields: &[&str]) -> bool {
        !fields.iter().any(|field| self.unread.contains(*field))
    }
}

/// The elements of a list or table, each as the only one; anything else as it is.
fn alone<'a>(value: &Spanned<DeValue<'a>>) -> Entries<'a> {
    let of = |value: DeValue<'a>, span| Spanned::new(span, value);
    match value.get_ref() {
        DeValue::Array(all) if !all.is_empty() => all
            .iter()
            .map(|one| of(DeValue::Array([one.clone()].into_iter().collect()), one.span()))
            .collect(),
        DeValue::Table(all) if !all.is_empty() => {
            let only = |(key, one): (&Spanned<_>, &Spanned<_>)| {
                of(DeValue::Table([(key.clone(), one.clone())].into_iter().collect()), key.span())
            };
            all.iter().map(only).collect()
        }
        _ => vec![value.clone()],
    }
}

/// Holds zones and conduits against each other, also those that are not sound in themselves. None if they do not fit.
fn fit(zones: Entries<'_>, conduits: Entries<'_>, faults: &mut Faults) -> Option<Segmentation> {
    let least = |text| DeTable::parse(text).map(Spanned::into_inner).unwrap_or_default();
    let (least_zone, least_conduit) = (least(LEAST_ZONE), least(LEAST_CONDUIT));
    let (mut known, mut places, mut guessed, mut nameless) =
        (Vec::new(), Places::default(), BTreeSet::new(), false);
    for value in zones {
        let Some(read) =
            Read::<ZoneEntry>::of(&value, &least_zone, faults).filter(|read| read.says(&["name"]))
        else {
            nameless = true;
            continue;
        };
        places.zones.push(read.at);
        known.push(sound(read, &mut guessed, faults));
    }
    let mut opened = Vec::new();
    for value in conduits {
        let read = Read::<ConduitEntry>::of(&value, &least_conduit, faults);
        let Some(read) = read.filter(|read| read.says(&["from", "to", "service"])) else { continue };
        places.conduits.push(read.at);
        let unsure = !read.says(&["accept_observed"]);
        let mut conduit = Conduit::from(read.entry);
        // Nobody knows whether a zone observes that was not read.
        conduit.accept_observed |= unsure || guessed.contains(&conduit.from);
        opened.push(conduit);
    }
    let found = match Segmentation::new(known, opened) {
        Ok(segmentation) => return Some(segmentation),
        Err(found) => found,
    };
    // A zone without a name may be any that is missing.
    let is_told = |fault: &ZoneFault| !(nameless && matches!(fault, ZoneFault::UnknownZone { .. }));
    for (entry, fault) in found.faults().iter().filter(|(_, fault)| is_told(fault)) {
        faults.add(places.of(*entry), fault.to_string());
    }
    None
}

/// The zone, or one of its name if its numbers do not go together or are not all read.
fn sound(read: Read<ZoneEntry>, guessed: &mut BTreeSet<ZoneName>, faults: &mut Faults) -> Zone {
    let name = read.entry.name.clone();
    if read.unread.is_empty() {
        match zone(read.entry) {
            Ok(zone) => return zone,
            Err(wrong) => wrong.into_iter().for_each(|fault| faults.add(read.at, fault)),
        }
    }
    guessed.insert(name.clone());
    Zone::new(name)
}

/// Where entries begin.
#[derive(Default)]
struct Places {
    zones: Vec<usize>,
    conduits: Vec<usize>,
}

impl Places {
    fn of(&self, entry: Entry) -> usize {
        let at = match entry {
            Entry::Plant => None,
            Entry::Zone(nth) => self.zones.get(nth),
            Entry::Conduit(nth) => self.conduits.get(nth),
        };
        at.copied().unwrap_or_default()
    }
}
