//! Reads a manifest from TOML and reports every fault with its place.
//!
//! The reader walks the parsed document itself instead of deriving it, because a derived reader
//! stops at the first fault. Each function adds what is wrong to [`Faults`] and goes on.

mod hollow;
mod ima;
mod image;
mod sbom;
mod secure_boot;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ManifestFault, ManifestFaults, ManifestProblem};
use super::variant::MAX_VARIANTS;
use super::{
    EventRule, Expectation, MAX_DESCRIPTION, MAX_EVENT_RULES, MAX_FAULTS, MAX_MANIFEST_BYTES, MAX_PCR,
    MAX_PCR_VALUES, MAX_RULE_DIGESTS, MAX_RULE_NAME, Manifest, PcrRules, SCHEMA,
};
use crate::appraisal::early;
use crate::reference::event_type::EventType;
use crate::reference::release::ReleaseId;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::PcrIndex;

type Value<'i> = Spanned<DeValue<'i>>;
/// A rule and where it stands.
type PlacedRule = (Range<usize>, EventRule);

const ROOT_FIELDS: &[&str] = &[
    "schema",
    "product",
    "version",
    "counter",
    "description",
    "pcrs",
    "event",
    "image",
    "ima",
    "sbom",
    "secure_boot",
];
const EVENT_FIELDS: &[&str] = &["pcr", "type", "digest", "optional", "early", "absent", "name", "variant"];
/// Banks that can be proof. SHA-1 is not (row 15 of the checklist).
const BANKS: &[HashAlg] = &[HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];
const EXAMPLE_DIGESTS: &str = "[\"<hex digits>\"]";

pub(super) fn read(text: &str) -> Result<Manifest, ManifestFaults> {
    let mut faults = Faults { text, list: Vec::new(), left_out: 0 };
    if text.len() > MAX_MANIFEST_BYTES {
        faults.add(0..0, ManifestProblem::TooLarge(text.len()));
        return Err(faults.finish());
    }
    let (root, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        faults.add(error.span().unwrap_or_default(), ManifestProblem::Syntax(message));
    }
    let manifest = read_root(root.get_ref(), &mut faults);
    match manifest {
        Some(manifest) if faults.list.is_empty() => Ok(manifest),
        _ => Err(faults.finish()),
    }
}

/// What is wrong so far, as byte ranges of the text.
struct Faults<'t> {
    text: &'t str,
    /// At most [`MAX_FAULTS`]: finding a place reads the text up to it.
    list: Vec<(Range<usize>, ManifestProblem)>,
    left_out: usize,
}

impl Faults<'_> {
    fn add(&mut self, at: Range<usize>, problem: ManifestProblem) {
        if self.list.len() < MAX_FAULTS {
            self.list.push((at, problem));
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// How many there are.
    const fn found(&self) -> usize {
        self.list.len().saturating_add(self.left_out)
    }

    /// Keeps what can be relied on: a broken line also looks like a missing field, or one of a wrong
    /// type, so beside faults of syntax only what is wrong on other lines is told.
    fn finish(mut self) -> ManifestFaults {
        self.list.sort_by_key(|(at, _)| at.start);
        let is_syntax = |problem: &ManifestProblem| matches!(problem, ManifestProblem::Syntax(_));
        let placed: Vec<ManifestFault> = self
            .list
            .iter()
            .map(|(at, problem)| {
                let (line, column) = position(self.text, at.start);
                ManifestFault { line, column, problem: problem.clone() }
            })
            .collect();
        let broken: BTreeSet<usize> =
            placed.iter().filter(|fault| is_syntax(&fault.problem)).map(|fault| fault.line).collect();
        let follows_from_syntax = |fault: &ManifestFault| {
            let of_gaps = matches!(
                fault.problem,
                ManifestProblem::Missing { .. }
                    | ManifestProblem::AcceptsEverything
                    | ManifestProblem::OnlyOptional
                    | ManifestProblem::OnlyCommon
                    | ManifestProblem::Empty(_)
            );
            !is_syntax(&fault.problem) && !broken.is_empty() && (of_gaps || broken.contains(&fault.line))
        };
        let told = placed.into_iter().filter(|fault| !follows_from_syntax(fault)).collect();
        ManifestFaults { told, left_out: self.left_out }
    }

    fn wrong_type(&mut self, at: Range<usize>, field: &str, wanted: &'static str, example: &'static str) {
        self.add(at, ManifestProblem::WrongType { field: field.to_owned(), wanted, example });
    }
}

/// Line and column, both from 1, of a byte of `text`.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before.get(line_start..).unwrap_or("").chars().count() + 1)
}

/// A table whose fields are taken one by one; `at` is where a missing field is reported.
struct Fields<'a, 'i> {
    table: &'a DeTable<'i>,
    at: Range<usize>,
}

