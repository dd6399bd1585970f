//! Administrators: invited by an owner, each with a role and the zones they are limited to.
//!
//! Promises: nobody changes their own role; an owner is left after every change, and goes by themselves or with the word
//! of two others; whoever was removed is refused by the next call, on open connections too, and what they asked for or
//! invited is void; one owner alone makes no second person for a change (`Hands`).

pub mod accept;
mod hands;
mod invite;
mod owners;
mod steer;
mod view;

pub(super) use self::hands::Hands;
pub use self::invite::{Invited, Wanted, invite};
pub use self::steer::{Steering, remove, renew, set};
pub use self::view::{Known, all};

use std::collections::BTreeSet;

use policy::id::ZoneName;

use super::device::no_zone;
use crate::plant::Plant;
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::trust;

/// How long an administrator's certificate lives, in seconds: a year.
pub const LIFETIME: u64 = 365 * 86_400;
/// A day back, for machines whose clocks run late.
pub const BACKDATE: u64 = 86_400;
/// Most administrators and invitations.
const MAX_PEOPLE: usize = 500;
/// Most zones that one administrator is limited to: the record has at most 4 KiB.
const MAX_ZONES: usize = 50;
/// Longest name.
const MAX_NAME: usize = 40;
/// Longest name that is looked up: a common name has at most 64 bytes (X.520).
const MAX_KNOWN_NAME: usize = 64;
/// What the broker itself is called in the audit chain.
const RESERVED: &str = "broker";

/// A name that stands well in certificates, store keys and sentences.
pub(crate) fn proper_name(name: &str) -> Result<&str, Refusal> {
    let proper = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if name.len() > MAX_NAME || !begins || !name.bytes().all(proper) || name == RESERVED {
        return Err(Refusal::malformed(format!(
            "name: write 1 to {MAX_NAME} of a-z, 0-9, `.`, `-`, `_`, beginning with a letter or digit, and not `{RESERVED}`"
        )));
    }
    Ok(name)
}

/// What a role may be limited to: an owner is never limited, and the zones must be there.
async fn limits(
    plant: &Plant,
    role: AdminRole,
    zones: &[ZoneName],
) -> Result<Option<BTreeSet<ZoneName>>, Refusal> {
    if zones.is_empty() {
        return Ok(None);
    }
    if role == AdminRole::Owner {
        return Err(Refusal::malformed("an owner is not limited to zones; leave them out".to_owned()));
    }
    if zones.len() > MAX_ZONES {
        return Err(Refusal::malformed(format!(
            "{} zones; an administrator is limited to at most {MAX_ZONES}, or to none",
            zones.len()
        )));
    }
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    match zones.iter().find(|zone| known.zone(zone).is_none()) {
        Some(missing) => Err(no_zone(missing)),
        None => Ok(Some(zones.iter().cloned().collect())),
    }
}

/// The zones that somebody with these limits reaches: whoever gives them touches all of these.
async fn touched(plant: &Plant, zones: Option<&BTreeSet<ZoneName>>) -> Result<Vec<ZoneName>, Refusal> {
    if let Some(zones) = zones {
        return Ok(zones.iter().cloned().collect());
    }
    let known = trust::segmentation(plant).await.map_err(Refusal::internal)?;
    Ok(known.zones().map(|zone| zone.name.clone()).collect())
}

/// The administrator `name`.
async fn known(plant: &Plant, name: &str) -> Result<Held<Administrator>, Refusal> {
    let unknown = || {
        Refusal::NotFound(format!(
            "there is no administrator {name}; `touchstone admin list` shows who there is"
        ))
    };
    // `init` names the first owner as it was told, so any name that a store key holds may be there.
    if name.is_empty() || name.len() > MAX_KNOWN_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::malformed(
            "name: name an administrator as `touchstone admin list` does".to_owned(),
        ));
    }
    fetch(plant.store.as_ref(), admin_key(name)).await?.ok_or_else(unknown)
}

/// Role and limits in words.
fn described(role: AdminRole, zones: Option<&BTreeSet<ZoneName>>) -> String {
    match zones {
        None => format!("{} of the whole plant", role.name()),
        Some(zones) => {
            let zones: Vec<&str> = zones.iter().map(ZoneName::as_str).collect();
            format!("{} of {}", role.name(), zones.join(", "))
        }
    }
}
