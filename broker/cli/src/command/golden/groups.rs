//! A forecast of the fleet, grouped so that a thousand devices read as a few lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::v1::{Forecast, ForecastDevice, ForecastGroup};
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
    pub(super) fn of(before: &str, after: &str, would_refuse: bool) -> Self {
        match (before, after) {
            (_, "unknown") => Self::Unknown,
            ("trusted", "refused") => Self::Loses,
            (_, "refused") => Self::StaysRefused,
            (_, _) if would_refuse => Self::WouldRefuse,
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
    /// What was seen differs among them: the reason is that of the first.
    varies: bool,
    zones: Vec<String>,
    count: usize,
    criticality: String,
    owners: Vec<String>,
    oldest_evidence_seconds: u64,
    /// All of them, by name, as far as the broker names them.
    devices: Vec<String>,
    evidence: Vec<Evidence>,
}

/// What a device's part of the forecast rests on.
#[derive(Debug, Serialize)]
struct Evidence {
    device: String,
    owner: String,
    age_seconds: u64,
    reset_count: u32,
    restart_count: u32,
}

/// The groups of a forecast, those that matter most first.
#[derive(Debug, Serialize)]
pub(super) struct Groups(Vec<Group>);

/// The groups of an answer. A broker that knows no groups answers with a line for each device.
pub(super) fn answered(groups: Vec<ForecastGroup>, lines: Vec<Forecast>) -> Vec<ForecastGroup> {
    if !groups.is_empty() || lines.is_empty() {
        return groups;
    }
    lines.into_iter().map(alone).collect()
}

/// A device as a group of its own.
fn alone(line: Forecast) -> ForecastGroup {
    let device = ForecastDevice {
        device: line.device,
        evidence_age_seconds: line.evidence_age_seconds,
        owner: line.owner,
        ..ForecastDevice::default()
    };
    ForecastGroup {
        before: line.before,
        after: line.after,
        would_refuse: line.would_refuse,
        reason: line.reason,
        findings: line.findings,
        varies: false,
        zones: line.zones,
        criticality: line.criticality,
        count: 1,
        devices: vec![device],
    }
}

/// The names of the devices of an outcome.
pub(super) fn named(groups: &[ForecastGroup], outcome: Outcome) -> Vec<String> {
    let of = groups.iter().filter(|group| outcome_of(group) == outcome);
    of.flat_map(|group| &group.devices).map(|device| device.device.clone()).collect()
}

fn outcome_of(group: &ForecastGroup) -> Outcome {
    Outcome::of(&group.before, &group.after, group.would_refuse)
}

impl Groups {
    pub(super) fn of(answer: &[ForecastGroup]) -> Self {
        let mut groups: BTreeMap<(Outcome, usize, &str, &[String]), Group> = BTreeMap::new();
        for part in answer {
            let outcome = outcome_of(part);
            let told = !matches!(outcome, Outcome::Gains | Outcome::StaysTrusted);
            let reason = if told { part.reason.as_str() } else { "" };
            let key = (outcome, rank(&part.criticality), reason, part.zones.as_slice());
            groups.entry(key).or_insert_with(|| Group::new(outcome, reason, part)).take(part);
        }
        Self(groups.into_values().map(Group::in_order).collect())
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
                owners(&group.owners),
                format!("{} old", words::span(group.oldest_evidence_seconds)),
                group.why(),
            ]);
        }
        let mut text = table.text("no device is in a zone of this product", page.colour);
        let _ = writeln!(text, "{}", self.summary());
        text
    }
}

/// A few owners, and how many more.
fn owners(all: &[String]) -> String {
    match all.get(SHOWN..) {
        Some(more) if !more.is_empty() => {
            format!(
                "{} and {} more",
                all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "),
                more.len()
            )
        }
        _ => words::list(all),
    }
}

fn rank(criticality: &str) -> usize {
    CRITICALITY.iter().position(|known| criticality.eq_ignore_ascii_case(known)).unwrap_or(CRITICALITY.len())
}

impl Group {
    fn new(outcome: Outcome, reason: &str, part: &ForecastGroup) -> Self {
        Self {
            outcome,
            reason: reason.to_owned(),
            varies: false,
            zones: part.zones.clone(),
            count: 0,
            criticality: part.criticality.clone(),
            owners: Vec::new(),
            oldest_evidence_seconds: 0,
            devices: Vec::new(),
            evidence: Vec::new(),
        }
    }

    fn take(&mut self, part: &ForecastGroup) {
        self.count = self.count.saturating_add(usize::try_from(part.count).unwrap_or(usize::MAX));
        self.varies |= part.varies && !self.reason.is_empty();
        let oldest = part.devices.iter().map(|device| device.evidence_age_seconds).max().unwrap_or(0);
        self.oldest_evidence_seconds = self.oldest_evidence_seconds.max(oldest);
        let owners = part.devices.iter().map(|device| &device.owner).filter(|owner| !owner.is_empty());
        self.owners.extend(owners.cloned());
        self.owners.sort();
        self.owners.dedup();
        self.evidence.extend(part.devices.iter().map(|device| Evidence {
            device: device.device.clone(),
            owner: device.owner.clone(),
            age_seconds: device.evidence_age_seconds,
            reset_count: device.reset_count,
            restart_count: device.restart_count,
        }));
    }

    /// With its devices by name.
    fn in_order(mut self) -> Self {
        self.evidence.sort_by(|one, other| one.device.cmp(&other.device));
        self.devices = self.evidence.iter().map(|evidence| evidence.device.clone()).collect();
        self
    }

    fn why(&self) -> String {
        let varies = if self.varies { " (differs from device to device)" } else { "" };
        format!("{}{varies}", words::or_dash(&self.reason))
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
        let groups = Groups::of(&answered(Vec::new(), lines));
        let text = groups.text(&Page::plain(0));
        let mut rows = text.lines().skip(1);
        let first = rows.next().unwrap();
        assert!(first.starts_with("press-1000 ") && first.contains("loses trust  high"), "{text}");
        let second = rows.next().unwrap();
        assert!(second.starts_with("press-0, press-1, press-10 and 997 more "), "{text}");
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
        let lines = vec![observed, line(2, "trusted", "unknown", "")];
        let groups = Groups::of(&answered(Vec::new(), lines));
        let counts = [Outcome::Loses, Outcome::WouldRefuse, Outcome::Unknown].map(|one| groups.count(one));
        assert_eq!(counts, [0, 1, 1]);
    }

    #[test]
    fn what_differs_from_device_to_device_is_one_group_that_says_so() {
        let device = |n: u32| ForecastDevice {
            device: format!("press-{n}"),
            owner: format!("line {n}"),
            evidence_age_seconds: u64::from(n),
            reset_count: 7,
            ..ForecastDevice::default()
        };
        let group = ForecastGroup {
            before: "trusted".to_owned(),
            after: "refused".to_owned(),
            reason: "PCR 8 is not golden".to_owned(),
            varies: true,
            count: 90_000,
            devices: vec![device(2), device(1), device(3), device(4)],
            ..ForecastGroup::default()
        };
        let groups = Groups::of(&[group]);
        let text = groups.text(&Page::plain(0));
        assert!(text.contains("press-1, press-2, press-3 and 89997 more"), "{text}");
        assert!(text.contains("line 1, line 2, line 3 and 1 more"), "{text}");
        assert!(text.contains("PCR 8 is not golden (differs from device to device)"), "{text}");
        let json = serde_json::to_value(&groups).unwrap();
        assert_eq!((&json[0]["evidence"][3]["reset_count"], &json[0]["count"]), (&7.into(), &90_000.into()));
    }
}
