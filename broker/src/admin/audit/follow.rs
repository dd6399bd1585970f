//! The audit as it goes on, for a SIEM: what is on record already, then what comes, with each newer seal after the
//! records that it covers.
//!
//! Whoever leaves and comes back says which record of each broker was the last, and misses none. What was dropped
//! meanwhile because its time was over is told, not skipped.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::audit::{ChainHead, SignedSeal};
use policy::time::UnixTime;
use tokio::sync::mpsc;

use super::{CHUNK, Part, from};
use crate::admin::Actor;
use crate::audit::{chains, seal};
use crate::plant::Plant;
use crate::record::audit::SEAL;
use crate::record::plant::{Administrator, admin_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;

/// Brokers whose last record a follower may name: more than a plant has.
const MAX_BROKERS: usize = 64;
/// Records are gathered for this long, so that a follower costs one look a second and not one for each commit.
const GATHER: Duration = Duration::from_secs(1);

/// The last record that a follower has of each broker: start and number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(BTreeMap<String, (u64, u64)>);

impl Cursor {
    /// After `last`, the records that the follower names by writer and number; of other brokers from the beginning.
    pub async fn after(plant: &Plant, last: &[(String, u64)]) -> Result<Self, Refusal> {
        if last.len() > MAX_BROKERS {
            return Err(Refusal::malformed(format!("at most {MAX_BROKERS} records say where to go on")));
        }
        let archived = newest(plant).await?.map(|signed| seal::read(&signed)).transpose()?;
        let mut cursor = Self::beginning(archived.as_ref().map_or(&[], |seal| seal.archived.as_slice()));
        let known = chains::writers(plant).await?;
        for (writer, number) in last {
            let (broker, start) = place(writer)?;
            if !known.contains_key(broker) {
                return Err(Refusal::NotFound(format!(
                    "no broker {broker} wrote records here; name the last line of this plant's export by its writer and sequence"
                )));
            }
            let begins = cursor.of(broker);
            if (start, *number) < begins {
                return Err(Refusal::Conflict(format!(
                    "records after {writer}/{number} were dropped, for their time was over; follow without it"
                )));
            }
            cursor.0.insert(broker.to_owned(), (start, *number));
        }
        Ok(cursor)
    }

    fn beginning(archived: &[ChainHead]) -> Self {
        let place =
            |head: &ChainHead| head.place().map(|(of, start)| (of.to_owned(), (start, head.sequence)));
        Self(archived.iter().filter_map(place).collect())
    }

    fn of(&self, broker: &str) -> (u64, u64) {
        self.0.get(broker).copied().unwrap_or_default()
    }
}

fn place(writer: &str) -> Result<(&str, u64), Refusal> {
    let place = writer.rsplit_once('.').and_then(|(broker, start)| Some((broker, start.parse().ok()?)));
    place.ok_or_else(|| {
        Refusal::malformed("a record is named by its writer, BROKER.START, and number".to_owned())
    })
}

/// Sends what comes after `cursor`, from `since` on, until the reader leaves or `actor` may no longer see everything.
pub async fn follow(
    plant: &Plant,
    actor: &Actor,
    since: UnixTime,
    mut cursor: Cursor,
    out: &mpsc::Sender<Part>,
) -> Result<(), Refusal> {
    let mut begun = since.0 == 0;
    let mut sealed: Option<SignedSeal> = None;
    loop {
        let revision = plant.store.revision();
        still_sees_everything(plant, actor).await?;
        // The seal first, so that every record that it covers is sent before it.
        let seal = newest(plant).await?;
        if !send_new(plant, &mut cursor, since, &mut begun, out).await? {
            return Ok(());
        }
        if let Some(newer) = seal.filter(|seal| sealed.as_ref() != Some(seal)) {
            sealed = Some(newer.clone());
            if out.send(Part::Seals(vec![newer])).await.is_err() {
                return Ok(());
            }
        }
        tokio::time::sleep(GATHER).await;
        let mut changes = plant.store.watch(revision);
        tokio::select! {
            change = changes.next() => if change.is_none() { return Ok(()) },
            () = out.closed() => return Ok(()),
        }
    }
}

/// Sends the records after `cursor`, and moves it. Says whether somebody reads them.
async fn send_new(
    plant: &Plant,
    cursor: &mut Cursor,
    since: UnixTime,
    begun: &mut bool,
    out: &mpsc::Sender<Part>,
) -> Result<bool, Refusal> {
    for (broker, writers) in chains::writers(plant).await? {
        for writer in writers {
            let (_, start) = place(&writer)?;
            loop {
                let (sent, number) = cursor.of(&broker);
                let after = match start {
                    later if later > sent => 0,
                    same if same == sent => number,
                    _ => break,
                };
                let page = chains::page(plant, &writer, after, CHUNK).await?;
                let Some((last, _)) = page.last() else { break };
                cursor.0.insert(broker.clone(), (start, *last));
                let mut records: Vec<Vec<u8>> = page.into_iter().map(|(_, bytes)| bytes).collect();
                records.retain(|bytes| {
                    *begun = *begun || from(bytes, since);
                    *begun
                });
                if !records.is_empty() && out.send(Part::Records(records)).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

async fn newest(plant: &Plant) -> Result<Option<SignedSeal>, Refusal> {
    let held: Option<Held<SignedSeal>> = fetch(plant.store.as_ref(), SEAL.to_owned()).await?;
    Ok(held.map(|held| held.record))
}

/// Whoever is removed, or limited to zones, while they follow, follows no more.
async fn still_sees_everything(plant: &Plant, actor: &Actor) -> Result<(), Refusal> {
    let held: Option<Held<Administrator>> = fetch(plant.store.as_ref(), admin_key(actor.name())).await?;
    let same = held.is_some_and(|held| {
        held.record.created == actor.since() && held.record.zones.is_none() && plant.now() < actor.not_after()
    });
    let ended = || {
        Refusal::NotPermitted(format!("{} is no longer an administrator of the whole plant", actor.name()))
    };
    same.then_some(()).ok_or_else(ended)
}
