//! Which audit events an administrator sees.

use std::collections::BTreeSet;

use super::Actor;
use super::device::view::{Seen, all};
use super::reach::Scope;
use crate::audit::Event;
use crate::plant::Plant;
use crate::session::Refusal;
use crate::trust;

/// Whose events an administrator sees: all of them, or their own and those of what is in their zones.
#[derive(Debug)]
pub(super) enum Sight {
    /// They are not limited.
    Everything,
    /// Their name, and names that stand for what is in their zones.
    Limited { who: String, subjects: BTreeSet<String> },
}

impl Sight {
    /// What `actor` sees now.
    pub(super) async fn of(plant: &Plant, actor: &Actor) -> Result<Self, Refusal> {
        let Scope::Zones(zones) = actor.scope() else { return Ok(Self::Everything) };
        let mut subjects: BTreeSet<String> = zones.iter().map(ToString::to_string).collect();
        let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
        for seen in all(plant, actor.scope(), &known).await? {
            match seen {
                Seen::Device(view) => subjects.insert(view.device.name.to_string()),
                Seen::Pending(pending) => subjects.insert(pending.ek.to_string()),
            };
        }
        Ok(Self::Limited { who: actor.name().to_owned(), subjects })
    }

    /// Whether an event is in sight.
    pub(super) fn shows(&self, event: &Event) -> bool {
        match self {
            Self::Everything => true,
            // A conduit's subject is `from -> to service`, an authority's `zone/role`: zones stand in them as words.
            Self::Limited { who, subjects } => {
                event.actor == *who
                    || subjects.contains(&event.actor)
                    || event.subject.split([' ', '/']).any(|word| subjects.contains(word))
            }
        }
    }
}
