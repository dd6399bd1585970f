//! Zones and conduits as a whole: inspected, and changed from one reviewed file.
//!
//! Promises: a file is the whole graph, so what it leaves out is removed; it is decided on the graph that the caller saw,
//! or they are shown what moved since. What is new may be any number of zones and conduits: it is staged. Changes and
//! removals that are more than fit into one transaction are made in steps, each of which leaves a graph that fits
//! together and is safe ([`policy::zone::steps`]); who applies the file again after a step that failed goes on from there.

use std::collections::{BTreeMap, BTreeSet};

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::difference::{Difference, LaterChanges, PeerChanges, later_changes, peer_changes};
use policy::zone::document::{changed_fields, parse, render};
use policy::zone::{Conduit, Member, Segmentation, Spot, Zone, inspect};

mod apply;

pub use self::apply::apply;
use self::apply::{rehearse, touched};
use super::conduit::{nobody_offers, opens};
use super::enforcement::{Loses, losing};
use super::reach::Scope;
use super::second::enough_people;
use super::zone::{bounded, exportable};
use crate::plant::Plant;
use crate::record::device::{Admission, Attested, DEVICE, Device, attested_key};
use crate::record::{Held, fetch, list};
use crate::session::Refusal;
use crate::store::MAX_TXN_KEYS;
use crate::trust;
use crate::withdrawal::{Longer, Outside, longer, outside};

/// What the transaction has beside what the file changes and removes: the commit of what is staged, and an approval.
const BESIDE: usize = 8;
/// Records that a file changes and removes in one transaction. Beside them it has the heads of trust files and golden
/// values, each compared and written, and the event of the whole.
const ROOM: usize = MAX_TXN_KEYS - BESIDE - 5;

/// Conduits and zones whose faults are told; whoever has more mends these first.
const MAX_TOLD: usize = 100;

/// The graph as it stands.
#[derive(Debug)]
pub struct View {
    /// As a file: the zones in sight, and the conduits among them.
    pub document: String,
    /// The zones in sight.
    pub zones: Vec<Zone>,
    /// The conduits that touch one of them: who may reach into a zone concerns it, too.
    pub conduits: Vec<Conduit>,
    /// Where devices stand.
    pub members: Vec<Member>,
    /// What is flat about it.
    pub spots: Vec<Spot>,
}

/// What a file would change, or changed.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The graph that it was compared with, as a file.
    pub before: String,
    /// Zones and conduits that differ.
    pub difference: Difference,
    /// Who gains and loses which peer, now.
    pub peers: PeerChanges,
    /// Who gains and loses which peer later, by the hours and ends of conduits.
    pub later: LaterChanges,
    /// The devices of the zones from which that is opened, or was.
    pub callers: BTreeMap<ZoneName, BTreeSet<DeviceName>>,
    /// What would be flat afterwards.
    pub spots: Vec<Spot>,
    /// Devices that lose their certificates in a zone by its new rules.
    pub loses: Vec<Loses>,
    /// Why conduits that it makes are refused unless their services come later.
    pub unoffered: Vec<String>,
    /// What is another of the zones that it changes, each as `field: old -> new`.
    pub fields: Vec<(ZoneName, Vec<String>)>,
    /// What lives longer than shortened numbers say.
    pub(crate) longer: Vec<Longer>,
    /// What devices hold that names addresses outside the subnets of a zone that it changes.
    pub(crate) outside: Vec<Outside>,
    /// In how many steps it is made.
    pub steps: usize,
}

/// The graph in sight.
pub async fn view(plant: &Plant, scope: &Scope) -> Result<View, Refusal> {
    let all = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let sees = |zone: &ZoneName| scope.sees(std::slice::from_ref(zone));
    let zones: Vec<Zone> = all.zones().filter(|zone| sees(&zone.name)).cloned().collect();
    let touches = |conduit: &&Conduit| sees(&conduit.from) || sees(&conduit.to);
    let conduits: Vec<Conduit> = all.conduits().iter().filter(touches).cloned().collect();
    let among = conduits.iter().filter(|conduit| sees(&conduit.from) && sees(&conduit.to));
    let graph = Segmentation::new(zones.clone(), among.cloned().collect())
        .map_err(|faults| Refusal::internal(faults.to_string()))?;
    let mut members = members(plant).await?;
    programs(plant, &mut members).await?;
    // Judged as a whole: what makes a spot flat may lie out of sight.
    let mut spots = inspect(&all, &members, plant.now());
    spots.retain(|spot| spot.zones.iter().any(sees));
    Ok(View { document: render(&graph), zones, conduits, members, spots })
}

