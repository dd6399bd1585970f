//! Lines with the same outcome for the same reason as one group, so that a whole fleet fits into one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::appraisal::Finding;
use policy::id::ZoneName;

use super::{Line, Outlook};

/// Most groups of an answer: with some reasons each they stay within 2 MiB.
const MAX_GROUPS: usize = 1_000;
/// What is said where more reasons differ than can be told.
const OTHERS: &str = "reasons that differ from device to device; `touchstone device why NAME` tells each";

/// Devices to which the same happens.
#[derive(Debug)]
pub struct Group<'a> {
    /// Why, as the first of them is told.
    pub reason: &'a str,
    /// What counts against all of them.
    pub findings: Vec<Finding>,
    /// Whether what was seen differs among them.
    pub varies: bool,
    /// Their zones of the product; none where they differ.
    pub zones: &'a [ZoneName],
    /// Their criticality; empty where it differs.
    pub criticality: &'a str,
    /// Its devices, by name; never empty.
    pub lines: Vec<&'a Line>,
}

/// How much devices of one group have in common, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    /// Everything.
    Exact,
    /// What is wrong, whatever was there instead.
    Cause,
    /// What happens to them.
    Outcome,
}

type Cause<'a> = (Outlook, Outlook, bool, &'a str, &'a [ZoneName], String);

/// The lines in groups, as fine as an answer has room for.
#[must_use]
pub fn grouped(lines: &[Line]) -> Vec<Group<'_>> {
    grouped_within(lines, MAX_GROUPS)
}

fn grouped_within(lines: &[Line], most: usize) -> Vec<Group<'_>> {
    let fine = [Grain::Exact, Grain::Cause].into_iter().map(|grain| (grain, at(lines, grain)));
    let fitting = fine.into_iter().find(|(_, groups)| groups.len() <= most);
    let (grain, groups) = fitting.unwrap_or_else(|| (Grain::Outcome, at(lines, Grain::Outcome)));
    groups.into_values().filter_map(|lines| group(lines, grain)).collect()
}

fn at(lines: &[Line], grain: Grain) -> BTreeMap<Cause<'_>, Vec<&Line>> {
    let mut groups: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        groups.entry(cause(line, grain)).or_default().push(line);
    }
    groups
}

fn cause(line: &Line, grain: Grain) -> Cause<'_> {
    let outcome = (line.before, line.after, line.would_refuse);
    let words = match (grain, line.findings.first()) {
        (Grain::Outcome, _) => return (outcome.0, outcome.1, outcome.2, "", &[], String::new()),
        (Grain::Exact, Some(_)) => line.findings.iter().map(|finding| finding.sentence.as_str()).collect(),
        (Grain::Cause, Some(first)) => {
            format!("{:?} {} {:?} {:?} {:?}", first.kind, first.claim, first.pcr, first.name, first.release)
        }
        (Grain::Exact | Grain::Cause, None) => line.reason.to_string(),
    };
    (outcome.0, outcome.1, outcome.2, &line.criticality, &line.zones, words)
}

fn group(lines: Vec<&Line>, grain: Grain) -> Option<Group<'_>> {
    let first = lines.first().copied()?;
    let varies = lines.iter().any(|line| !is_same(&line.findings, &first.findings));
    let findings = if varies { Vec::new() } else { first.findings.to_vec() };
    let reason = match grain {
        Grain::Outcome => OTHERS,
        Grain::Exact | Grain::Cause => &*first.reason,
    };
    let (zones, criticality): (&[ZoneName], &str) = match grain {
        Grain::Exact | Grain::Cause => (&first.zones, &first.criticality),
        Grain::Outcome => (&[], ""),
    };
    Some(Group { reason, findings, varies, zones, criticality, lines })
}

fn is_same(one: &Arc<[Finding]>, other: &Arc<[Finding]>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}
