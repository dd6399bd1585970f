//! Removes administrators, gives them another role, renews their certificates.

use policy::digest::Digest;
use policy::id::ZoneName;
use policy::time::{UnixTime, Validity};

use super::owners::{loses_a_right, owner_left};
use super::{BACKDATE, LIFETIME, described, known, limits, touched};
use crate::admin::Actor;
use crate::admin::change::{Draft, Seen, commit};
use crate::ca::profile;
use crate::metrics::CertificateKind;
use crate::plant::Plant;
use crate::record::plant::{AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::Txn;

/// Longest public key: one of P-256 has 91 bytes.
const MAX_PUBLIC_KEY: usize = 256;

/// Removes the administrator `name`. Their next call is refused, on an open connection too. Another owner goes with the
/// word of two.
pub async fn remove(
    plant: &Plant,
    actor: &Actor,
    name: &str,
    dry_run: bool,
) -> Result<Administrator, Refusal> {
    commit(plant, || take_out(plant, actor, name, dry_run)).await
}

async fn take_out(
    plant: &Plant,
    actor: &Actor,
    name: &str,
    dry_run: bool,
) -> Result<Draft<Administrator>, Refusal> {
    let Held { key, version, record } = known(plant, name).await?;
    let reach = actor.reach(plant, &touched(plant, record.zones.as_ref()).await?).await?;
    let reach = if loses_a_right(plant, actor, &record).await? { reach.of_owner() } else { reach };
    let txn = Txn::new().unchanged(key.clone(), version).delete(key);
    let txn = owner_left(plant, &record, txn).await?;
    let text = format!("removed; was {}", described(record.role, record.zones.as_ref()));
    Ok(Draft::unless(dry_run, record, txn, reach.deed(name, &text)))
}

/// Another role and other limits.
#[derive(Debug)]
pub struct Steering {
    /// What they may do.
    pub role: AdminRole,
    /// The zones they are limited to; empty: the whole plant.
    pub zones: Vec<ZoneName>,
    /// What the caller saw of them.
    pub seen: Option<Seen>,
    /// Only say what it would do.
    pub dry_run: bool,
}

/// Gives the administrator `name` another role and other limits. Answers with what there was, too.
pub async fn set(
    plant: &Plant,
    actor: &Actor,
    name: &str,
    wanted: &Steering,
) -> Result<(Administrator, Seen), Refusal> {
    commit(plant, || change(plant, actor, name, wanted)).await
}

async fn change(
    plant: &Plant,
    actor: &Actor,
    name: &str,
    wanted: &Steering,
) -> Result<Draft<(Administrator, Seen)>, Refusal> {
    let (role, zones) = (wanted.role, wanted.zones.as_slice());
    let held = known(plant, name).await?;
    let seen = Seen::of(Some(&held), |record| described(record.role, record.zones.as_ref()), "");
    let what = format!("the administrator {name}");
    seen.expected(wanted.seen.as_ref(), &what, None, "touchstone admin list")?;
    let Held { key, version, record } = held;
    if actor.includes(name) {
        return Err(Refusal::NotPermitted(format!(
            "nobody changes their own role; another owner can change that of {name}"
        )));
    }
    let limits = limits(plant, role, zones).await?;
    let before = touched(plant, record.zones.as_ref()).await?;
    let after = touched(plant, limits.as_ref()).await?;
    let reach = actor.reach(plant, &[before, after].concat()).await?;
    // Two owners stand for them from now on, whoever let them in.
    let let_in_by = record.let_in_by.clone().filter(|_| actor.second().is_none());
    let confirms = record.let_in_by.is_some() && reach.waits();
    if record.role == role && record.zones == limits && !confirms {
        return Ok(Draft::nothing((record, seen)));
    }
    let text = format!(
        "is {} now; was {}",
        described(role, limits.as_ref()),
        described(record.role, record.zones.as_ref())
    );
    let mut txn = Txn::new().unchanged(key.clone(), version);
    if role != AdminRole::Owner {
        loses_a_right(plant, actor, &record).await?;
        txn = owner_left(plant, &record, txn).await?;
    }
    let changed = Administrator { role, zones: limits, let_in_by, ..record };
    let txn = txn.put(key, stored(&changed)?);
    Ok(Draft::unless(wanted.dry_run, (changed, seen), txn, reach.deed(name, &text)))
}

/// A new certificate for the key of `actor`, whose connection has proven it. Leaf first, with its end.
pub async fn renew(
    plant: &Plant,
    actor: &Actor,
    public_key: &[u8],
) -> Result<(Vec<Vec<u8>>, UnixTime), Refusal> {
    if public_key.len() > MAX_PUBLIC_KEY {
        return Err(Refusal::malformed("this is no P-256 key".to_owned()));
    }
    let renewed = commit(plant, || certify(plant, actor, public_key)).await?;
    plant.metrics.issued(CertificateKind::Administrator);
    Ok(renewed)
}

async fn certify(
    plant: &Plant,
    actor: &Actor,
    public_key: &[u8],
) -> Result<Draft<(Vec<Vec<u8>>, UnixTime)>, Refusal> {
    let now = plant.now();
    let held: Option<Held<Administrator>> = fetch(plant.store.as_ref(), admin_key(actor.name())).await?;
    let same = held
        .filter(|held| held.record.created == actor.since() && held.record.spki == Digest::of(public_key));
    let Held { key, version, record } = same.ok_or_else(|| {
        Refusal::NotPermitted(
            "a certificate is renewed for its own key only; send the public key of admin.key".to_owned(),
        )
    })?;
    let keys = plant.keys.load_full();
    let not_after = now.plus(LIFETIME).min(keys.issuing.not_after());
    let validity = Validity { not_before: now.minus(BACKDATE), not_after };
    let serial = plant.serial().map_err(Refusal::internal)?;
    let params = profile::administrator(&keys.domain, &record.name, validity, serial);
    let leaf = keys.issuing.sign_certificate(&params.map_err(Refusal::internal)?, public_key);
    let chain = vec![leaf.map_err(Refusal::internal)?, keys.issuing.certificate().to_vec()];
    let reach = actor.reach_self();
    let text = format!("certificate renewed until {not_after}");
    let deed = reach.deed(actor.name(), &text);
    let txn = Txn::new().unchanged(key.clone(), version);
    let txn = txn.put(key, stored(&Administrator { not_after, ..record })?);
    Ok(Draft::write((chain, not_after), txn, deed))
}
