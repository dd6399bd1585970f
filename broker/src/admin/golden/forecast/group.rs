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

#[cfg(test)]
mod tests {
    use super::super::Boot;
    use super::*;

    /// A device of many whose first finding says what it saw.
    fn line(n: usize, after: Outlook, finding: &Finding) -> Line {
        let mut finding = finding.clone();
        finding.sentence = format!("PCR 8 holds {n}, which no release lists");
        Line {
            device: format!("press-{n}").parse().unwrap(),
            before: Outlook::Trusted,
            after,
            age: 60,
            boot: Boot::default(),
            reason: finding.sentence.as_str().into(),
            findings: [finding].into(),
            zones: ["cell-3".parse().unwrap()].into(),
            owner: "line 3".into(),
            criticality: "low".into(),
            would_refuse: false,
        }
    }

    fn finding() -> Finding {
        let json = r#"{"kind":"pcr-value","claim":"executables","pcr":8,"event":null,"name":null,"expected":[],
            "seen":null,"release":"edge@1.0","sentence":""}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_happens_for_the_same_reason_is_one_group() {
        let same = line(1, Outlook::Refused, &finding());
        let other = Line { criticality: "high".into(), ..same.clone() };
        let lines = [same.clone(), same.clone(), other];
        let groups = grouped(&lines);
        let seen: Vec<_> =
            groups.iter().map(|group| (group.criticality, group.lines.len(), group.varies)).collect();
        assert_eq!(seen, [("high", 1, false), ("low", 2, false)]);
        assert_eq!(groups[0].findings.len(), 1);
    }

    #[test]
    fn reasons_that_differ_in_what_was_seen_are_told_together_when_they_are_many() {
        let lines: Vec<Line> = (0..20).map(|n| line(n, Outlook::Refused, &finding())).collect();
        assert_eq!(grouped_within(&lines, 20).len(), 20, "as fine as there is room");
        let groups = grouped_within(&lines, 19);
        let [group] = &groups[..] else { panic!("{groups:?}") };
        assert!(group.varies && group.findings.is_empty() && group.lines.len() == 20);
        assert_eq!(group.reason, "PCR 8 holds 0, which no release lists");
    }

    #[test]
    fn no_fleet_is_too_diverse_for_an_answer() {
        let mut lines: Vec<Line> = (0..30)
            .map(|n| Line {
                criticality: format!("class {n}").into(),
                ..line(n, Outlook::Refused, &finding())
            })
            .collect();
        lines.push(line(30, Outlook::Unknown, &finding()));
        let groups = grouped_within(&lines, 10);
        let seen: Vec<_> =
            groups.iter().map(|group| (group.lines.len(), group.reason, group.criticality)).collect();
        assert_eq!(seen, [(30, OTHERS, ""), (1, OTHERS, "")]);
    }
}
