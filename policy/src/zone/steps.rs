//! A change of zones and conduits that is too large to be made at once, cut into steps.
//!
//! Promises: after each step zones and conduits fit together ([`Segmentation::new`]), and the last is the graph that was
//! asked for. What is taken away goes first, narrower hours too, and what is new comes with the last step: no step opens what
//! neither the graph before nor the one after opens. A conduit whose other hours are not all within its former ones, or
//! that are kept by another clock, keeps its former ones until its own step: only closed would be narrower than both, and would cut
//! what both open.

use std::collections::BTreeMap;

use super::conduit::Conduit;
use super::difference::Difference;
use super::generation::MAX_GENERATIONS;
use super::model::{Segmentation, Zone};
use crate::id::{ServiceName, ZoneName};

/// Records of a conduit that changes or goes: itself, and the audit event.
const CONDUIT: usize = 2;
/// Records of a zone that changes: itself, that its devices are judged anew, and the audit event.
const ZONE: usize = 3;
/// Records that a zone has beside where other things stand in its authorities: the next one of both roles, each compared and
/// written, and what becomes of certificates with addresses outside narrower subnets.
const CONFINED: usize = 2 * 2 + 1;
/// Records of a zone that goes: itself, the audit event, and each of its authorities, compared and written.
const GONE: usize = 2 + 2 * 2 * MAX_GENERATIONS;

/// No cut leaves zones and conduits that fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the file changes more than fits into one step ({room} records), and there is no step that begins with {first} and leaves zones and conduits that fit together; apply a part of the file by itself first"
)]
pub struct NoStep {
    first: String,
    room: usize,
}

/// Whether other things stand in a zone's authorities than before.
type Confined = bool;

