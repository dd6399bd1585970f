//! Invites an administrator: a one-time code, shown once, stored wrapped.

use policy::digest::Digest;
use policy::id::ZoneName;
use policy::time::UnixTime;
use proto::invitation::{Code, ID, SECRET, pin};
use zeroize::{Zeroize, Zeroizing};

use super::{MAX_PEOPLE, described, limits, proper_name, touched};
use crate::admin::Actor;
use crate::admin::change::{Draft, commit};
use crate::plant::Plant;
use crate::ports::random;
use crate::record::invitation::{INVITATION, Invitation, invitation_key};
use crate::record::plant::{ADMIN, AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::store::Txn;

/// Lifetime of an invitation that states none, in seconds: a day.
const LIFETIME: u64 = 86_400;
/// Longest lifetime in seconds: whoever does not come within a month is asked again.
const MAX_LIFETIME: u64 = 30 * 86_400;
/// Expired invitations that are swept with each new one, within the limits of a transaction.
const SWEEP: usize = 50;

/// Who is invited, as what.
#[derive(Debug)]
pub struct Wanted {
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: AdminRole,
    /// The zones they are limited to; empty: the whole plant.
    pub zones: Vec<ZoneName>,
    /// Seconds; 0: a day.
    pub lifetime: u64,
}

/// An invitation. Its code is shown once.
pub struct Invited {
    /// The code; empty for a dry run.
    pub code: Zeroizing<String>,
    /// When it ends.
    pub expires: UnixTime,
}

impl std::fmt::Debug for Invited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invited(until {})", self.expires)
    }
}

/// Invites an administrator, or, for a dry run, says whether that could be done.
pub async fn invite(
    plant: &Plant,
    actor: &Actor,
    wanted: &Wanted,
    dry_run: bool,
) -> Result<Invited, Refusal> {
    proper_name(&wanted.name)?;
    if wanted.lifetime > MAX_LIFETIME {
        return Err(Refusal::malformed(format!(
            "an invitation lives at most {MAX_LIFETIME} s (30 days), not {} s",
            wanted.lifetime
        )));
    }
    commit(plant, || make(plant, actor, wanted, dry_run)).await
}

async fn make(
    plant: &Plant,
    actor: &Actor,
    wanted: &Wanted,
    dry_run: bool,
) -> Result<Draft<Invited>, Refusal> {
    let now = plant.now();
    let zones = limits(plant, wanted.role, &wanted.zones).await?;
    let reach = actor.reach(plant, &touched(plant, zones.as_ref()).await?).await?;
    let admin = admin_key(&wanted.name);
    if fetch::<Administrator>(plant.store.as_ref(), admin.clone()).await?.is_some() {
        return Err(Refusal::Conflict(format!(
            "there is an administrator {} already; choose another name, or `touchstone admin role` for another role",
            wanted.name
        )));
    }
    let mut txn = sweep(plant, &wanted.name, now).await?.absent(admin);
    let mut code = Code {
        id: random::<ID>(plant.entropy.as_ref()).map_err(Refusal::internal)?,
        secret: random::<SECRET>(plant.entropy.as_ref()).map_err(Refusal::internal)?,
        root: pin(&root_pin(plant)?),
        plant: plant.domain(),
    };
    let key = invitation_key(&hex::encode(code.id));
    let wrapped = plant.kek.seal(plant.entropy.as_ref(), key.as_bytes(), &code.secret);
    let lifetime = if wanted.lifetime == 0 { LIFETIME } else { wanted.lifetime };
    let invitation = Invitation {
        name: wanted.name.clone(),
        role: wanted.role,
        zones,
        wrapped_secret: wrapped.map_err(Refusal::internal)?.into(),
        created: now,
        expires: now.plus(lifetime),
        by: actor.name().to_owned(),
        since: actor.since(),
        epoch: plant.keys.load().epoch,
        approved_by: actor.second().map(|second| second.name().to_owned()),
    };
    let text = format!(
        "invited as {} until {}",
        described(wanted.role, invitation.zones.as_ref()),
        invitation.expires
    );
    let shown = if dry_run { String::new() } else { code.reveal() };
    code.secret.zeroize();
    let invited = Invited { code: Zeroizing::new(shown), expires: invitation.expires };
    txn = txn.absent(key.clone()).put(key, stored(&invitation)?);
    Ok(Draft::unless(dry_run, invited, txn, reach.deed(&wanted.name, &text)))
}

fn root_pin(plant: &Plant) -> Result<Digest, Refusal> {
    crate::admin::status::root_pin(&plant.keys.load().root)
        .ok_or_else(|| Refusal::internal("the plant root's certificate cannot be read".to_owned()))
}

/// Removes invitations that expired, and an older one of the same person; refuses when there are too many people.
async fn sweep(plant: &Plant, name: &str, now: UnixTime) -> Result<Txn, Refusal> {
    let all: Vec<Held<Invitation>> = list(plant.store.as_ref(), INVITATION).await?;
    let people: Vec<Held<Administrator>> = list(plant.store.as_ref(), ADMIN).await?;
    let (over, open): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|held| held.record.expires < now || held.record.name == name);
    if people.len().saturating_add(open.len()) >= MAX_PEOPLE {
        return Err(Refusal::Conflict(format!(
            "there are {MAX_PEOPLE} administrators and invitations; remove those that nobody needs"
        )));
    }
    // The older one of the same person goes first: two codes for one name are one too many.
    let (same, expired): (Vec<_>, Vec<_>) = over.into_iter().partition(|held| held.record.name == name);
    let gone = same.into_iter().chain(expired).take(SWEEP);
    Ok(gone.fold(Txn::new(), |txn, held| txn.delete(held.key)))
}