impl<'a, 'i> Fields<'a, 'i> {
    fn new(
        table: &'a DeTable<'i>,
        at: Range<usize>,
        known: &'static [&'static str],
        faults: &mut Faults<'_>,
    ) -> Self {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let found = shortened(key.get_ref());
            faults.add(key.span(), ManifestProblem::UnknownField { found, known: known.join(", ") });
        }
        Self { table, at }
    }

    fn optional(&self, field: &str) -> Option<&'a Value<'i>> {
        self.table.get(field)
    }

    fn required(
        &self,
        field: &'static str,
        example: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<&'a Value<'i>> {
        let value = self.table.get(field);
        if value.is_none() {
            faults.add(self.at.clone(), ManifestProblem::Missing { field, example });
        }
        value
    }

    fn flag(&self, field: &'static str, faults: &mut Faults<'_>) -> bool {
        let Some(value) = self.optional(field) else { return false };
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            faults.wrong_type(value.span(), field, "true or false", "true");
        }
        flag.unwrap_or(false)
    }

    fn text(&self, field: &'static str, limit: usize, faults: &mut Faults<'_>) -> Option<String> {
        let value = self.optional(field)?;
        let text = string(value, field, "\"some text\"", faults)?;
        let found = text.chars().count();
        if found > limit {
            faults.add(value.span(), ManifestProblem::TooLong { what: format!("`{field}`"), found, limit });
        }
        if !text.chars().all(is_plain) {
            faults.add(value.span(), ManifestProblem::NotPlain(field));
        }
        Some(text.to_owned())
    }
}

/// Neither a control character nor one that changes how the text around it is shown.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn string<'a>(
    value: &'a Value<'_>,
    field: &str,
    example: &'static str,
    faults: &mut Faults<'_>,
) -> Option<&'a str> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        faults.wrong_type(value.span(), field, "text in quotes", example);
    }
    text
}

fn number(value: &Value<'_>, field: &str, example: &'static str, faults: &mut Faults<'_>) -> Option<u64> {
    // TOML promises 64-bit signed integers; a higher counter would not survive other tools.
    let number = value
        .get_ref()
        .as_integer()
        .and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok())
        .and_then(|n| u64::try_from(n).ok());
    if number.is_none() {
        faults.wrong_type(value.span(), field, "a whole number from 0", example);
    }
    number
}

fn read_root(root: &DeTable<'_>, faults: &mut Faults<'_>) -> Option<Manifest> {
    let fields = Fields::new(root, 0..0, ROOT_FIELDS, faults);
    read_schema(&fields, faults);
    let id = read_id(&fields, faults);
    let counter = fields
        .required("counter", "counter = 1", faults)
        .and_then(|value| number(value, "counter", "7", faults));
    let description = fields.text("description", MAX_DESCRIPTION, faults);
    let before = faults.found();
    let pcrs = fields.optional("pcrs").map(|value| read_banks(value, faults)).unwrap_or_default();
    let events = fields.optional("event").map(|value| read_events(value, faults)).unwrap_or_default();
    let secure_boot = fields.optional("secure_boot").map(|value| secure_boot::read(value, faults));
    // Of rules with faults nothing can be said as a whole.
    if faults.found() == before {
        hollow::report(&pcrs, &events, secure_boot.as_ref(), faults);
    }
    let ima = fields.optional("ima").map(|value| ima::read(value, faults));
    let images = fields.optional("image").map(|value| image::read(value, faults)).unwrap_or_default();
    let sboms = fields.optional("sbom").map(|value| sbom::read(value, faults)).unwrap_or_default();
    let mut events: Vec<EventRule> = events.into_iter().map(|(_, rule)| rule).collect();
    events.sort_by_key(|rule| rule.pcr);
    Some(Manifest { id: id?, counter: counter?, description, pcrs, events, images, ima, secure_boot, sboms })
}

fn read_schema(fields: &Fields<'_, '_>, faults: &mut Faults<'_>) {
    let Some(value) = fields.required("schema", "schema = 1", faults) else { return };
    match number(value, "schema", "1", faults) {
        Some(SCHEMA) | None => {}
        Some(other) => faults.add(value.span(), ManifestProblem::Schema(other.to_string())),
    }
}

fn read_id(fields: &Fields<'_, '_>, faults: &mut Faults<'_>) -> Option<ReleaseId> {
    let product = fields.required("product", "product = \"edge-box\"", faults).and_then(|value| {
        let text = string(value, "product", "\"edge-box\"", faults)?;
        text.parse().map_err(|error| faults.add(value.span(), ManifestProblem::Product(error))).ok()
    });
    let version = fields.required("version", "version = \"1.4.0\"", faults).and_then(|value| {
        let text = string(value, "version", "\"1.4.0\"", faults)?;
        text.parse().map_err(|error| faults.add(value.span(), ManifestProblem::Version(error))).ok()
    });
    Some(ReleaseId { product: product?, version: version? })
}

