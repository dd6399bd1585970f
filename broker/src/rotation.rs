//! Rotation: authorities are followed by the next generation in time, one step at a time.
//!
//! What comes next is decided in `policy::zone::generation`; this module reads what it is decided on and writes the
//! step, each in one transaction that compares the authorities it rests on. Promises: a broker that stops in between
//! goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::{Generation, Role, Segmentation, Step, Zone, next_step};
use tokio::time::Instant;

use crate::audit::Event;
use crate::authority::{Born, LIFETIME, next_generation};
use crate::plant::Plant;
use crate::publication;
use crate::record::device::{Admission, DEVICE, Device};
use crate::record::zone::{AUTHORITY, AuthorityRecord, AuthorityState, role_name};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::Txn;
use crate::trust;

/// How often it is looked whether a step is due: devices say what they hold each time they prove themselves.
const LOOK: Duration = Duration::from_secs(10);

/// The generations of one authority of a zone, lowest first.
pub(crate) type Line = Vec<Held<AuthorityRecord>>;

/// No step is taken for so long after the clock was set: what it says has ended is distrusted, which nothing takes back.
const SETTLE: Duration = Duration::from_secs(3_600);
/// Seconds by which the clock may move more or less than the time that passed.
const DRIFT: u64 = 300;

/// Takes steps as they come due, for ever. After a start the clock is believed: a broker that was off is late, not wrong.
pub(crate) async fn follow(plant: Arc<Plant>) {
    let mut rests = None;
    let mut last = (plant.now(), Instant::now());
    loop {
        let (now, at) = (plant.now(), Instant::now());
        if was_set(last, (now, at)) {
            tracing::warn!(%now, "the clock was set; authorities are left as they are for an hour");
            rests = Some(at + SETTLE);
        }
        last = (now, at);
        if rests.is_some_and(|until| at < until) {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        if let Err(error) = turn(&plant).await {
            tracing::warn!(%error, "a rotation of authorities goes on with the next try");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the clock did not move by the time that passed between two looks.
fn was_set((before, began): (UnixTime, Instant), (now, at): (UnixTime, Instant)) -> bool {
    let expected = before.plus(at.saturating_duration_since(began).as_secs());
    now.since(expected).max(expected.since(now)) > DRIFT
}

/// Takes the steps that are due now, one for each authority.
pub(crate) async fn turn(plant: &Plant) -> Result<(), Refusal> {
    let graph = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    let mut fleet = None;
    let reread = if plant.config.publish.is_some() { publication::REFRESH } else { 0 };
    for ((zone, role), line) in lines(plant).await? {
        let Some(zone) = graph.zone(&zone) else { continue };
        let prepared = line.iter().any(|held| held.record.state == AuthorityState::Prepared);
        if prepared && fleet.is_none() {
            fleet = Some(list::<Device>(plant.store.as_ref(), DEVICE).await?);
        }
        let meeting = fleet.as_deref().map(|fleet| meeting(fleet, &graph, &zone.name)).unwrap_or_default();
        let generations: Vec<Generation> = line.iter().map(|held| held.record.generation(LIFETIME)).collect();
        let lagging = |sequence| lagging(&meeting, sequence).count();
        let step = next_step(&generations, zone.timing.certificate_lifetime(), reread, plant.now(), lagging);
        if let Some(step) = step {
            take(plant, zone, role, &line, step).await?;
        }
    }
    Ok(())
}

/// Every authority with its generations.
async fn lines(plant: &Plant) -> Result<BTreeMap<(ZoneName, Role), Line>, Refusal> {
    let all: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), AUTHORITY).await?;
    let mut lines: BTreeMap<(ZoneName, Role), Line> = BTreeMap::new();
    for held in all {
        lines.entry((held.record.zone.clone(), held.record.role)).or_default().push(held);
    }
    Ok(lines)
}

/// The admitted devices that meet certificates of `zone`: its own, and those of zones that a conduit joins with it.
pub(crate) fn meeting<'f>(
    fleet: &'f [Held<Device>],
    graph: &Segmentation,
    zone: &ZoneName,
) -> Vec<&'f Device> {
    let joined = graph.conduits().iter().filter(|one| one.from == *zone || one.to == *zone);
    let zones: BTreeSet<&ZoneName> = joined.flat_map(|one| [&one.from, &one.to]).chain([zone]).collect();
    let devices = fleet.iter().map(|held| &held.record);
    let meets = |device: &&Device| device.zones.iter().any(|zone| zones.contains(zone));
    devices.filter(|device| device.admission == Admission::Admitted).filter(meets).collect()
}

