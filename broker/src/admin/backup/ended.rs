//! What a plant that is still here ended since its backup was made: a restore brings nothing of it back.
//!
//! Its people are those of now: whoever was removed does not return with an old backup, and no owner returns to a day on
//! which they were the only one. A plant that is lost is restored over one that `init` made, and knows of nothing ended.

use std::collections::BTreeMap;

use policy::reference::state::ReleaseState;

use super::inspect::Inspected;
use crate::plant::Plant;
use crate::record::golden::{RELEASE, ReleaseRecord};
use crate::record::plant::{ADMIN, Administrator, ISSUING, Issuing};
use crate::record::release_key::{RELEASE_KEY, ReleaseKeyRecord};
use crate::record::{Held, RecordError, fetch, list, stored};
use crate::session::Refusal;

/// What counts as it is now, by store key.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The issuing key and the administrators; empty: the backup's count.
    people: BTreeMap<String, Vec<u8>>,
    /// Release keys that sign nothing more, and releases that were withdrawn.
    golden: BTreeMap<String, Vec<u8>>,
}

impl Ended {
    /// What this plant ended, of which the backup is.
    pub(super) async fn of(plant: &Plant, inspected: &Inspected) -> Result<Self, Refusal> {
        let keys: Vec<Held<ReleaseKeyRecord>> = list(plant.store.as_ref(), RELEASE_KEY).await?;
        let keys = keys.iter().filter(|held| !held.record.is_in_force()).map(restored);
        let releases: Vec<Held<ReleaseRecord>> = list(plant.store.as_ref(), RELEASE).await?;
        let releases =
            releases.iter().filter(|held| held.record.state == ReleaseState::Withdrawn).map(restored);
        // An issuing key of the backup that is newer vouches for its own administrators only.
        let people = match plant.keys.load().issuing_number >= inspected.issuing {
            true => people(plant).await?,
            false => BTreeMap::new(),
        };
        Ok(Self { people, golden: keys.chain(releases).collect::<Result<_, _>>()? })
    }

    /// Records that are added whatever the backup has under their keys.
    pub(super) fn added(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.people.iter().map(|(key, value)| (key.clone(), value.clone()))
    }

    /// Whether the backup's record under `key` does not count.
    pub(super) fn replaces(&self, key: &str) -> bool {
        !self.people.is_empty() && (key == ISSUING || key.starts_with(ADMIN))
    }

    /// The record under `key` of the backup as it is now, if it was ended.
    pub(super) fn golden(&self, key: &str) -> Option<&[u8]> {
        self.golden.get(key).map(Vec::as_slice)
    }
}

async fn people(plant: &Plant) -> Result<BTreeMap<String, Vec<u8>>, Refusal> {
    let issuing: Option<Held<Issuing>> = fetch(plant.store.as_ref(), ISSUING.to_owned()).await?;
    let administrators: Vec<Held<Administrator>> = list(plant.store.as_ref(), ADMIN).await?;
    let issuing = issuing.iter().map(restored);
    Ok(issuing.chain(administrators.iter().map(restored)).collect::<Result<_, _>>()?)
}

fn restored<R: crate::store::record::Record>(held: &Held<R>) -> Result<(String, Vec<u8>), RecordError> {
    Ok((held.key.clone(), stored(&held.record)?))
}
