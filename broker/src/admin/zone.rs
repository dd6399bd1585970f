//! Zones with their authorities.
//!
//! Every change of zones and conduits raises the trust head, so a change that raises it before it
//! reads zones and conduits is committed only on exactly what it read.

use std::slice;

use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::document::{MAX_DOCUMENT, render};
use policy::zone::{Conduit, Role, Segmentation, SoftwareKeys, Zone};

mod confine;
mod set;

pub(super) use self::confine::confined;
pub use self::set::{Changed, Settings, seen, set};

use super::Actor;
use super::change::{Draft, commit};
use super::device::no_zone;
use super::leftover;
use super::reach::Scope;
use super::second::enough_people;
use crate::authority::{self, Born};
use crate::plant::Plant;
use crate::record::device::{DEVICE, Device};
use crate::record::zone::{
    AUTHORITY, AuthorityRecord, AuthorityState, Reappraisal, RevokedCertificate, reappraisal_key,
    revoked_prefix, zone_key,
};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::trust;

/// Most products of a zone: the zone is one record of at most 4 KiB.
const MAX_PRODUCTS: usize = 32;

/// Makes a zone and its two authorities, or, for a dry run, says whether it could be made.
pub async fn create(plant: &Plant, actor: &Actor, zone: &Zone, dry_run: bool) -> Result<(), Refusal> {
    bounded(zone)?;
    commit(plant, || make(plant, actor, zone, dry_run)).await
}

/// Refuses a zone with more products than its record has room for.
pub(super) fn bounded(zone: &Zone) -> Result<(), Refusal> {
    if zone.products.len() <= MAX_PRODUCTS {
        return Ok(());
    }
    Err(Refusal::malformed(format!(
        "{} products of zone {}; a zone has at most {MAX_PRODUCTS}",
        zone.products.len(),
        zone.name
    )))
}

async fn make(plant: &Plant, actor: &Actor, zone: &Zone, dry_run: bool) -> Result<Draft<()>, Refusal> {
    let now = plant.now();
    let (txn, published) = trust::raised(plant, Txn::new(), now).await?;
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    if known.zone(&zone.name).is_some() {
        return Err(Refusal::Conflict(format!("there is a zone {} already", zone.name)));
    }
    let zones = known.zones().cloned().chain([zone.clone()]).collect();
    changed(&known, zones, known.conduits().to_vec())?;
    let reach = actor.reach(plant, slice::from_ref(&zone.name)).await?;
    if zone.two_person {
        enough_people(plant, zone).await?;
    }
    let txn = txn.absent(zone_key(&zone.name)).put(zone_key(&zone.name), stored(zone)?);
    let (ended, mut txn) = leftover::ended(plant, &[zone.name.clone()].into(), txn).await?;
    let born = Born { state: AuthorityState::Active, published, now };
    for role in [Role::Caller, Role::Listener] {
        let made = authority::next_generation(plant, zone, role, born).await;
        let (key, authority) = made.map_err(Refusal::internal)?;
        txn = txn.absent(key.clone()).put(key, stored(&authority)?);
    }
    let mut text = "created with its caller and listener authorities".to_owned();
    if zone.software_keys == SoftwareKeys::Allow {
        text.push_str("; it allows software keys");
    }
    if zone.two_person {
        text.push_str("; changes need two people");
    }
    if zone.drills.is_some() {
        text.push_str(&format!("; {}", drills(zone)));
    }
    if ended > 0 {
        text.push_str(&format!("; {ended} tokens and planned moves into an earlier one of its name end"));
    }
    Ok(Draft::unless(dry_run, (), txn, reach.deed(zone.name.as_str(), &text)))
}

fn drills(zone: &Zone) -> String {
    zone.drills.map_or_else(
        || "not marked for drills any more".to_owned(),
        |bounds| {
            let (cut, recover) = (bounds.cut_within(), bounds.recover_within());
            format!("marked for drills: cut within {cut} s, recovered within {recover} s")
        },
    )
}