/// Where devices stand that are in service.
pub(super) async fn members(plant: &Plant) -> Result<Vec<Member>, Refusal> {
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    let devices = devices.into_iter().filter(|held| held.record.admission == Admission::Admitted);
    let member = |Held { record, .. }: Held<Device>| Member {
        offers: trust::Offer::of(&record).services,
        two_sided: BTreeSet::new(),
        zones: record.zones.into_iter().collect(),
        device: record.name,
    };
    Ok(devices.map(member).collect())
}

/// Adds to `members` what they said of their programs.
async fn programs(plant: &Plant, members: &mut [Member]) -> Result<(), Refusal> {
    for member in members {
        // Few have any, and what is stored of an attestation is read in the order of names.
        let held: Option<Held<Attested>> = fetch(plant.store.as_ref(), attested_key(&member.device)).await?;
        member.two_sided = held.map(|held| held.record.two_sided).unwrap_or_default();
    }
    Ok(())
}

/// What the file `text` would change.
pub async fn plan(plant: &Plant, scope: &Scope, text: &str) -> Result<Planned, Refusal> {
    whole(scope)?;
    let before = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let after = read(text).await?;
    let members = members(plant).await?;
    fits_devices(&after, &before, &members)?;
    fits_records(&after, &before, plant.now())?;
    people_for_two(plant, &before, &after).await?;
    let all = steps(&before, &after).await?;
    let steps = all.len();
    let mut planned = planned(plant, &before, &after, &members).await?;
    planned.steps = steps;
    let touched = touched(&planned.difference, &before, &after);
    if steps > 1 && touched.iter().filter_map(|name| before.zone(name)).any(|zone| zone.two_person) {
        return Err(too_much_for_two(steps));
    }
    rehearse(plant, &before, &all).await?;
    Ok(planned)
}

/// The steps in which a change is made, beside the workers.
async fn steps(before: &Segmentation, after: &Segmentation) -> Result<Vec<Segmentation>, Refusal> {
    let (before, after) = (before.clone(), after.clone());
    let cut = tokio::task::spawn_blocking(move || policy::zone::steps::steps(&before, &after, ROOM)).await;
    cut.map_err(Refusal::internal)?.map_err(|error| Refusal::malformed(error.to_string()))
}

/// What waits for a second person is carried out at once, or not at all.
fn too_much_for_two(steps: usize) -> Refusal {
    Refusal::malformed(format!(
        "the file takes {steps} steps, and a change that two people make is one step: at most {} conduits that change or go, or {} zones that change; do a part of it first",
        ROOM / 2,
        ROOM / 3
    ))
}

/// Reads a file beside the workers: a large one takes a while.
async fn read(text: &str) -> Result<Segmentation, Refusal> {
    let text = text.to_owned();
    let read = tokio::task::spawn_blocking(move || parse(&text)).await.map_err(Refusal::internal)?;
    read.map_err(|faults| Refusal::malformed(faults.to_string()))
}

async fn planned(
    plant: &Plant,
    before: &Segmentation,
    after: &Segmentation,
    members: &[Member],
) -> Result<Planned, Refusal> {
    let now = plant.now();
    let difference = Difference::between(before, after);
    let mut loses = Vec::new();
    for zone in judged_anew(before, after, &difference) {
        loses.extend(losing(plant, zone).await?);
    }
    let (peers, later) = peers(before, after, members, now).await?;
    let callers = callers(members, &peers, &later);
    let spots = inspect(after, members, now);
    let unoffered = nobody_offers(plant, &difference.conduits_made).await?;
    let changed: Vec<(&Zone, &Zone)> =
        difference.zones_changed.iter().filter_map(|name| before.zone(name).zip(after.zone(name))).collect();
    let fields = changed.iter().map(|(old, new)| (new.name.clone(), changed_fields(old, new))).collect();
    let life = |zone: &Zone| zone.timing.certificate_lifetime();
    let shorter: Vec<&Zone> =
        changed.iter().filter(|(old, new)| life(new) < life(old)).map(|(_, new)| *new).collect();
    let longer = longer(plant, &shorter).await?;
    let mut strangers = Vec::new();
    for (_, new) in changed.iter().filter(|(old, new)| !old.subnets.is_subset(&new.subnets)) {
        strangers.extend(outside(plant, new).await?);
    }
    Ok(Planned {
        before: render(before),
        difference,
        peers,
        later,
        callers,
        spots,
        loses,
        unoffered,
        fields,
        longer,
        outside: strangers,
        steps: 1,
    })
}