fn read_banks(value: &Value<'_>, faults: &mut Faults<'_>) -> BTreeMap<HashAlg, PcrRules> {
    let mut banks = BTreeMap::new();
    let Some(table) = value.get_ref().as_table() else {
        faults.wrong_type(value.span(), "pcrs", "a table", "[pcrs.sha256]");
        return banks;
    };
    for (name, rules) in table {
        match BANKS.iter().find(|bank| bank.name() == name.get_ref().as_ref()) {
            Some(bank) => {
                let rules = read_pcrs(*bank, rules, faults);
                if !rules.is_empty() {
                    banks.insert(*bank, rules);
                }
            }
            None => faults.add(name.span(), ManifestProblem::Bank(shortened(name.get_ref()))),
        }
    }
    banks
}

fn read_pcrs(bank: HashAlg, value: &Value<'_>, faults: &mut Faults<'_>) -> PcrRules {
    let mut rules = PcrRules::new();
    let Some(table) = value.get_ref().as_table() else {
        faults.wrong_type(value.span(), bank.name(), "a table", "[pcrs.sha256]");
        return rules;
    };
    for (key, list) in table {
        let pcr = key.get_ref().parse::<u8>().ok().filter(|n| n.to_string() == key.get_ref().as_ref());
        let values = read_digests(list, key.get_ref(), &[bank], MAX_PCR_VALUES, faults);
        match pcr.and_then(quoted_pcr) {
            Some(pcr) => {
                hollow::report_values(bank, pcr, list, faults);
                if !values.is_empty() {
                    rules.insert(pcr, values);
                }
            }
            None => faults.add(key.span(), ManifestProblem::Pcr(shortened(key.get_ref()))),
        }
    }
    rules
}

fn quoted_pcr(number: u8) -> Option<PcrIndex> {
    PcrIndex::new(u32::from(number)).filter(|pcr| pcr.number() <= MAX_PCR)
}

fn read_digests(
    value: &Value<'_>,
    field: &str,
    banks: &[HashAlg],
    limit: usize,
    faults: &mut Faults<'_>,
) -> BTreeSet<HashValue> {
    let mut digests = BTreeSet::new();
    let Some(list) = value.get_ref().as_array() else {
        faults.wrong_type(value.span(), field, "a list of digests", EXAMPLE_DIGESTS);
        return digests;
    };
    if list.is_empty() {
        faults.add(value.span(), ManifestProblem::Empty(shortened(field)));
    }
    if list.len() > limit {
        let what = format!("`{}`", shortened(field));
        faults.add(value.span(), ManifestProblem::TooLong { what, found: list.len(), limit });
        return digests;
    }
    for entry in list.iter() {
        let Some(text) = string(entry, field, "\"<hex digits>\"", faults) else { continue };
        match banks.iter().find_map(|bank| HashValue::from_hex(*bank, text)) {
            Some(digest) if !digests.insert(digest) => {
                faults.add(entry.span(), ManifestProblem::Duplicate(format!("digest {digest}")));
            }
            Some(_) => {}
            None => faults
                .add(entry.span(), ManifestProblem::Digest { found: shortened(text), wanted: names(banks) }),
        }
    }
    digests
}

fn names(banks: &[HashAlg]) -> String {
    banks.iter().map(|bank| bank.name()).collect::<Vec<_>>().join(", ")
}

/// What was written, short enough for one line of a report.
fn shortened(text: &str) -> String {
    text.chars().take(140).filter(|c| is_plain(*c)).collect()
}

fn read_events(value: &Value<'_>, faults: &mut Faults<'_>) -> Vec<PlacedRule> {
    let Some(list) = value.get_ref().as_array() else {
        faults.wrong_type(value.span(), "event", "a list of tables", "[[event]]");
        return Vec::new();
    };
    if list.len() > MAX_EVENT_RULES {
        let what = "`event`".to_owned();
        faults
            .add(value.span(), ManifestProblem::TooLong { what, found: list.len(), limit: MAX_EVENT_RULES });
        return Vec::new();
    }
    let mut rules = Vec::new();
    for entry in list.iter() {
        match entry.get_ref().as_table() {
            Some(table) => {
                let rule = read_event(table, entry.span(), faults);
                rules.extend(rule.map(|rule| (entry.span(), rule)));
            }
            None => faults.wrong_type(entry.span(), "event", "a table", "[[event]]"),
        }
    }
    report_conflicts(&rules, faults);
    report_variants(value.span(), &rules, faults);
    rules
}

