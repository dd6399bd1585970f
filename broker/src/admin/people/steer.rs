//! Removes administrators, gives them another role, renews their certificates.

use policy::digest::Digest;
use policy::id::ZoneName;
use policy::time::{UnixTime, Validity};

use super::{BACKDATE, LIFETIME, described, known, limits, touched};
use crate::admin::Actor;
use crate::admin::change::{Draft, commit};
use crate::ca::profile;
use crate::metrics::CertificateKind;
use crate::plant::Plant;
use crate::record::plant::{ADMIN, AdminRole, Administrator, admin_key};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::store::Txn;

/// Longest public key: one of P-256 has 91 bytes.
const MAX_PUBLIC_KEY: usize = 256;

/// Removes the administrator `name`. Their next call is refused, on an open connection too.
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
    let txn = Txn::new().unchanged(key.clone(), version).delete(key);
    let txn = owner_left(plant, &record, txn).await?;
    let text = format!("removed; was {}", described(record.role, record.zones.as_ref()));
    Ok(Draft::unless(dry_run, record, txn, reach.deed(name, &text)))
}

/// Gives the administrator `name` another role and other limits.
pub async fn set(
    plant: &Plant,
    actor: &Actor,
    name: &str,
    (role, zones): (AdminRole, &[ZoneName]),
    dry_run: bool,
) -> Result<Administrator, Refusal> {
    commit(plant, || change(plant, actor, name, (role, zones), dry_run)).await
}

async fn change(
    plant: &Plant,
    actor: &Actor,
    name: &str,
    (role, zones): (AdminRole, &[ZoneName]),
    dry_run: bool,
) -> Result<Draft<Administrator>, Refusal> {
    let Held { key, version, record } = known(plant, name).await?;
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
        return Ok(Draft::nothing(record));
    }
    let text = format!(
        "is {} now; was {}",
        described(role, limits.as_ref()),
        described(record.role, record.zones.as_ref())
    );
    let mut txn = Txn::new().unchanged(key.clone(), version);
    if role != AdminRole::Owner {
        txn = owner_left(plant, &record, txn).await?;
    }
    let changed = Administrator { role, zones: limits, let_in_by, ..record };
    let txn = txn.put(key, stored(&changed)?);
    Ok(Draft::unless(dry_run, changed, txn, reach.deed(name, &text)))
}

/// The transaction, if an owner is left without `leaving`; it expects that this one still is.
async fn owner_left(plant: &Plant, leaving: &Administrator, txn: Txn) -> Result<Txn, Refusal> {
    if leaving.role != AdminRole::Owner {
        return Ok(txn);
    }
    let (all, now): (Vec<Held<Administrator>>, UnixTime) =
        (list(plant.store.as_ref(), ADMIN).await?, plant.now());
    let other = all.into_iter().find(|held| {
        let record = &held.record;
        record.role == AdminRole::Owner && record.name != leaving.name && record.not_after > now
    });
    let other = other.ok_or_else(|| {
        Refusal::Conflict(format!(
            "{} is the last owner; invite another one first, so that somebody can administer the plant",
            leaving.name
        ))
    })?;
    Ok(txn.unchanged(other.key, other.version))
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
