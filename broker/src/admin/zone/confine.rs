//! What stands in the certificates of a zone's authorities is changed: its subnets and its name constraint.

use policy::time::UnixTime;
use policy::zone::{Role, Zone};

use crate::admin::authority::room_for_another;
use crate::authority::{self, Born};
use crate::plant::Plant;
use crate::record::zone::{AuthorityRecord, AuthorityState, Narrowing, authority_prefix, narrowing_key};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::store::Txn;

/// Adds to `txn`, which raises the trust head to `published`, what follows where a zone is confined otherwise than before; nothing where
/// it is not.
pub(in crate::admin) async fn confined(
    plant: &Plant,
    mut txn: Txn,
    (before, zone): (&Zone, &Zone),
    published: u64,
) -> Result<Txn, Refusal> {
    if zone.is_confined_otherwise(before) {
        txn = prepare(plant, txn, zone, published).await?;
    }
    if !before.subnets.is_subset(&zone.subnets) {
        txn = narrowed(txn, zone, plant.now())?;
    }
    Ok(txn)
}

/// Subnets and the name constraint stand in the authorities' certificates: the next generation of both is prepared, and signs once all that
/// meet it know it.
async fn prepare(plant: &Plant, mut txn: Txn, zone: &Zone, published: u64) -> Result<Txn, Refusal> {
    let born = Born { state: AuthorityState::Prepared, published, now: plant.now() };
    for role in [Role::Caller, Role::Listener] {
        let line: Vec<Held<AuthorityRecord>> =
            list(plant.store.as_ref(), &authority_prefix(&zone.name, role)).await?;
        if line.iter().any(|held| held.record.state == AuthorityState::Prepared) {
            return Err(Refusal::Conflict(format!(
                "the next authorities of zone {0} are prepared already, with the subnets and the name constraint of before; once they sign (`touchstone authority list`, or at once with `touchstone authority activate {0} --role ROLE`), set them again",
                zone.name
            )));
        }
        room_for_another(&line, &zone.name, role)?;
        let made = authority::next_generation(plant, zone, role, born).await;
        let (key, authority) = made.map_err(Refusal::internal)?;
        txn = txn.absent(key.clone()).put(key, stored(&authority)?);
    }
    Ok(txn)
}

/// Lets whoever holds certificates that name addresses outside the zone's subnets replace them within an interval.
fn narrowed(txn: Txn, zone: &Zone, now: UnixTime) -> Result<Txn, Refusal> {
    let due = now.plus(zone.timing.reattest_every());
    let narrowing = Narrowing { zone: zone.name.clone(), due, asked: false };
    Ok(txn.put(narrowing_key(&zone.name), stored(&narrowing)?))
}