/// Those of `meeting` that have not said that they hold a trust set of `sequence` or a later one.
pub(crate) fn lagging<'f>(meeting: &'f [&'f Device], sequence: u64) -> impl Iterator<Item = &'f Device> {
    meeting.iter().filter(move |device| device.trust_sequence < sequence).copied()
}

async fn take(plant: &Plant, zone: &Zone, role: Role, line: &Line, step: Step) -> Result<(), Refusal> {
    let (txn, told) = match step {
        Step::Prepare => (prepare(plant, zone, &[role]).await?, "the next generation is prepared".to_owned()),
        Step::Replace => {
            let txn = born(plant, zone, &[role], AuthorityState::Active, Txn::new()).await?;
            (txn, "no generation signed any more; another signs from now on".to_owned())
        }
        Step::Activate { number, stragglers } => {
            let told =
                format!("generation {number} signs from now on, {stragglers} devices may not know it yet");
            (activate(plant, line, number, Txn::new())?, told)
        }
        Step::Forget(number) => {
            let told = format!("generation {number} is believed no more: nothing that it signed is left");
            let txn = trust::raise(plant, Txn::new(), plant.now()).await?;
            (turned(plant, line, number, AuthorityState::Distrusted, txn)?, told)
        }
    };
    let subject = format!("{}/{}", zone.name, role_name(role));
    tracing::info!(authority = subject, "{told}");
    let event = Event::new(plant.now(), "broker", "authority.rotate", &subject, &told);
    commit(plant, txn.audit(event.entry())).await
}

/// Makes the next generation of these authorities: believed from now on, signs nothing yet.
pub(crate) async fn prepare(plant: &Plant, zone: &Zone, roles: &[Role]) -> Result<Txn, Refusal> {
    born(plant, zone, roles, AuthorityState::Prepared, Txn::new()).await
}

/// Adds the next generation of these authorities in this state to `txn`, and a raise of the trust head.
pub(crate) async fn born(
    plant: &Plant,
    zone: &Zone,
    roles: &[Role],
    state: AuthorityState,
    txn: Txn,
) -> Result<Txn, Refusal> {
    let now = plant.now();
    let (mut txn, published) = trust::raised(plant, txn, now).await?;
    let born = Born { state, published, now };
    for role in roles {
        let made = next_generation(plant, zone, *role, born).await;
        let (key, authority) = made.map_err(Refusal::internal)?;
        txn = txn.absent(key.clone()).put(key, stored(&authority)?);
    }
    Ok(txn)
}

/// Lets generation `number` sign, and the one that signs now grow old.
pub(crate) fn activate(plant: &Plant, line: &Line, number: u32, txn: Txn) -> Result<Txn, Refusal> {
    let active = line.iter().filter(|held| held.record.state == AuthorityState::Active);
    let older = active.filter(|held| held.record.generation != number);
    let txn = older
        .map(|held| held.record.generation)
        .try_fold(txn, |txn, older| turned(plant, line, older, AuthorityState::Old, txn))?;
    turned(plant, line, number, AuthorityState::Active, txn)
}

/// Turns generation `number` into another state, as it was read.
pub(crate) fn turned(
    plant: &Plant,
    line: &Line,
    number: u32,
    state: AuthorityState,
    txn: Txn,
) -> Result<Txn, Refusal> {
    let held = line.iter().find(|held| held.record.generation == number);
    let held = held.ok_or_else(|| Refusal::internal(format!("generation {number} is not there")))?;
    let next = held.record.turned(state, plant.now());
    Ok(txn.unchanged(held.key.clone(), held.version).put(held.key.clone(), stored(&next)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_on_was_not_set() {
        const NOW: UnixTime = UnixTime(1_800_000_000);
        let began = Instant::now();
        let after = |seconds, now| was_set((NOW, began), (now, began + Duration::from_secs(seconds)));
        assert!(!after(10, NOW.plus(10)) && !after(86_400, NOW.plus(86_400)));
        assert!(!after(10, NOW.plus(10 + DRIFT)), "it is mended by a little");
        assert!(after(10, NOW.plus(11 + DRIFT)) && after(10, NOW.minus(DRIFT)));
        assert!(after(10, NOW.plus(10 * 365 * 86_400)));
    }
}
