//! Conduits: opened and closed one by one, with the devices that notice.

pub mod why;

use std::collections::{BTreeMap, BTreeSet};

use policy::id::{DeviceName, ServiceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::inspection;
use policy::zone::{Conduit, Segmentation, TrustFile, compile};

use super::Actor;
use super::change::{Draft, Seen, commit};
use super::reach::Scope;
use super::zone::changed;
use crate::plant::Plant;
use crate::record::zone::conduit_key;
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust::{self, Offer};

/// The last end of a conduit that can be written as a date (RFC 3339): 9999-12-31T23:59:59Z.
const LATEST: UnixTime = UnixTime(253_402_300_799);

/// Services that a refusal names.
const MAX_NAMED: usize = 16;

/// Every conduit in sight.
pub async fn all(plant: &Plant, scope: &Scope) -> Result<Vec<Conduit>, Refusal> {
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    Ok(known.conduits().iter().filter(|conduit| shown(scope, conduit)).cloned().collect())
}

/// Whether a conduit is in sight: who may reach into a zone concerns it, too.
pub(super) fn shown(scope: &Scope, conduit: &Conduit) -> bool {
    scope.sees(&ends(conduit))
}

/// A conduit as it is, for whoever changes it later.
pub async fn seen(plant: &Plant, conduit: &Conduit) -> Result<Seen, Refusal> {
    let held: Option<Held<Conduit>> = fetch(plant.store.as_ref(), key(conduit)).await?;
    Ok(Seen::of(held.as_ref(), state, "closed"))
}

/// Refuses a change of a conduit that is another than the caller saw.
async fn expected(plant: &Plant, conduit: &Conduit, by_caller: Option<&Seen>) -> Result<(), Refusal> {
    let what = format!("the conduit {conduit}");
    seen(plant, conduit).await?.expected(by_caller, &what, None, "touchstone conduit list")
}

/// What becomes of a conduit to a service that no device of the zone offers, while its devices offer others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unoffered {
    /// It is a slip of the pen.
    Refuse,
    /// The service comes later.
    Accept,
}

/// Opens a conduit, or gives an open one another end. Answers with the devices whose trust files change.
pub async fn allow(
    plant: &Plant,
    actor: &Actor,
    conduit: &Conduit,
    seen: Option<&Seen>,
    unoffered: Unoffered,
    dry_run: bool,
) -> Result<Vec<DeviceName>, Refusal> {
    if conduit.expires.is_some_and(|end| end > LATEST) {
        return Err(Refusal::malformed(format!(
            "conduit {conduit} ends after the year 9999; leave the end out"
        )));
    }
    opens(conduit, plant.now())?;
    commit(plant, || open(plant, actor, conduit, seen, unoffered, dry_run)).await
}

/// Refuses a conduit that would never be open.
pub(super) fn opens(conduit: &Conduit, now: UnixTime) -> Result<(), Refusal> {
    if conduit.has_ended(now) {
        return Err(Refusal::malformed(format!(
            "conduit {conduit} would have ended already; give a later end, or leave it out"
        )));
    }
    if conduit.hours().next_opening(now).is_none() {
        return Err(Refusal::malformed(format!(
            "conduit {conduit} would never open: its hours do not come before it ends; give other hours or a later end"
        )));
    }
    Ok(())
}

async fn open(
    plant: &Plant,
    actor: &Actor,
    conduit: &Conduit,
    seen: Option<&Seen>,
    unoffered: Unoffered,
    dry_run: bool,
) -> Result<Draft<Vec<DeviceName>>, Refusal> {
    let now = plant.now();
    let reach = actor.reach(plant, &ends(conduit)).await?;
    let txn = trust::raise(plant, Txn::new(), now).await?;
    expected(plant, conduit, seen).await?;
    let before = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    if before.conduits().contains(conduit) {
        return Ok(Draft::nothing(Vec::new()));
    }
    // One that is open already only gets another end.
    if unoffered == Unoffered::Refuse && !before.conduits().iter().any(|other| same(other, conduit)) {
        all_offered(&nobody_offers(plant, std::slice::from_ref(conduit)).await?)?;
    }
    let others = before.conduits().iter().filter(|other| !same(other, conduit)).cloned();
    let conduits = others.chain([conduit.clone()]).collect();
    let after = changed(&before, before.zones().cloned().collect(), conduits)?;
    let affected = affected(plant, actor.scope(), &ends(conduit), &before, &after, now).await?;
    let deed = reach.deed(&conduit.to_string(), &opened(conduit, affected.len()));
    Ok(Draft::unless(dry_run, affected, txn.put(key(conduit), stored(conduit)?), deed))
}

/// Refuses conduits to what [`nobody_offers`].
pub(super) fn all_offered(unoffered: &[String]) -> Result<(), Refusal> {
    match unoffered {
        [] => Ok(()),
        [only] => Err(Refusal::Conflict(only.clone())),
        [first, others @ ..] => {
            Err(Refusal::Conflict(format!("{first}; {} more conduits are like that", others.len())))
        }
    }
}

/// What is said of those of `conduits` to a service that no device of its zone offers, if they offer others.
pub(super) async fn nobody_offers(plant: &Plant, conduits: &[Conduit]) -> Result<Vec<String>, Refusal> {
    if conduits.is_empty() {
        return Ok(Vec::new());
    }
    let (_, in_zones) = trust::offers(plant).await.map_err(Refusal::internal)?;
    let said = |conduit: &Conduit| in_zones.get(&conduit.to).and_then(|offers| unoffered(conduit, offers));
    Ok(conduits.iter().filter_map(said).collect())
}

