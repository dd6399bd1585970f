//! The fleet as a rollout sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::id::{DeviceName, ProductName, ZoneName};
use policy::reference::release::ReleaseId;
use policy::rollout::{Member, Plan, Trust};
use policy::time::UnixTime;
use policy::zone::Segmentation;

use super::roster::{Known, Roster};
use crate::admin::device::view::{State, aged};
use crate::record::rollout::{Rollout, RolloutState, TellRecord};

/// The plan that `rollout` follows now, and every device of the plant as it sees it. On the way back it is for those
/// that run the new release, or were told to.
#[must_use]
pub fn scene(rollout: &Rollout, roster: &Roster, zones: &Segmentation, now: UnixTime) -> (Plan, Vec<Member>) {
    let back = matches!(rollout.state, RolloutState::RollingBack { .. } | RolloutState::RolledBack { .. });
    let plan = match &rollout.from {
        Some(from) if back => rollout.plan.back(from.clone()),
        _ => rollout.plan.clone(),
    };
    let seen = roster.devices().filter_map(|known| {
        let member = member(known, &plan, zones, now)?;
        let left_alone = back && !has_been_on(known, rollout);
        Some(Member { outside: member.outside || left_alone, ..member })
    });
    let members = seen.collect();
    (plan, members)
}

/// Whether a device runs the new release of `rollout`, or was last told so by it or by those given up for it.
fn has_been_on(known: &Known, rollout: &Rollout) -> bool {
    let told = known.tells.get(&rollout.plan.id().product);
    known.running.contains(rollout.plan.to())
        || told.is_some_and(|told| rollout.speaks_for().contains(&told.rollout))
}

/// A device as the rollout of `plan` sees it; none if it is quarantined or retired, which takes it out of service.
fn member(known: &Known, plan: &Plan, zones: &Segmentation, now: UnixTime) -> Option<Member> {
    let state = aged(known.state, known.at, &known.zones, zones, now);
    let trust = match state {
        State::Trusted => Trust::Trusted,
        State::Refused | State::Pending => Trust::Lost,
        State::Registered | State::Silent => Trust::Unknown,
        State::Quarantined | State::Retired => return None,
    };
    let product = &plan.id().product;
    // Whatever it boots after it was told is this rollout's concern.
    let own = known.tells.get(product).filter(|told| told.rollout == plan.id().number);
    let told = own.filter(|told| told.release == *plan.to());
    let moves = |(of, told): (&ProductName, &TellRecord)| {
        let other = of != product || told.rollout != plan.id().number;
        other && told.told.proven.is_none() && now < told.until && !known.running.contains(&told.release)
    };
    Some(Member {
        device: known.device.clone(),
        zones: Arc::clone(&known.zones),
        labels: Arc::clone(&known.labels),
        depends_on: dependencies(known),
        trust,
        running: known.running.iter().find(|release| release.product == *product).cloned(),
        ran: told.and_then(|told| told.ran.clone()),
        health: known.health.health(),
        told: told.map(|told| told.told),
        moving: known.tells.iter().any(moves),
        outside: own.is_none() && !is_of(product, &known.running, &known.zones, zones),
    })
}

/// What a device depends on, and did when it was told something that it has not proven yet.
fn dependencies(known: &Known) -> Arc<BTreeSet<String>> {
    let open = known.tells.values().filter(|told| told.told.proven.is_none());
    let before: Vec<&String> =
        open.flat_map(|told| &told.depends_on).filter(|name| !known.depends_on.contains(*name)).collect();
    if before.is_empty() {
        return Arc::clone(&known.depends_on);
    }
    Arc::new(known.depends_on.iter().chain(before).cloned().collect())
}

/// Whether a device is of `product`: it proves a release of it, or none at all and its zones accept no other.
fn is_of(product: &ProductName, running: &[ReleaseId], of: &[ZoneName], zones: &Segmentation) -> bool {
    if !running.is_empty() {
        return running.iter().any(|release| release.product == *product);
    }
    let known = of.iter().filter_map(|name| zones.zone(name));
    let mut accepted = known.flat_map(|zone| &zone.products).peekable();
    accepted.peek().is_some() && accepted.all(|one| one == product)
}

/// The products that a device may be of: those whose release it proves, else those that its zones accept.
#[must_use]
pub fn products_of(running: &[ReleaseId], of: &[ZoneName], zones: &Segmentation) -> BTreeSet<ProductName> {
    if !running.is_empty() {
        return running.iter().map(|release| release.product.clone()).collect();
    }
    let known = of.iter().filter_map(|name| zones.zone(name));
    known.flat_map(|zone| zone.products.iter().cloned()).collect()
}

/// The release of the product that most of `fleet` proves, `except` left out.
#[must_use]
pub fn most_run(fleet: &[Member], except: &ReleaseId) -> Option<ReleaseId> {
    let mut counts: BTreeMap<&ReleaseId, usize> = BTreeMap::new();
    let running = fleet.iter().filter(|member| !member.outside).filter_map(|member| member.running.as_ref());
    running.filter(|release| *release != except).for_each(|release| *counts.entry(release).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(release, _)| release.clone())
}

/// The names of `devices`, for an event.
pub(super) fn named(devices: &[DeviceName]) -> String {
    let names: Vec<&str> = devices.iter().map(DeviceName::as_str).collect();
    names.join(", ")
}
