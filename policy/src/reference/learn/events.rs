//! Event rules: what every device has, and, if that is asked for, each of the few ways in which they boot.

use std::collections::{BTreeMap, BTreeSet};

use super::{DifferingEvent, LearnNote, MAX_NOTED, MAX_ONE_OF, explained_values};
use crate::appraisal::early;
use crate::appraisal::measurements::Measurements;
use crate::reference::event_type::EventType;
use crate::reference::hash_text::HashText;
use crate::reference::manifest::variant::MAX_VARIANTS;
use crate::reference::manifest::{EventRule, Expectation};
use crate::tpm::alg::HashValue;
use crate::tpm::pcr::PcrIndex;

/// The events of a PCR, each once, in the order of the log.
type Events = Vec<(EventType, HashValue)>;

/// Rules for the events of `pcrs`, and notes about those that were not learned as they stand.
pub(super) fn learn(
    devices: &[&Measurements<'_>],
    pcrs: &[PcrIndex],
    one_of: bool,
) -> (Vec<EventRule>, Vec<(PcrIndex, LearnNote)>) {
    let (mut rules, mut notes, mut differing) = (Vec::new(), Vec::new(), BTreeMap::new());
    for pcr in pcrs {
        match of_pcr(devices, *pcr, one_of) {
            Ok(Agreed::Same(events)) => rules.extend(named(devices, *pcr, &events)),
            Ok(Agreed::Few(lists)) => {
                differing.insert(*pcr, lists);
            }
            Err(note) => notes.push((*pcr, note)),
        }
    }
    if let Some(first) = differing.keys().next().copied() {
        let ways = ways(&differing);
        if ways.len() > MAX_VARIANTS {
            let found = ways.len();
            let many = |pcr: &PcrIndex| (*pcr, LearnNote::TooMany { pcr: pcr.number(), found });
            notes.extend(differing.keys().map(many));
        } else {
            rules.extend(alternatives(devices, &differing, &ways));
            let pcrs = differing.keys().map(|pcr| pcr.number()).collect();
            notes.push((first, LearnNote::OneOfBoots { pcrs, devices: ways }));
        }
    }
    (rules, notes)
}

enum Agreed {
    /// Every device has these.
    Same(Events),
    /// There are few lists; those of each device.
    Few(Vec<Events>),
}

/// A PCR with an event that not every device has is left out whole, unless one of several is asked for: a closed
/// list without that event would refuse the very devices it was learned from, and one with it would accept what was
/// not agreed on.
fn of_pcr(devices: &[&Measurements<'_>], pcr: PcrIndex, one_of: bool) -> Result<Agreed, LearnNote> {
    explained_values(devices, pcr)?;
    let lists: Vec<Events> = devices.iter().map(|seen| listed(seen, pcr)).collect();
    let sets: BTreeSet<BTreeSet<_>> = lists.iter().map(|list| list.iter().copied().collect()).collect();
    let empty = lists.iter().any(Vec::is_empty);
    match (sets.len(), lists.first()) {
        (_, Some(first)) if empty && first.is_empty() && sets.len() == 1 => {
            Err(LearnNote::NoEvents { pcr: pcr.number() })
        }
        (1, Some(first)) => Ok(Agreed::Same(first.clone())),
        // A way without events would leave the PCR open.
        _ if !one_of || empty => Err(events_differ(&lists, pcr)),
        (found, _) if found > MAX_ONE_OF => Err(LearnNote::TooMany { pcr: pcr.number(), found }),
        _ => Ok(Agreed::Few(lists)),
    }
}

fn listed(seen: &Measurements<'_>, pcr: PcrIndex) -> Events {
    let mut list = Events::new();
    for event in seen.events(pcr) {
        let key = (EventType(event.event_type), event.digest);
        if !list.contains(&key) {
            list.push(key);
        }
    }
    list
}

fn events_differ(lists: &[Events], pcr: PcrIndex) -> LearnNote {
    let mut owners: BTreeMap<(EventType, HashValue), Vec<usize>> = BTreeMap::new();
    for (device, list) in (1..).zip(lists) {
        for event in list {
            owners.entry(*event).or_default().push(device);
        }
    }
    let differing = owners.into_iter().filter(|(_, owners)| owners.len() != lists.len());
    let told = differing.map(|((event_type, digest), devices)| DifferingEvent {
        event_type,
        digest: HashText(digest),
        devices,
    });
    LearnNote::EventsDiffer { pcr: pcr.number(), events: told.take(MAX_NOTED).collect() }
}

/// Places, from 1, of the devices that boot alike in all these PCRs, by the first of them.
fn ways(differing: &BTreeMap<PcrIndex, Vec<Events>>) -> Vec<Vec<usize>> {
    let count = differing.values().map(Vec::len).max().unwrap_or(0);
    let mut ways: Vec<(Vec<BTreeSet<_>>, Vec<usize>)> = Vec::new();
    for place in 0..count {
        let boot: Vec<BTreeSet<_>> = differing
            .values()
            .filter_map(|lists| Some(lists.get(place)?.iter().copied().collect()))
            .collect();
        let device = place.saturating_add(1);
        match ways.iter_mut().find(|(known, _)| *known == boot) {
            Some((_, devices)) => devices.push(device),
            None => ways.push((boot, vec![device])),
        }
    }
    ways.into_iter().map(|(_, devices)| devices).collect()
}

/// One rule with several digests where nothing else differs; otherwise a variant for each way, so that what was
/// seen together is accepted together only.
fn alternatives(
    devices: &[&Measurements<'_>],
    differing: &BTreeMap<PcrIndex, Vec<Events>>,
    ways: &[Vec<usize>],
) -> Vec<EventRule> {
    if let (Some((pcr, lists)), 1) = (differing.first_key_value(), differing.len())
        && let Some(rules) = one_slot(devices, *pcr, lists)
    {
        return rules;
    }
    let mut rules = Vec::new();
    for (pcr, lists) in differing {
        for (number, way) in (1_usize..).zip(ways) {
            let first = way.first().and_then(|device| lists.get(device.saturating_sub(1)));
            let variant = Some(format!("boot {number}"));
            let of_way = named(devices, *pcr, first.map_or(&[], Vec::as_slice));
            rules.extend(of_way.into_iter().map(|rule| EventRule { variant: variant.clone(), ..rule }));
        }
    }
    rules
}

/// The rules of a PCR in which the lists differ in one place only.
fn one_slot(devices: &[&Measurements<'_>], pcr: PcrIndex, lists: &[Events]) -> Option<Vec<EventRule>> {
    let first = lists.first()?;
    let alike = |list: &Events| {
        list.len() == first.len() && list.iter().zip(first).all(|(one, other)| one.0 == other.0)
    };
    let differs = |place: &usize| lists.iter().any(|list| list.get(*place) != first.get(*place));
    let mut places = (0..first.len()).filter(differs);
    let (place, None, true) = (places.next()?, places.next(), lists.iter().all(alike)) else { return None };
    let several: BTreeSet<HashValue> = lists.iter().filter_map(|list| Some(list.get(place)?.1)).collect();
    let early = early_digests(devices, pcr);
    let mut rules = named(devices, pcr, first);
    // An early place is given to none of several digests, since not each of them was seen there.
    if let Some(Expectation::OneOf { digests, early: is_early, .. }) =
        rules.get_mut(place).map(|rule| &mut rule.expectation)
    {
        *is_early = *is_early && several.iter().all(|digest| early.contains(digest));
        *digests = several;
    }
    Some(rules)
}

/// Digests of the applications that ran before the firmware of any device called a boot option.
fn early_digests(devices: &[&Measurements<'_>], pcr: PcrIndex) -> BTreeSet<HashValue> {
    devices.iter().flat_map(|seen| early::applications(seen, pcr)).map(|event| event.digest).collect()
}

/// Rules with names by type and number. The log's own descriptions are not bound by the digests, so
/// they do not become names that a reviewer would believe.
fn named(devices: &[&Measurements<'_>], pcr: PcrIndex, events: &[(EventType, HashValue)]) -> Vec<EventRule> {
    let early = early_digests(devices, pcr);
    let mut seen: BTreeMap<EventType, usize> = BTreeMap::new();
    let mut rule = |(event_type, digest): &(EventType, HashValue)| {
        let nth = seen.entry(*event_type).or_default();
        *nth += 1;
        let name = match *event_type {
            EventType::EFI_BOOT_SERVICES_APPLICATION => format!("boot application {nth}"),
            EventType::SEPARATOR => "separator".to_owned(),
            _ => format!("measurement {nth}"),
        };
        EventRule {
            pcr,
            event_type: *event_type,
            expectation: Expectation::OneOf {
                digests: BTreeSet::from([*digest]),
                optional: false,
                early: early::is_meant(pcr, *event_type) && early.contains(digest),
            },
            name: Some(name),
            variant: None,
        }
    };
    events.iter().map(&mut rule).collect()
}
