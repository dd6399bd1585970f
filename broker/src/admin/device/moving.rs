//! Moves a device to another zone: at once, or when its window opens.
//!
//! It joins the new zone first and leaves the old one when it says that it delivered the certificates of the new
//! (`session::leaving`), so that its software is never without.

use std::collections::BTreeSet;

use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::{Member, Peers, Schedule, peers};

use super::seen::of_device;
use super::{Known, existing_zones, known, provable};
use crate::admin::bounds::{MAX_REASON, printable};
use crate::admin::change::{Draft, commit};
use crate::admin::graph::members;
use crate::admin::{Actor, Seen, stand};
use crate::moving::begun;
use crate::plant::Plant;
use crate::record::device::{Device, Leaving, MAX_ZONES};
use crate::record::moving::{PlannedMove, move_key};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::trust;

/// Who is to move where, and when.
#[derive(Debug)]
pub struct Request {
    /// The device.
    pub name: DeviceName,
    /// The zone that it goes to.
    pub to: ZoneName,
    /// The zone that it leaves; none: the only one it is in.
    pub from: Option<ZoneName>,
    /// The hours in which it may begin; none: at once.
    pub window: Option<Schedule>,
    /// Why; may be empty.
    pub reason: String,
    /// What the caller saw of the device.
    pub seen: Option<Seen>,
}

/// What a move came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The zone that it leaves.
    pub from: ZoneName,
    /// The zone that it goes to.
    pub to: ZoneName,
    /// When it begins; none: at once.
    pub begins: Option<UnixTime>,
    /// Whom the device meets now.
    pub before: Peers,
    /// Whom it meets once it has moved.
    pub after: Peers,
    /// The device as it was before.
    pub seen: Seen,
}

/// Moves a device, or plans it, or, for a dry run, says what that would mean.
pub async fn begin(plant: &Plant, actor: &Actor, request: &Request, dry_run: bool) -> Result<Moved, Refusal> {
    if !request.reason.is_empty() {
        printable("reason", &request.reason, MAX_REASON)?;
    }
    commit(plant, || decide(plant, actor, request, dry_run)).await
}

async fn decide(
    plant: &Plant,
    actor: &Actor,
    request: &Request,
    dry_run: bool,
) -> Result<Draft<Moved>, Refusal> {
    let (now, name) = (plant.now(), &request.name);
    let known = super::stop::not_retired(known(plant, actor.scope(), name).await?)?;
    known.expected_as(request.seen.as_ref())?;
    let device = &known.device.record;
    let from = left(device, request)?;
    let (_, txn) = existing_zones(plant, std::slice::from_ref(&request.to), known.expected()).await?;
    provable(plant, device, std::slice::from_ref(&request.to)).await?;
    let touched = [device.zones.as_slice(), std::slice::from_ref(&request.to)].concat();
    let reach = actor.reach(plant, &touched).await?;
    let window = request.window.as_ref().filter(|window| !window.is_open(now));
    let begins = match window {
        Some(window) => Some(window.next_opening(now).ok_or_else(|| {
            Refusal::malformed(format!("the window `{window}` never opens; name hours that come"))
        })?),
        None => None,
    };
    let leaving = Leaving { from: from.clone(), to: request.to.clone(), since: now };
    let seen = of_device(device, &known.tpm.record);
    let moved = outlook(plant, device, leaving.clone(), begins, seen).await?;
    let key = move_key(name);
    let mut told = format!("from {from} to {}", request.to);
    let txn = match (begins, &request.window) {
        (Some(begins), Some(window)) => {
            told.push_str(&format!(", in {window}, next on {begins}"));
            let planned = PlannedMove {
                device: name.clone(),
                from,
                to: request.to.clone(),
                window: window.clone(),
                by: actor.name().to_owned(),
                people: stand::people(plant, actor).await?,
                at: now,
                reason: request.reason.clone(),
            };
            txn.put(key, stored(&planned)?)
        }
        _ => begun(plant, txn.delete(key), known.device.clone(), leaving, now).await?,
    };
    if !request.reason.is_empty() {
        told.push_str(&format!(": {}", request.reason));
    }
    Ok(Draft::unless(dry_run, moved, txn, reach.deed(name.as_str(), &told)))
}