enum Unit<'a> {
    Close(&'a Conduit),
    Zone(&'a Zone, Confined),
    Conduit(&'a Conduit),
    Remove(&'a ZoneName),
}

impl Unit<'_> {
    const fn records(&self) -> usize {
        match self {
            Self::Close(_) | Self::Conduit(_) => CONDUIT,
            Self::Zone(_, false) => ZONE,
            Self::Zone(_, true) => ZONE + CONFINED,
            Self::Remove(_) => GONE,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Close(conduit) | Self::Conduit(conduit) => format!("conduit {conduit}"),
            Self::Zone(zone, _) => format!("zone {}", zone.name),
            Self::Remove(name) => format!("zone {name}"),
        }
    }
}

type Ends = (ZoneName, ZoneName, ServiceName);

#[derive(Clone)]
struct Plant {
    zones: BTreeMap<ZoneName, Zone>,
    conduits: BTreeMap<Ends, Conduit>,
}

impl Plant {
    fn of(graph: &Segmentation) -> Self {
        Self {
            zones: graph.zones().map(|zone| (zone.name.clone(), zone.clone())).collect(),
            conduits: graph.conduits().iter().map(|one| (ends(one), one.clone())).collect(),
        }
    }

    fn with(mut self, units: &[Unit<'_>]) -> Self {
        for unit in units {
            match unit {
                Unit::Close(conduit) => drop(self.conduits.remove(&ends(conduit))),
                Unit::Conduit(conduit) => {
                    drop(self.conduits.insert(ends(conduit), (*conduit).clone()));
                }
                Unit::Zone(zone, _) => drop(self.zones.insert(zone.name.clone(), (*zone).clone())),
                Unit::Remove(name) => drop(self.zones.remove(*name)),
            }
        }
        self
    }

    fn fitting(&self) -> Option<Segmentation> {
        let (zones, conduits) = (self.zones.values().cloned(), self.conduits.values().cloned());
        Segmentation::new(zones.collect(), conduits.collect()).ok()
    }
}

fn ends(conduit: &Conduit) -> Ends {
    (conduit.from.clone(), conduit.to.clone(), conduit.service.clone())
}

/// Whether `new` is open only when `old` is.
fn narrower(old: &Conduit, new: &Conduit) -> bool {
    let hours = match (&old.schedule, &new.schedule) {
        (None, _) => true,
        (Some(old), Some(new)) => new.is_within(old),
        (Some(_), None) => false,
    };
    let end = match (old.expires, new.expires) {
        (None, _) => true,
        (Some(old), Some(new)) => new <= old,
        (Some(_), None) => false,
    };
    hours && end && (old.accept_observed || !new.accept_observed)
}

/// The graphs from `before`, which is not among them, to `after`, which is the last: at most `room` records change or go
/// from one to the next. What is new is not counted.
pub fn steps(before: &Segmentation, after: &Segmentation, room: usize) -> Result<Vec<Segmentation>, NoStep> {
    let difference = Difference::between(before, after);
    let units = units(before, after, &difference);
    let (mut rest, mut plant, mut steps) = (units.as_slice(), Plant::of(before), Vec::new());
    loop {
        let fits = |records: &mut usize, unit: &Unit<'_>| {
            *records += unit.records();
            Some(*records <= room)
        };
        let most = rest.iter().scan(0, fits).take_while(|fits| *fits).count();
        if most == rest.len() {
            steps.push(after.clone());
            return Ok(steps);
        }
        let cut = (1..=most).rev().find_map(|at| {
            let (now, later) = rest.split_at_checked(at)?;
            let next = plant.clone().with(now);
            Some((next.fitting()?, next, later))
        });
        let Some((step, next, later)) = cut else {
            return Err(NoStep { first: rest.first().map(Unit::name).unwrap_or_default(), room });
        };
        steps.push(step);
        (plant, rest) = (next, later);
    }
}

/// What changes and goes, in the order in which it is safe.
fn units<'a>(before: &Segmentation, after: &'a Segmentation, difference: &'a Difference) -> Vec<Unit<'a>> {
    let old = |new: &Conduit| before.conduit(&new.from, &new.to, &new.service);
    let (take, give): (Vec<_>, Vec<_>) =
        difference.conduits_changed.iter().partition(|new| old(new).is_some_and(|old| narrower(old, new)));
    let confined = |zone: &Zone| before.zone(&zone.name).is_some_and(|old| zone.is_confined_otherwise(old));
    let zones = difference.zones_changed.iter().filter_map(|name| after.zone(name));
    let zones = zones.map(|zone| Unit::Zone(zone, confined(zone)));
    let closed = difference.conduits_removed.iter().map(Unit::Close);
    let taken = take.into_iter().map(Unit::Conduit);
    let given = give.into_iter().map(Unit::Conduit);
    let removed = difference.zones_removed.iter().map(Unit::Remove);
    closed.chain(taken).chain(zones).chain(given).chain(removed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::policy::Mode;
    use crate::time::UnixTime;
    use crate::zone::authorize;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn zone(n: usize) -> Zone {
        Zone::new(format!("cell-{n}").parse().unwrap())
    }

    fn conduit(from: usize, to: usize) -> Conduit {
        Conduit {
            from: zone(from).name,
            to: zone(to).name,
            service: "opcua".parse().unwrap(),
            schedule: None,
            expires: None,
            accept_observed: false,
        }
    }

    fn graph(zones: Vec<Zone>, conduits: Vec<Conduit>) -> Segmentation {
        Segmentation::new(zones, conduits).unwrap()
    }

    /// What changes and goes from one graph to the next.
    fn records(before: &Segmentation, after: &Segmentation) -> usize {
        let difference = Difference::between(before, after);
        units(before, after, &difference).iter().map(Unit::records).sum()
    }

    #[test]
    fn each_step_fits_and_nothing_is_open_in_between_that_is_not_open_before_or_after() {
        let zones = || (0..40).map(zone).collect::<Vec<_>>();
        let ring = |by: usize| (0..40).map(move |n| conduit(n, (n + by) % 40));
        let before = graph(zones(), ring(1).chain(ring(2)).collect());
        let mut other = zones();
        other.iter_mut().for_each(|zone| zone.token_admits = true);
        let later = ring(2).map(|one| Conduit { expires: Some(NOW.plus(60)), ..one });
        let after = graph(other, later.chain(ring(3)).collect());
        let all = steps(&before, &after, 30).unwrap();
        assert!(all.len() > 5, "{}", all.len());
        assert_eq!(all.last(), Some(&after));
        let mut last = &before;
        for step in &all {
            assert!(records(last, step) <= 30);
            for from in 0..40 {
                for to in (0..40).filter(|to| *to != from) {
                    let open = |graph: &Segmentation| {
                        let (from, to) = (zone(from).name, zone(to).name);
                        authorize(graph, &from, &to, &"opcua".parse().unwrap(), NOW).is_ok()
                    };
                    assert!(!open(step) || open(&before) || open(&after), "cell-{from} to cell-{to}");
                    assert!(
                        open(step) || !(open(&before) && open(&after)),
                        "cell-{from} to cell-{to} is cut"
                    );
                }
            }
            last = step;
        }
        let new = |step: &Segmentation| {
            step.conduit(&zone(0).name, &zone(3).name, &"opcua".parse().unwrap()).is_some()
        };
        assert_eq!(all.iter().filter(|step| new(step)).count(), 1, "what is new comes last");
    }

    #[test]
    fn narrower_hours_are_taken_away_before_others_are_given() {
        let at = |hours: &str, to| Conduit { schedule: Some(hours.parse().unwrap()), ..conduit(0, to) };
        let former = "mon-fri 22:00-04:00 in Europe/Berlin";
        let others = [
            "mon-fri 21:00-04:00 in Europe/Berlin",
            "sat 22:00-04:00 in Europe/Berlin",
            "tue 23:00-24:00 in UTC",
            "mon 23:00-03:00; tue 00:00-04:00 in Europe/Berlin",
        ];
        let zones = || (0..5).map(zone).collect::<Vec<_>>();
        let before = graph(zones(), (1..5).map(|to| at(former, to)).collect());
        let later = others.iter().zip(1..).map(|(hours, to)| at(hours, to));
        let after = graph(zones(), later.collect());
        let all = steps(&before, &after, CONDUIT).unwrap();
        let other = |step: &Segmentation| {
            let changed = Difference::between(&before, step).conduits_changed;
            changed.iter().map(|one| one.to.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(other(&all[0]), ["cell-4"], "only its hours are all within the former ones");
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn what_fits_is_one_step_whatever_is_new() {
        let before = graph(vec![zone(0), zone(1)], vec![]);
        let after = graph((0..100).map(zone).collect(), (1..100).map(|n| conduit(0, n)).collect());
        assert_eq!(steps(&before, &after, 1).unwrap(), [after]);
        assert_eq!(steps(&before, &before, 0).unwrap(), [before]);
    }

    #[test]
    fn what_cannot_be_cut_is_named() {
        let enforcing = |n| {
            let mut zone = zone(n);
            (zone.mode, zone.products) = (Mode::Enforce, ["edge".parse().unwrap()].into());
            zone
        };
        let before = graph((0..20).map(enforcing).collect(), (1..20).map(|n| conduit(0, n)).collect());
        // The zone observes only together with every conduit that must say so.
        let zones =
            (0..20).map(|n| if n == 0 { Zone { mode: Mode::Observe, ..enforcing(0) } } else { enforcing(n) });
        let accepting = (1..20).map(|n| Conduit { accept_observed: true, ..conduit(0, n) });
        let after = graph(zones.collect(), accepting.collect());
        let refused = steps(&before, &after, 30).unwrap_err().to_string();
        assert!(refused.contains("begins with zone cell-0"), "{refused}");
        assert_eq!(steps(&before, &after, 50).unwrap().len(), 1);
    }

    #[test]
    fn zones_go_after_their_conduits() {
        let before = graph((0..12).map(zone).collect(), (1..12).map(|n| conduit(0, n)).collect());
        let after = graph(vec![zone(0)], vec![]);
        let all = steps(&before, &after, 3 * GONE).unwrap();
        assert!(all.len() > 3 && all.windows(2).all(|pair| records(&pair[0], &pair[1]) <= 3 * GONE));
    }
}
