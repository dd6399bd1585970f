//! Invitations of administrators.

use std::collections::BTreeSet;

use policy::id::ZoneName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::Bytes;
use super::plant::AdminRole;
use crate::store::record::Record;

/// Prefix of [`Invitation`].
pub const INVITATION: &str = "invitation/";

/// An administrator to be. The proof is an HMAC under the secret, so the secret itself is needed; it is stored
/// wrapped, never in clear.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invitation {
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: AdminRole,
    /// The zones they are limited to; none: the whole plant.
    pub zones: Option<BTreeSet<ZoneName>>,
    /// The secret under the KEK.
    pub wrapped_secret: Bytes,
    /// When it was made.
    pub created: UnixTime,
    /// When it ends.
    pub expires: UnixTime,
    /// Who invites.
    pub by: String,
    /// Since when they are an administrator: the invitation ends with them.
    pub since: UnixTime,
    /// Plant epoch it was made in: a restore voids it.
    pub epoch: u64,
    /// The second owner who approved it; none: one owner alone invites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
}

impl Record for Invitation {
    const VERSION: u32 = 1;
    const KIND: &'static str = "invitation";
}

/// Key of the invitation `id`.
#[must_use]
pub fn invitation_key(id: &str) -> String {
    format!("{INVITATION}{id}")
}
