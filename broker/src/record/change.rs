//! Changes that wait for a second person.

use policy::digest::Digest;
use policy::id::ZoneName;
use policy::time::UnixTime;
use serde::{Deserialize, Serialize};

use super::plant::AdminRole;
use crate::store::record::Record;

/// Prefix of [`Change`].
pub const CHANGE: &str = "change/";

/// A change that somebody asked for and nobody carried out yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its id: 16 hex digits.
    pub id: String,
    /// The act, by its name.
    pub act: String,
    /// The blob with the request, as it came.
    pub request: Digest,
    /// The blob with its [`Basis`].
    pub basis: Digest,
    /// Who asks for it.
    pub by: String,
    /// Since when they are an administrator: another one of the same name did not ask.
    pub since: UnixTime,
    /// The role in which they ask.
    pub role: AdminRole,
    /// When they asked.
    pub asked: UnixTime,
    /// When it ends.
    pub expires: UnixTime,
    /// What it would be done to.
    pub subject: String,
    /// What would come of it, for people.
    pub text: String,
}

impl Record for Change {
    const VERSION: u32 = 1;
    const KIND: &'static str = "change that waits";
}

/// What a change touches and rests on, as of when it was asked for. It may be long, so it is a blob.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The zones that it touches.
    pub zones: Vec<ZoneName>,
    /// Store keys that only people change, and the revision that last wrote each.
    pub rests_on: Vec<(String, u64)>,
}

/// Key of the change `id`.
#[must_use]
pub fn change_key(id: &str) -> String {
    format!("{CHANGE}{id}")
}
