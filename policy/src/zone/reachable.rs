//! Which zones reach each other: the strongly connected parts of the graph that conduits make.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::ZoneName;

type Graph<'a> = BTreeMap<&'a ZoneName, BTreeSet<&'a ZoneName>>;

/// Groups of two zones or more in which each reaches each other (Kosaraju's algorithm).
pub(super) fn groups<'a>(
    edges: impl Iterator<Item = (&'a ZoneName, &'a ZoneName)>,
) -> Vec<BTreeSet<ZoneName>> {
    let (mut forward, mut backward) = (Graph::new(), Graph::new());
    for (from, to) in edges {
        forward.entry(from).or_default().insert(to);
        backward.entry(to).or_default().insert(from);
        forward.entry(to).or_default();
    }
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for zone in forward.keys() {
        order.extend(finished(&forward, zone, &mut seen));
    }
    seen.clear();
    let parts = order.iter().rev().map(|zone| finished(&backward, zone, &mut seen));
    parts.filter(|part| part.len() > 1).map(|part| part.into_iter().cloned().collect()).collect()
}

/// What is reached from `start` and was not seen, in the order in which the search is done with it. It keeps its own
/// stack: a plant may have a chain of a thousand zones.
fn finished<'a>(
    graph: &Graph<'a>,
    start: &'a ZoneName,
    seen: &mut BTreeSet<&'a ZoneName>,
) -> Vec<&'a ZoneName> {
    let next = |zone: &ZoneName| graph.get(zone).into_iter().flatten().copied().collect::<Vec<_>>();
    if !seen.insert(start) {
        return Vec::new();
    }
    let mut stack = vec![(start, next(start))];
    let mut done = Vec::new();
    while let Some((zone, ahead)) = stack.last_mut() {
        match ahead.pop() {
            Some(reached) if seen.insert(reached) => {
                let onward = next(reached);
                stack.push((reached, onward));
            }
            Some(_) => {}
            None => {
                done.push(*zone);
                stack.pop();
            }
        }
    }
    done
}
