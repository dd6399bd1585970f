//! How far an administrator reaches: what they are limited to, and the proof that an act stays within it.
//!
//! ```text
//! Actor  -- reach(zones that it touches) -->  Reach  -- deed(what was done) -->  Deed  -->  commit
//! ```
//!
//! A change is committed with a [`Deed`] and with nothing else, so no verb can forget to say which zones it
//! touches. A device, a conduit or a product may touch several: all of them must be theirs. What touches no zone
//! is the plant's, and needs an administrator who is not limited. Seeing is wider: one zone of a thing suffices.

use std::collections::BTreeSet;

use policy::id::ZoneName;
use policy::time::UnixTime;
use policy::zone::Zone;

use super::actor::{Actor, Demand};
use super::people::Hands;
use crate::audit::Event;
use crate::plant::Plant;
use crate::record::plant::Administrator;
use crate::record::zone::zone_key;
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::store::Revision;

/// Zones that a refusal names; the rest is counted.
const MAX_NAMED: usize = 8;

/// What an administrator is limited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: the whole plant is theirs.
    Plant,
    /// These zones.
    Zones(BTreeSet<ZoneName>),
}

impl Scope {
    /// The scope that a record states.
    #[must_use]
    pub fn of(administrator: &Administrator) -> Self {
        administrator.zones.clone().map_or(Self::Plant, Self::Zones)
    }

    /// Whether something in `zones` is shown: one of them is theirs.
    #[must_use]
    pub fn sees(&self, zones: &[ZoneName]) -> bool {
        match self {
            Self::Plant => true,
            Self::Zones(theirs) => zones.iter().any(|zone| theirs.contains(zone)),
        }
    }

    /// Whether all of `zones` are theirs; what is in no zone is the plant's.
    #[must_use]
    pub fn covers(&self, zones: &[ZoneName]) -> bool {
        match self {
            Self::Plant => true,
            Self::Zones(theirs) => !zones.is_empty() && zones.iter().all(|zone| theirs.contains(zone)),
        }
    }

    /// ` in your zones (a, b)`, for refusals of things that may exist elsewhere; nothing for the whole plant.
    #[must_use]
    pub fn phrase(&self) -> String {
        match self {
            Self::Plant => String::new(),
            Self::Zones(theirs) => format!(" in your zones ({})", named(theirs.iter())),
        }
    }
}

fn named<'a>(zones: impl Iterator<Item = &'a ZoneName>) -> String {
    let all: Vec<&str> = zones.map(ZoneName::as_str).collect();
    match all.get(MAX_NAMED..) {
        Some(more) if !more.is_empty() => {
            let shown: Vec<&str> = all.iter().take(MAX_NAMED).copied().collect();
            format!("{} and {} more", shown.join(", "), more.len())
        }
        _ => all.join(", "),
    }
}

/// The zones that an act touches, all of them within the reach of whoever does it. Only [`Actor::reach`] makes it.
#[derive(Debug, Clone)]
pub struct Reach {
    actor: Actor,
    zones: Vec<ZoneName>,
    versions: Vec<(String, Revision)>,
    waits: bool,
}

impl Actor {
    /// The proof that this actor may touch `zones`, every zone that the act touches. An act that touches none
    /// touches the plant.
    pub async fn reach(&self, plant: &Plant, zones: &[ZoneName]) -> Result<Reach, Refusal> {
        let zones: Vec<ZoneName> = zones.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        self.within(self.name(), self.scope(), &zones)?;
        if let Some(second) = self.second() {
            self.within(second.name(), second.scope(), &zones)?;
        }
        let (mut versions, mut asks) = (Vec::new(), false);
        for zone in zones.iter().filter(|_| self.act().demand().asks_zones()) {
            let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(zone)).await?;
            if let Some(held) = held {
                asks |= held.record.two_person;
                versions.push((held.key, held.version));
            }
        }
        if self.act().demand() == Demand::ByOwners {
            asks |= Hands::read(plant).await?.have_two_owners();
        }
        let waits = self.act().demand().waits(asks);
        Ok(Reach { actor: self.clone(), zones, versions, waits })
    }

    /// The reach over oneself, which touches neither zone nor plant.
    pub(super) fn reach_self(&self) -> Reach {
        Reach { actor: self.clone(), zones: Vec::new(), versions: Vec::new(), waits: false }
    }

    fn within(&self, name: &str, scope: &Scope, zones: &[ZoneName]) -> Result<(), Refusal> {
        let Scope::Zones(theirs) = scope else { return Ok(()) };
        if scope.covers(zones) {
            return Ok(());
        }
        let beyond = zones.iter().filter(|zone| !theirs.contains(zone));
        let what = match zones {
            [] => "the whole plant".to_owned(),
            _ => format!("zone {}", named(beyond)),
        };
        Err(Refusal::NotPermitted(format!(
            "{} touches {what}; {name} is limited to {}",
            self.act().name(),
            named(theirs.iter())
        )))
    }
}

impl Reach {
    /// The same for an act that takes a right from an owner: it needs two people.
    pub(super) const fn of_owner(mut self) -> Self {
        self.waits = true;
        self
    }

    /// What was done, and what came of it, for people.
    #[must_use]
    pub fn deed(&self, subject: &str, text: &str) -> Deed {
        Deed { reach: self.clone(), done: vec![(subject.to_owned(), text.to_owned())] }
    }

    /// The event of an act that is written without a [`Deed`], because it is no transaction: backup and restore.
    pub(super) fn event(&self, now: UnixTime, subject: &str, text: &str) -> Event {
        Event::new(now, self.actor.name(), self.actor.act().name(), subject, text)
    }

    pub(super) const fn actor(&self) -> &Actor {
        &self.actor
    }

    pub(super) fn zones(&self) -> &[ZoneName] {
        &self.zones
    }

    /// The zones' records as they were read.
    pub(super) fn versions(&self) -> &[(String, Revision)] {
        &self.versions
    }

    /// Whether it waits for a second person.
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }
}

/// What an act does to what, as the audit chain and a second person read it.
#[derive(Debug, Clone)]
pub struct Deed {
    reach: Reach,
    done: Vec<(String, String)>,
}

impl Deed {
    /// The deed with one thing more that it does.
    #[must_use]
    pub fn and(mut self, subject: &str, text: &str) -> Self {
        self.done.push((subject.to_owned(), text.to_owned()));
        self
    }

    pub(super) const fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Subject and text of each thing it does; never empty.
    pub(super) fn done(&self) -> &[(String, String)] {
        &self.done
    }
}
