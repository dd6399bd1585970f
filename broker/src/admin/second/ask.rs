//! Either the transaction of a deed is complete, or the deed waits for a second person.

use std::collections::BTreeSet;

use super::{WAITS, is_over};
use crate::admin::reach::Deed;
use crate::audit::Event;
use crate::plant::Plant;
use crate::ports::random;
use crate::record::change::{Basis, CHANGE, Change, change_key};
use crate::record::golden::{GOLDEN, PRODUCT};
use crate::record::plant::ADMIN;
use crate::record::release_key::RELEASE_KEYS;
use crate::record::zone::{CONDUIT, ZONE};
use crate::record::{Held, list, stored};
use crate::session::Refusal;
use crate::store::{Expect, MAX_TXN_KEYS, Revision, Txn};

/// Changes of one person that may wait: more are not read by anybody within a day.
const MAX_WAITING: usize = 32;
/// Changes that ended and are swept with each new one, within the limits of a transaction.
const SWEEP: usize = 50;
/// Longest text that is kept: the record holds 4 KiB.
const MAX_TEXT: usize = 600;
/// What only people change. Device records change with every attestation, so their revision says nothing.
const CHANGED_BY_PEOPLE: [&str; 6] = [ZONE, CONDUIT, GOLDEN, PRODUCT, RELEASE_KEYS, ADMIN];

/// The transaction with everything that the deed adds to it; `None` for an approval that is only tried. A deed
/// that needs a second person, and has none, is stored as a change and refused as waiting.
pub(in crate::admin) async fn settle(plant: &Plant, deed: &Deed, txn: Txn) -> Result<Option<Txn>, Refusal> {
    let reach = deed.reach();
    if let Some(second) = reach.actor().second() {
        return second.join(plant, deed, txn).await;
    }
    if reach.waits() {
        return Err(ask(plant, deed, &txn).await?);
    }
    let txn = as_reached(plant, deed, txn).await?;
    let now = plant.now();
    let event =
        |txn: Txn, (subject, text): &(String, String)| txn.audit(reach.event(now, subject, text).entry());
    Ok(Some(deed.done().iter().fold(txn, event)))
}

/// Expects in `txn` that the zones still ask for no second person. Of an act that touches more of them than fit, those
/// that changed since they were read: then it is decided anew.
async fn as_reached(plant: &Plant, deed: &Deed, txn: Txn) -> Result<Txn, Refusal> {
    let known: BTreeSet<String> = txn.expected().map(|(key, _)| key.to_owned()).collect();
    let zones = deed.reach().versions();
    let mut more: Vec<&(String, Revision)> = zones.iter().filter(|(key, _)| !known.contains(key)).collect();
    if txn.keys().saturating_add(more.len()).saturating_add(deed.done().len()) > MAX_TXN_KEYS {
        let mut changed = Vec::new();
        for zone in more {
            let now = plant.store.get(&zone.0).await?.map(|held| held.version);
            changed.extend((now != Some(zone.1)).then_some(zone));
        }
        changed.truncate(1);
        more = changed;
    }
    Ok(more.into_iter().fold(txn, |txn, (key, version)| txn.unchanged(key.clone(), *version)))
}

/// Lets an act of several transactions wait as a whole.
pub(in crate::admin) async fn wait_if_asked(plant: &Plant, deed: &Deed) -> Result<(), Refusal> {
    let reach = deed.reach();
    if reach.waits() && reach.actor().second().is_none() {
        return Err(ask(plant, deed, &Txn::new()).await?);
    }
    Ok(())
}

/// Stores the change that `deed` comes to. The refusal that says so is the good outcome.
async fn ask(plant: &Plant, deed: &Deed, txn: &Txn) -> Result<Refusal, Refusal> {
    let (actor, now) = (deed.reach().actor(), plant.now());
    // No act that may wait has an empty request: carried out later it would be another one.
    if actor.request().is_empty() {
        return Err(Refusal::internal(format!("the request of {} was not kept", actor.act().name())));
    }
    let request = plant.blobs.put(actor.request().to_vec()).await.map_err(Refusal::internal)?;
    let all: Vec<Held<Change>> = list(plant.store.as_ref(), CHANGE).await?;
    let (over, waiting): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|held| is_over(held.record.expires, now));
    let mine = waiting.iter().map(|held| &held.record).filter(|change| change.by == actor.name());
    let mine: Vec<&Change> = mine.filter(|change| change.since == actor.since()).collect();
    // Asked again, it is the same change.
    if let Some(same) =
        mine.iter().find(|change| change.act == actor.act().name() && change.request == request)
    {
        return Ok(waits(same));
    }
    if mine.len() >= MAX_WAITING {
        return Err(Refusal::Conflict(format!(
            "{MAX_WAITING} changes of {} wait for a second person; have them approved, or `touchstone change reject` some",
            actor.name()
        )));
    }
    let basis = serde_json::to_vec(&basis(deed, txn)).map_err(Refusal::internal)?;
    let change = Change {
        id: hex::encode(random::<8>(plant.entropy.as_ref()).map_err(Refusal::internal)?),
        act: actor.act().name().to_owned(),
        request,
        basis: plant.blobs.put(basis).await.map_err(Refusal::internal)?,
        by: actor.name().to_owned(),
        since: actor.since(),
        role: actor.role(),
        asked: now,
        expires: now.plus(WAITS),
        subject: subject(deed),
        text: text(deed),
    };
    let told = format!("asks for {} {}: {}", change.act, change.subject, change.text);
    let event = Event::new(now, actor.name(), "change.ask", &change.id, &told);
    let key = change_key(&change.id);
    let sweep = over.into_iter().take(SWEEP).fold(Txn::new(), |txn, held| txn.delete(held.key));
    let txn = sweep.absent(key.clone()).put(key, stored(&change)?).audit(event.entry());
    plant.store.transact(txn).await.map_err(Refusal::internal)?;
    Ok(waits(&change))
}

fn waits(change: &Change) -> Refusal {
    Refusal::Waits {
        change: change.id.clone(),
        what: format!("{} {} ({})", change.act, change.subject, change.text),
    }
}

fn basis(deed: &Deed, txn: &Txn) -> Basis {
    let reach = deed.reach();
    let read = reach.versions().iter().map(|(key, version)| (key.clone(), version.0));
    let compared = txn.expected().filter_map(|(key, expect)| match expect {
        Expect::Version(version) if CHANGED_BY_PEOPLE.iter().any(|prefix| key.starts_with(prefix)) => {
            Some((key.to_owned(), version.0))
        }
        _ => None,
    });
    let mut rests_on: Vec<(String, u64)> = read.chain(compared).collect();
    rests_on.sort();
    rests_on.dedup();
    Basis { zones: reach.zones().to_vec(), rests_on }
}

fn subject(deed: &Deed) -> String {
    let mut all = deed.done().iter().map(|(subject, _)| subject.as_str());
    let first = all.next().unwrap_or_default();
    let more = all.count();
    if more == 0 { first.to_owned() } else { format!("{first} and {more} more") }
}

/// What it does: the first thing by its text, the others with their subjects.
fn text(deed: &Deed) -> String {
    let (first, others) = match deed.done().split_first() {
        Some(((_, text), others)) => (text.as_str(), others),
        None => ("", [].as_slice()),
    };
    let others = others.iter().map(|(subject, text)| format!("; {subject}: {text}"));
    let text = others.fold(first.to_owned(), |all, one| all + &one);
    text.char_indices().take_while(|(at, _)| *at < MAX_TEXT).map(|(_, c)| c).collect()
}