/// The zone that the device leaves.
fn left(device: &Device, request: &Request) -> Result<ZoneName, Refusal> {
    let (name, to) = (&device.name, &request.to);
    let back = device.leaving.as_ref();
    if let Some(under_way) = back.filter(|leaving| leaving.from != *to) {
        return Err(Refusal::Conflict(format!(
            "{name} moves from {} to {} already and has not delivered its certificates yet; wait for it, or move it back to {}",
            under_way.from, under_way.to, under_way.from
        )));
    }
    if back.is_none() && device.zones.contains(to) {
        return Err(Refusal::Conflict(format!("{name} is in {to} already")));
    }
    if let (Some(under_way), Some(from)) = (back, &request.from)
        && *from != under_way.to
    {
        return Err(Refusal::Conflict(format!(
            "{name} moves from {} to {} already; to move it back, it leaves {} and not {from}",
            under_way.from, under_way.to, under_way.to
        )));
    }
    let from = match (back, &request.from, device.zones.as_slice()) {
        (Some(under_way), None, _) => under_way.to.clone(),
        (_, Some(from), zones) if zones.contains(from) && from != to => from.clone(),
        (_, Some(from), _) => {
            return Err(Refusal::Conflict(format!("{name} cannot leave {from}: it is not there")));
        }
        (None, None, [only]) => only.clone(),
        (None, None, _) => {
            return Err(Refusal::malformed(format!(
                "{name} is in {} zones; say which one it leaves with --from ZONE",
                device.zones.len()
            )));
        }
    };
    if back.is_none() && device.zones.len() >= MAX_ZONES {
        return Err(Refusal::malformed(format!(
            "{name} is in {MAX_ZONES} zones and cannot join one before it leaves one; use `touchstone device admit` with all that it is to be in"
        )));
    }
    Ok(from)
}

/// Whom the device meets before and after.
async fn outlook(
    plant: &Plant,
    device: &Device,
    leaving: Leaving,
    begins: Option<UnixTime>,
    seen: Seen,
) -> Result<Moved, Refusal> {
    let graph = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let members = members(plant).await?;
    let member = |zones: BTreeSet<ZoneName>| Member {
        device: device.name.clone(),
        zones,
        offers: trust::Offer::of(device).services,
        two_sided: BTreeSet::new(),
    };
    let zones: BTreeSet<ZoneName> = device.zones.iter().cloned().collect();
    let mut next = zones.clone();
    next.remove(&leaving.from);
    next.insert(leaving.to.clone());
    let at = begins.unwrap_or_else(|| plant.now());
    Ok(Moved {
        before: peers(&graph, &members, &member(zones), at),
        after: peers(&graph, &members, &member(next), at),
        from: leaving.from,
        to: leaving.to,
        begins,
        seen,
    })
}

/// Drops a move that waits for its window, and says which.
pub async fn cancel(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    dry_run: bool,
) -> Result<PlannedMove, Refusal> {
    commit(plant, || forget(plant, actor, name, dry_run)).await
}

async fn forget(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    dry_run: bool,
) -> Result<Draft<PlannedMove>, Refusal> {
    let known: Known = known(plant, actor.scope(), name).await?;
    let planned: Option<Held<PlannedMove>> = fetch(plant.store.as_ref(), move_key(name)).await?;
    let planned =
        planned.ok_or_else(|| Refusal::NotFound(format!("no move of {name} waits for its window")))?;
    let touched = [known.device.record.zones.as_slice(), std::slice::from_ref(&planned.record.to)].concat();
    let reach = actor.reach(plant, &touched).await?;
    let deed = reach.deed(name.as_str(), &format!("the move to {} is cancelled", planned.record.to));
    let txn = known.expected().unchanged(planned.key.clone(), planned.version).delete(planned.key);
    Ok(Draft::unless(dry_run, planned.record, txn, deed))
}
