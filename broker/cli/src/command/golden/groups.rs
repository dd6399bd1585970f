//! A forecast of the fleet, grouped so that a thousand devices read as a few lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::v1::Forecast;
use serde::Serialize;

use crate::output::table::Table;
use crate::output::{Page, words};

/// Devices named in one line; `-o json` has them all.
const SHOWN: usize = 3;
/// Criticality as inventories write it, most critical first; other words come after.
const CRITICALITY: [&str; 4] = ["critical", "high", "medium", "low"];

/// What becomes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// Trusted now, refused then.
    Loses,
    /// Nothing can be said.
    Unknown,
    /// Refused or unknown now, trusted then.
    Gains,
    /// A zone that observes would refuse it, did it enforce.
    WouldRefuse,
    /// Refused now and then.
    StaysRefused,
    /// Trusted now and then.
    StaysTrusted,
}

impl Outcome {
    fn of(line: &Forecast) -> Self {
        match (line.before.as_str(), line.after.as_str()) {
            (_, "unknown") => Self::Unknown,
            ("trusted", "refused") => Self::Loses,
            (_, "refused") => Self::StaysRefused,
            (_, _) if line.would_refuse => Self::WouldRefuse,
            ("trusted", _) => Self::StaysTrusted,
            (_, _) => Self::Gains,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Loses => "loses trust",
            Self::Unknown => "unknown",
            Self::Gains => "gains trust",
            Self::WouldRefuse => "would be refused if enforced",
            Self::StaysRefused => "stays refused",
            Self::StaysTrusted => "stays trusted",
        }
    }
}

/// Devices to which the same happens for the same reason.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    outcome: Outcome,
    reason: String,
    zones: Vec<String>,
    count: usize,
    criticality: String,
    owners: Vec<String>,
    oldest_evidence_seconds: u64,
    devices: Vec<String>,
}

/// The groups of a forecast, those that matter most first.
#[derive(Debug, Serialize)]
pub(super) struct Groups(Vec<Group>);

impl Groups {
    pub(super) fn of(lines: &[Forecast]) -> Self {
        let mut groups: BTreeMap<(Outcome, usize, String, Vec<String>), Vec<&Forecast>> = BTreeMap::new();
        for line in lines {
            let outcome = Outcome::of(line);
            let told = !matches!(outcome, Outcome::Gains | Outcome::StaysTrusted);
            let reason = if told { line.reason.clone() } else { String::new() };
            let key = (outcome, rank(&line.criticality), reason, line.zones.clone());
            groups.entry(key).or_default().push(line);
        }
        Self(
            groups
                .into_iter()
                .map(|((outcome, _, reason, zones), lines)| group(outcome, reason, zones, &lines))
                .collect(),
        )
    }

    /// Devices of an outcome.
    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.0.iter().filter(|group| group.outcome == outcome).map(|group| group.count).sum()
    }

    /// Everything in a sentence.
    pub(super) fn summary(&self) -> String {
        let devices = words::count(self.0.iter().map(|group| group.count).sum(), "device");
        format!(
            "Of {devices}, {} would lose trust, {} would gain it, {} cannot be foreseen.",
            self.count(Outcome::Loses),
            self.count(Outcome::Gains),
            self.count(Outcome::Unknown)
        )
    }

    pub(super) fn text(&self, page: &Page) -> String {
        let mut table = Table::new(["DEVICES", "WHAT", "CRITICALITY", "OWNER", "EVIDENCE", "WHY"]);
        for group in &self.0 {
            let names = group.devices.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let more = group.count.saturating_sub(SHOWN);
            table.row([
                if more > 0 { format!("{names} and {more} more") } else { names },
                group.outcome.words().to_owned(),
                words::or_dash(&group.criticality),
                words::list(&group.owners),
                format!("{} old", words::span(group.oldest_evidence_seconds)),
                words::or_dash(&group.reason),
            ]);
        }
        let mut text = table.text("no device is in a zone of this product", page.colour);
        let _ = writeln!(text, "{}", self.summary());
        text
    }
}

fn rank(criticality: &str) -> usize {
    CRITICALITY.iter().position(|known| criticality.eq_ignore_ascii_case(known)).unwrap_or(CRITICALITY.len())
}

fn group(outcome: Outcome, reason: String, zones: Vec<String>, lines: &[&Forecast]) -> Group {
    let mut owners: Vec<String> =
        lines.iter().map(|line| line.owner.clone()).filter(|owner| !owner.is_empty()).collect();
    owners.sort();
    owners.dedup();
    Group {
        outcome,
        reason,
        zones,
        count: lines.len(),
        criticality: lines.first().map_or_else(String::new, |line| line.criticality.clone()),
        owners,
        oldest_evidence_seconds: lines.iter().map(|line| line.evidence_age_seconds).max().unwrap_or(0),
        devices: lines.iter().map(|line| line.device.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize, before: &str, after: &str, criticality: &str) -> Forecast {
        Forecast {
            device: format!("press-{n}"),
            before: before.to_owned(),
            after: after.to_owned(),
            evidence_age_seconds: 300,
            reason: "kernel is not golden".to_owned(),
            zones: vec!["cell-3".to_owned()],
            owner: "line 3".to_owned(),
            criticality: criticality.to_owned(),
            ..Forecast::default()
        }
    }

    #[test]
    fn a_thousand_devices_read_as_a_few_lines() {
        let mut lines: Vec<Forecast> = (0..1000).map(|n| line(n, "trusted", "refused", "low")).collect();
        lines.push(line(1000, "trusted", "refused", "high"));
        lines.extend((1001..1011).map(|n| line(n, "refused", "trusted", "")));
        let groups = Groups::of(&lines);
        let text = groups.text(&Page::plain(0));
        let mut rows = text.lines().skip(1);
        let first = rows.next().unwrap();
        assert!(first.starts_with("press-1000 ") && first.contains("loses trust  high"), "{text}");
        let second = rows.next().unwrap();
        assert!(second.starts_with("press-0, press-1, press-2 and 997 more "), "{text}");
        assert!(rows.next().unwrap().contains("gains trust"), "{text}");
        assert!(
            text.ends_with(
                "Of 1011 devices, 1001 would lose trust, 10 would gain it, 0 cannot be foreseen.\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn an_observing_zone_loses_nothing() {
        let observed = Forecast { would_refuse: true, ..line(1, "trusted", "trusted", "") };
        let groups = Groups::of(&[observed, line(2, "trusted", "unknown", "")]);
        let counts = [Outcome::Loses, Outcome::WouldRefuse, Outcome::Unknown].map(|one| groups.count(one));
        assert_eq!(counts, [0, 1, 1]);
    }
}
