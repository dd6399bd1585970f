//! Whether people still stand for what they decided on earlier and what happens only now, when they are asked nothing:
//! planned moves, join tokens.
//!
//! Promises: what somebody may not do any more is not done in their name, whether they were removed, limited, given
//! another role, or replaced by another person of their name; and what needs two people now rests on two.

use policy::id::ZoneName;
use policy::zone::Zone;

use super::Actor;
use super::actor::{Act, permitted};
use super::reach::Scope;
use crate::plant::Plant;
use crate::record::person::Person;
use crate::record::plant::{Administrator, admin_key};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::store::Txn;

/// Why nobody stands for it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fallen {
    /// There is no such zone any more.
    NoZone(ZoneName),
    /// The zone asks for two people, and one decided alone.
    Alone(ZoneName),
    /// This person may not do it any more in this zone.
    Person(String, ZoneName),
}

/// Who stands for what `actor` decides on and what happens later.
pub(super) async fn people(plant: &Plant, actor: &Actor) -> Result<Vec<Person>, Refusal> {
    let mut people = vec![Person { name: actor.name().to_owned(), since: Some(actor.since()) }];
    if let Some(second) = actor.second() {
        let held: Option<Held<Administrator>> = fetch(plant.store.as_ref(), admin_key(second.name())).await?;
        let since = held.map(|held| held.record.created);
        people.push(Person { name: second.name().to_owned(), since });
    }
    Ok(people)
}

/// The transaction that compares all that it rests on, if `people` still stand for `act` in all of `zones`.
pub(crate) async fn stand(
    plant: &Plant,
    act: Act,
    people: &[Person],
    zones: &[ZoneName],
) -> Result<Result<Txn, Fallen>, Refusal> {
    let (mut txn, mut two_person) = (Txn::new(), None);
    for zone in zones {
        let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(zone)).await?;
        let Some(held) = held else { return Ok(Err(Fallen::NoZone(zone.clone()))) };
        two_person = two_person.or(held.record.two_person.then(|| zone.clone()));
        txn = txn.unchanged(held.key, held.version);
    }
    for person in people {
        let held: Option<Held<Administrator>> = fetch(plant.store.as_ref(), admin_key(&person.name)).await?;
        let same = |held: &Held<Administrator>| {
            person.since.is_none_or(|since| since == held.record.created)
                && permitted(&person.name, held.record.role, act, act.needs()).is_ok()
        };
        let held = held.filter(same);
        let scope = held.as_ref().map(|held| Scope::of(&held.record));
        let may =
            |zone: &&ZoneName| scope.as_ref().is_some_and(|scope| scope.covers(std::slice::from_ref(zone)));
        if let Some(beyond) = zones.iter().find(|zone| !may(zone)) {
            return Ok(Err(Fallen::Person(person.name.clone(), beyond.clone())));
        }
        if let Some(held) = held {
            txn = txn.unchanged(held.key, held.version);
        }
    }
    match two_person.filter(|_| people.len() < 2) {
        Some(zone) => Ok(Err(Fallen::Alone(zone))),
        None => Ok(Ok(txn)),
    }
}