/// What is said of an open conduit to a service that no device of its zone offers, whatever else they do: the same as
/// inspecting the graph says.
pub async fn opens_nothing(plant: &Plant, conduit: &Conduit) -> Result<Option<String>, Refusal> {
    let (_, in_zones) = trust::offers(plant).await.map_err(Refusal::internal)?;
    let offers = in_zones.get(&conduit.to).into_iter().flatten();
    let nobody = !offers.clone().any(|service| *service == conduit.service);
    Ok(nobody.then(|| inspection::nobody_offers(conduit, offers).sentence))
}

fn unoffered(conduit: &Conduit, offers: &BTreeSet<ServiceName>) -> Option<String> {
    let service = &conduit.service;
    if offers.is_empty() || offers.contains(service) {
        return None;
    }
    let distance = |other: &&ServiceName| strsim::damerau_levenshtein(other.as_str(), service.as_str());
    let nearest = offers.iter().min_by_key(distance);
    let meant = nearest
        .map_or_else(String::new, |nearest| format!("write --service {nearest} if that is meant, or "));
    let mut names: Vec<&str> = offers.iter().take(MAX_NAMED).map(ServiceName::as_str).collect();
    if offers.len() > MAX_NAMED {
        names.push("...");
    }
    Some(format!(
        "no device of zone {} offers {service}; they offer {}: {meant}say --unoffered if it comes later",
        conduit.to,
        names.join(", ")
    ))
}

fn opened(conduit: &Conduit, affected: usize) -> String {
    format!("{}; trust files of {affected} devices change", state(conduit))
}

/// A conduit as it is, for people.
pub(super) fn state(conduit: &Conduit) -> String {
    let until = conduit.expires.map_or_else(String::new, |end| format!(" until {end}"));
    let observed = if conduit.accept_observed { ", accepting an observing zone" } else { "" };
    let hours = conduit.schedule.as_ref().map_or_else(String::new, |hours| format!(" in the hours {hours}"));
    format!("open{hours}{until}{observed}")
}

/// Closes a conduit. Answers with the devices whose trust files change.
pub async fn close(
    plant: &Plant,
    actor: &Actor,
    conduit: &Conduit,
    seen: Option<&Seen>,
    dry_run: bool,
) -> Result<Vec<DeviceName>, Refusal> {
    commit(plant, || shut(plant, actor, conduit, seen, dry_run)).await
}

async fn shut(
    plant: &Plant,
    actor: &Actor,
    conduit: &Conduit,
    seen: Option<&Seen>,
    dry_run: bool,
) -> Result<Draft<Vec<DeviceName>>, Refusal> {
    let now = plant.now();
    let reach = actor.reach(plant, &ends(conduit)).await?;
    let txn = trust::raise(plant, Txn::new(), now).await?;
    expected(plant, conduit, seen).await?;
    let before = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let others: Vec<Conduit> =
        before.conduits().iter().filter(|other| !same(other, conduit)).cloned().collect();
    if others.len() == before.conduits().len() {
        return Err(Refusal::NotFound(format!(
            "there is no conduit {conduit}; `touchstone conduit list` shows what there is"
        )));
    }
    let after = changed(&before, before.zones().cloned().collect(), others)?;
    let affected = affected(plant, actor.scope(), &ends(conduit), &before, &after, now).await?;
    let text = format!("closed; trust files of {} devices change", affected.len());
    let deed = reach.deed(&conduit.to_string(), &text);
    Ok(Draft::unless(dry_run, affected, txn.delete(key(conduit)), deed))
}

pub(super) fn same(a: &Conduit, b: &Conduit) -> bool {
    (&a.from, &a.to, &a.service) == (&b.from, &b.to, &b.service)
}

/// A conduit touches both its zones: whoever opens one half of a door opens the other.
fn ends(conduit: &Conduit) -> [ZoneName; 2] {
    [conduit.from.clone(), conduit.to.clone()]
}

pub(super) fn key(conduit: &Conduit) -> String {
    conduit_key(&conduit.from, &conduit.to, &conduit.service)
}

/// The devices in sight whose trust files differ before and after a change of conduits between `zones`.
async fn affected(
    plant: &Plant,
    scope: &Scope,
    zones: &[ZoneName],
    before: &Segmentation,
    after: &Segmentation,
    now: UnixTime,
) -> Result<Vec<DeviceName>, Refusal> {
    let (devices, in_zones) = trust::offers(plant).await.map_err(Refusal::internal)?;
    let files = |plant: &Segmentation, offer: &Offer| -> Result<Vec<TrustFile>, Refusal> {
        let mut files = Vec::new();
        for zone in &offer.zones {
            let placement = offer.placement(zone, &in_zones);
            files.extend(compile(plant, &placement, now).map_err(Refusal::internal)?.files);
        }
        Ok(files)
    };
    let (mut differs, mut affected) = (BTreeMap::new(), Vec::new());
    let touched = |offer: &Offer| offer.zones.iter().any(|zone| zones.contains(zone));
    for (name, offer) in devices.iter().filter(|(_, offer)| scope.sees(&offer.zones) && touched(offer)) {
        let known = differs.get(offer).copied();
        let differing = match known {
            Some(known) => known,
            None => files(before, offer)? != files(after, offer)?,
        };
        if known.is_none() {
            differs.insert(offer, differing);
        }
        if differing {
            affected.push(name.clone());
        }
    }
    Ok(affected)
}
