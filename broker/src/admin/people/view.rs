//! Administrators, and who is invited. Everybody sees everybody: who may approve a change is no secret.

use std::collections::BTreeSet;

use policy::id::ZoneName;
use policy::time::UnixTime;

use crate::plant::Plant;
use crate::record::invitation::{INVITATION, Invitation};
use crate::record::plant::{ADMIN, AdminRole, Administrator};
use crate::record::{Held, list};
use crate::session::Refusal;

/// An administrator, or one to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Name.
    pub name: String,
    /// What they may do.
    pub role: AdminRole,
    /// The zones they are limited to; none: the whole plant.
    pub zones: Option<BTreeSet<ZoneName>>,
    /// Since when.
    pub created: UnixTime,
    /// When the certificate ends, or the invitation.
    pub not_after: UnixTime,
    /// Who invited them, as long as they have not come.
    pub invited_by: Option<String>,
    /// The owner who alone let them in.
    pub let_in_by: Option<String>,
}

impl From<Administrator> for Known {
    fn from(record: Administrator) -> Self {
        let Administrator { name, role, created, zones, not_after, let_in_by, .. } = record;
        Self { name, role, zones, created, not_after, invited_by: None, let_in_by }
    }
}

impl From<Invitation> for Known {
    fn from(record: Invitation) -> Self {
        let Invitation { name, role, created, zones, expires, by, approved_by, .. } = record;
        let let_in_by = approved_by.is_none().then(|| by.clone());
        Self { name, role, zones, created, not_after: expires, invited_by: Some(by), let_in_by }
    }
}

/// Every administrator by name, then everybody who is invited.
pub async fn all(plant: &Plant) -> Result<Vec<Known>, Refusal> {
    let now = plant.now();
    let people: Vec<Held<Administrator>> = list(plant.store.as_ref(), ADMIN).await?;
    let invited: Vec<Held<Invitation>> = list(plant.store.as_ref(), INVITATION).await?;
    let invited = invited.into_iter().filter(|held| now < held.record.expires);
    let people = people.into_iter().map(|held| Known::from(held.record));
    Ok(people.chain(invited.map(|held| Known::from(held.record))).collect())
}