fn read_event(table: &DeTable<'_>, at: Range<usize>, faults: &mut Faults<'_>) -> Option<EventRule> {
    let fields = Fields::new(table, at, EVENT_FIELDS, faults);
    let pcr = fields.required("pcr", "pcr = 4", faults).and_then(|value| {
        let number = number(value, "pcr", "4", faults)?;
        let pcr = u8::try_from(number).ok().and_then(quoted_pcr);
        if pcr.is_none() {
            faults.add(value.span(), ManifestProblem::Pcr(number.to_string()));
        }
        pcr
    });
    let event_type = read_event_type(&fields, faults);
    let name = fields.text("name", MAX_RULE_NAME, faults);
    let variant = fields.text("variant", MAX_RULE_NAME, faults);
    let expectation = read_expectation(&fields, faults);
    report_early(&fields, pcr, event_type, faults);
    Some(EventRule { pcr: pcr?, event_type: event_type?, expectation: expectation?, name, variant })
}

fn read_event_type(fields: &Fields<'_, '_>, faults: &mut Faults<'_>) -> Option<EventType> {
    const EXAMPLE: &str = "\"EV_EFI_BOOT_SERVICES_APPLICATION\"";
    let value = fields.required("type", "type = \"EV_EFI_BOOT_SERVICES_APPLICATION\"", faults)?;
    match string(value, "type", EXAMPLE, faults)?.parse() {
        Ok(EventType::NO_ACTION) => faults.add(value.span(), ManifestProblem::NoAction),
        Ok(event_type) => return Some(event_type),
        Err(error) => faults.add(value.span(), ManifestProblem::EventType(error)),
    }
    None
}

fn read_expectation(fields: &Fields<'_, '_>, faults: &mut Faults<'_>) -> Option<Expectation> {
    if fields.flag("absent", faults) {
        for field in ["digest", "optional", "early"] {
            if let Some(value) = fields.optional(field) {
                faults.add(value.span(), ManifestProblem::AbsentWith(field));
            }
        }
        return Some(Expectation::Absent);
    }
    let (optional, early) = (fields.flag("optional", faults), fields.flag("early", faults));
    let value = fields.required("digest", "digest = [\"<hex digits>\"], or absent = true", faults)?;
    let digests = read_digests(value, "digest", BANKS, MAX_RULE_DIGESTS, faults);
    (!digests.is_empty()).then_some(Expectation::OneOf { digests, optional, early })
}

/// Reports `early` where nothing can be early.
fn report_early(
    fields: &Fields<'_, '_>,
    pcr: Option<PcrIndex>,
    event_type: Option<EventType>,
    faults: &mut Faults<'_>,
) {
    let (Some(value), Some(pcr), Some(event_type)) = (fields.optional("early"), pcr, event_type) else {
        return;
    };
    if !early::is_meant(pcr, event_type) {
        faults.add(value.span(), ManifestProblem::Early);
    }
}

/// Reports rules that say the same thing twice or the opposite of one another.
fn report_conflicts(rules: &[PlacedRule], faults: &mut Faults<'_>) {
    let key = |rule: &EventRule| (rule.pcr, rule.event_type);
    let forbids = |rule: &EventRule| !rule.closes();
    let forbidden: Vec<&EventRule> =
        rules.iter().map(|(_, rule)| rule).filter(|rule| forbids(rule)).collect();
    // Rules of two variants never meet.
    let meet = |a: &EventRule, b: &EventRule| {
        key(a) == key(b) && (b.variant.is_none() || a.is_of(b.variant.as_deref()))
    };
    let mut seen = BTreeSet::new();
    for (at, rule) in rules {
        let digests: Vec<&HashValue> = BANKS.iter().flat_map(|bank| rule.digests(*bank)).collect();
        if !seen.insert((key(rule), &rule.variant, digests)) {
            let what = format!("the rule about {} in PCR {}", rule.event_type, rule.pcr);
            faults.add(at.clone(), ManifestProblem::Duplicate(what));
        }
        if rule.closes() && forbidden.iter().any(|other| meet(rule, other)) {
            let (pcr, event_type) = (rule.pcr.number(), rule.event_type.to_string());
            faults.add(at.clone(), ManifestProblem::Contradiction { pcr, event_type });
        }
    }
}

fn report_variants(at: Range<usize>, rules: &[PlacedRule], faults: &mut Faults<'_>) {
    let names: BTreeSet<&str> = rules.iter().filter_map(|(_, rule)| rule.variant.as_deref()).collect();
    if names.len() > MAX_VARIANTS {
        let what = "the list of variants".to_owned();
        faults.add(at, ManifestProblem::TooLong { what, found: names.len(), limit: MAX_VARIANTS });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("a\nüx = 1", 4), (2, 2));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("a", 99), (1, 2));
    }
}