/// Who gains and loses which peer, now and later: found beside the workers, for the hours of thousands take a while.
async fn peers(
    before: &Segmentation,
    after: &Segmentation,
    members: &[Member],
    now: UnixTime,
) -> Result<(PeerChanges, LaterChanges), Refusal> {
    let (before, after, members) = (before.clone(), after.clone(), members.to_vec());
    let look =
        move || (peer_changes(&before, &after, &members, now), later_changes(&before, &after, &members, now));
    tokio::task::spawn_blocking(look).await.map_err(Refusal::internal)
}

/// The devices of the zones from which something is gained or lost.
fn callers(
    members: &[Member],
    peers: &PeerChanges,
    later: &LaterChanges,
) -> BTreeMap<ZoneName, BTreeSet<DeviceName>> {
    let all = [peers].into_iter().chain(later.told.iter().map(|(_, peers)| peers));
    let from = all.flat_map(|peers| peers.gained.iter().chain(&peers.lost)).map(|one| &one.from);
    let mut found: BTreeMap<ZoneName, BTreeSet<DeviceName>> =
        from.map(|zone| (zone.clone(), BTreeSet::new())).collect();
    for member in members {
        for zone in &member.zones {
            if let Some(devices) = found.get_mut(zone) {
                devices.insert(member.device.clone());
            }
        }
    }
    found
}

/// Zones whose rules are others: what a verdict means there, or what may boot.
fn judged_anew<'a>(before: &Segmentation, after: &'a Segmentation, difference: &Difference) -> Vec<&'a Zone> {
    let changed = difference.zones_changed.iter().filter_map(|name| after.zone(name));
    let other = |zone: &&Zone| before.zone(&zone.name).is_none_or(|old| old.policy() != zone.policy());
    changed.filter(other).collect()
}

/// The file of somebody who does not see all would remove what they do not see.
fn whole(scope: &Scope) -> Result<(), Refusal> {
    match scope {
        Scope::Plant => Ok(()),
        Scope::Zones(_) => Err(Refusal::NotPermitted(format!(
            "a file states the whole plant, and you see only what is{}; open and close conduits one by one, and ask an administrator of the plant for the rest",
            scope.phrase()
        ))),
    }
}

/// Devices are not left without their zone, and what a zone keeps for life stays.
fn fits_devices(after: &Segmentation, before: &Segmentation, members: &[Member]) -> Result<(), Refusal> {
    for zone in before.zones().filter(|zone| after.zone(&zone.name).is_none()) {
        let inside = members.iter().filter(|member| member.zones.contains(&zone.name));
        let names: Vec<&str> = inside.map(|member| member.device.as_str()).collect();
        if let Some(first) = names.first() {
            return Err(Refusal::Conflict(format!(
                "the file leaves out zone {}, in which {} device(s) stand, {first} for one; move or retire them first",
                zone.name,
                names.len()
            )));
        }
    }
    for zone in after.zones() {
        let Some(old) = before.zone(&zone.name) else { continue };
        if old.software_keys != zone.software_keys {
            return Err(Refusal::Conflict(format!(
                "zone {} was made with another setting of software keys and keeps it for life: certificates rest on it; leave it, or make another zone",
                zone.name
            )));
        }
    }
    Ok(())
}

/// Where changes begin to need two people there are two.
async fn people_for_two(plant: &Plant, before: &Segmentation, after: &Segmentation) -> Result<(), Refusal> {
    for zone in after.zones().filter(|zone| zone.two_person) {
        if before.zone(&zone.name).is_none_or(|old| !old.two_person) {
            enough_people(plant, zone).await?;
        }
    }
    Ok(())
}

/// Zones have room in their records, and what is opened opens before it ends.
fn fits_records(after: &Segmentation, before: &Segmentation, now: UnixTime) -> Result<(), Refusal> {
    exportable(before, after)?;
    let zones = after.zones().map(bounded);
    let opened =
        after.conduits().iter().filter(|one| before.conduit(&one.from, &one.to, &one.service) != Some(*one));
    let wrong: Vec<Refusal> =
        zones.chain(opened.map(|one| opens(one, now))).filter_map(Result::err).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let mut told: Vec<String> = wrong.iter().take(MAX_TOLD).map(ToString::to_string).collect();
    let more = wrong.len().saturating_sub(MAX_TOLD);
    told.extend((more > 0).then(|| format!("and {more} more")));
    Err(Refusal::malformed(told.join("\n")))
}