/// Lets whoever holds certificates in `zone` be judged by its new rules: one who is away does not prove itself again.
pub(super) fn reappraised(txn: Txn, zone: &Zone, by: &str, at: UnixTime) -> Result<Txn, Refusal> {
    let change = Reappraisal { zone: zone.name.clone(), at, by: by.to_owned() };
    Ok(txn.put(reappraisal_key(&zone.name), stored(&change)?))
}

/// The graph that a change of `before` leaves: zones and conduits that fit together, every fault is told at once, and of which
/// the export can be applied.
pub(super) fn changed(
    before: &Segmentation,
    zones: Vec<Zone>,
    conduits: Vec<Conduit>,
) -> Result<Segmentation, Refusal> {
    let after =
        Segmentation::new(zones, conduits).map_err(|faults| Refusal::malformed(faults.to_string()))?;
    exportable(before, &after)?;
    Ok(after)
}

/// Refuses a graph that grew out of what is read of a file. One that is larger already may shrink.
pub(super) fn exportable(before: &Segmentation, after: &Segmentation) -> Result<(), Refusal> {
    let bytes = render(after).len();
    if bytes <= MAX_DOCUMENT || bytes <= render(before).len() {
        return Ok(());
    }
    Err(Refusal::malformed(format!(
        "zones and conduits would be a file of {bytes} bytes, and none of more than {MAX_DOCUMENT} can be applied; close conduits that ended, which `touchstone zone check` names, or use fewer or shorter hours and products"
    )))
}

/// A zone with what depends on it.
#[derive(Debug)]
pub struct ZoneView {
    /// The zone.
    pub zone: Zone,
    /// Conduits from or to it.
    pub conduits: Vec<Conduit>,
    /// Devices in it.
    pub devices: usize,
}

/// Every zone in sight.
pub async fn all(plant: &Plant, scope: &Scope) -> Result<Vec<Zone>, Refusal> {
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    Ok(known.zones().filter(|zone| scope.sees(slice::from_ref(&zone.name))).cloned().collect())
}

/// A zone of `known`, if it is in sight.
pub(super) fn in_sight<'a>(
    known: &'a Segmentation,
    scope: &Scope,
    name: &ZoneName,
) -> Result<&'a Zone, Refusal> {
    if !scope.sees(slice::from_ref(name)) {
        return Err(Refusal::NotFound(format!(
            "there is no zone {name}{}; `touchstone zone list` shows what there is",
            scope.phrase()
        )));
    }
    known.zone(name).ok_or_else(|| no_zone(name))
}

/// One zone, if it is in sight.
pub async fn one(plant: &Plant, scope: &Scope, name: &ZoneName) -> Result<ZoneView, Refusal> {
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let zone = in_sight(&known, scope, name)?.clone();
    let touches = |conduit: &&Conduit| conduit.from == *name || conduit.to == *name;
    let devices: Vec<Held<Device>> = list(plant.store.as_ref(), DEVICE).await?;
    Ok(ZoneView {
        zone,
        conduits: known.conduits().iter().filter(touches).cloned().collect(),
        devices: devices.iter().filter(|held| held.record.zones.contains(name)).count(),
    })
}

/// An authority with the certificates that it revoked.
#[derive(Debug)]
pub struct AuthorityView {
    /// The authority.
    pub record: AuthorityRecord,
    /// Certificates that it revoked and that have not ended.
    pub revoked: usize,
}

/// Every authority of a zone in sight, by zone, role and generation.
pub async fn authorities(plant: &Plant, scope: &Scope) -> Result<Vec<AuthorityView>, Refusal> {
    let now = plant.now();
    let records: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), AUTHORITY).await?;
    let mut views = Vec::new();
    let records = records.into_iter().filter(|held| scope.sees(slice::from_ref(&held.record.zone)));
    for Held { record, .. } in records {
        let prefix = revoked_prefix(&record.zone, record.role, record.generation);
        let revoked: Vec<Held<RevokedCertificate>> = list(plant.store.as_ref(), &prefix).await?;
        let revoked = revoked.iter().filter(|held| held.record.not_after >= now).count();
        views.push(AuthorityView { record, revoked });
    }
    Ok(views)
}
