//! Two people: a change that needs a second person waits, and is carried out in the name of both.
//!
//! ```text
//! commit  --  needs two, one is there -->  a Change is stored, Refusal::Waits names it
//! approve --  the request is decided anew, under today's state, with both people -->  commit
//! ```
//!
//! Promises: nobody approves their own, nor lets in alone who does (`Hands`); the second person has role and reach for the act; both are administrators
//! at that moment; what the change rests on is as it was; it is carried out at most once, in the transaction that
//! removes it. Stopping a machine never waits ([`Act::demand`](super::Act::demand)).

mod approve;
mod ask;
mod join;
mod view;

pub use self::approve::{Approval, approve, finish, may_approve, reject};
pub(super) use self::ask::{settle, wait_if_asked};
pub(super) use self::join::Second;
pub use self::view::{Waiting, all, one};

use policy::time::UnixTime;
use policy::zone::Zone;

use super::actor::{Act, permitted};
use super::people::Hands;
use super::reach::Scope;
use crate::plant::Plant;
use crate::record::plant::{ADMIN, Administrator};
use crate::record::{Held, list};
use crate::session::Refusal;

/// How long a change waits, in seconds: whoever did not approve within a day has to be asked again.
pub const WAITS: u64 = 86_400;

/// Whether a zone may ask for two people: two who can end that must be there, or nobody ever could.
pub(super) async fn enough_people(plant: &Plant, zone: &Zone) -> Result<(), Refusal> {
    let all: Vec<Held<Administrator>> = list(plant.store.as_ref(), ADMIN).await?;
    let zones = [zone.name.clone()];
    let now = plant.now();
    let able = |held: &&Held<Administrator>| {
        let who = &held.record;
        who.not_after > now
            && Scope::of(who).covers(&zones)
            && permitted(&who.name, who.role, Act::SetZone, Act::SetZone.needs()).is_ok()
    };
    let able: Vec<&str> = all.iter().filter(able).map(|held| held.record.name.as_str()).collect();
    if Hands::read(plant).await?.two_of(&able) {
        return Ok(());
    }
    let able = match able.as_slice() {
        [one] => format!("only {one} could approve"),
        several => {
            format!("{} are not two people, as one of them alone let in the others", several.join(", "))
        }
    };
    Err(Refusal::Conflict(format!(
        "zone {} would ask for two people, and {able}; invite a second owner first",
        zone.name
    )))
}

fn is_over(expires: UnixTime, now: UnixTime) -> bool {
    expires <= now
}
