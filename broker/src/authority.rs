//! The two authorities of each zone: made with the zone, opened when they sign.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use policy::id::ZoneName;
use policy::time::{UnixTime, Validity};
use policy::zone::{Role, Zone};

use crate::ca::{AuthorityKey, CaError, Issuer, profile};
use crate::plant::Plant;
use crate::ports::EntropyError;
use crate::record::zone::{AuthorityRecord, AuthorityState, authority_key, authority_prefix};
use crate::record::{Held, RecordError, list};
use crate::secrets::OpenError;

/// How long an authority lives: longer than any plant stays dark, rotated long before.
pub(crate) const LIFETIME: u64 = 10 * 365 * 86_400;

/// An authority cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate library refused.
    #[error("an authority of zone {zone} cannot be used")]
    Ca {
        /// The zone.
        zone: ZoneName,
        /// Why.
        source: CaError,
    },
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The store cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its key does not open.
    #[error(
        "the key {key} does not open under this broker's key-encryption key; put back the `secrets` folder that belongs to this store"
    )]
    Wrapped {
        /// The record's key.
        key: String,
        /// What the cipher said.
        source: OpenError,
    },
    /// A zone without an active authority.
    #[error("zone {0} has no active authority; restore the last backup")]
    None(ZoneName),
}

/// Opened authorities, by record key.
#[derive(Debug, Default)]
pub struct IssuerCache(Mutex<HashMap<String, Arc<Issuer>>>);

impl IssuerCache {
    /// Forgets every key, after a restore.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A new authority of generation `generation`, not stored yet, and first in trust sets of the sequence `published`.
fn prepare(
    plant: &Plant,
    of: &Zone,
    role: Role,
    generation: u32,
    born: Born,
) -> Result<AuthorityRecord, AuthorityError> {
    let Born { state, published, now } = born;
    let zone = &of.name;
    let ca = |source| AuthorityError::Ca { zone: zone.clone(), source };
    let validity = Validity { not_before: now.minus(plant.config.backdate), not_after: now.plus(LIFETIME) };
    let key = AuthorityKey::generate().map_err(ca)?;
    let domain = plant.domain().trust_domain(zone);
    let confined = profile::Confined { constraint: of.name_constraint, subnets: &of.subnets };
    let params = profile::zone_authority(&domain, role, generation, confined, validity, plant.serial()?)
        .map_err(ca)?;
    let certificate = key.self_signed(&params).map_err(ca)?;
    let name = authority_key(zone, role, generation);
    let wrapped_key = plant.kek.seal(plant.entropy.as_ref(), name.as_bytes(), &key.to_pkcs8())?;
    Ok(AuthorityRecord {
        zone: zone.clone(),
        role,
        generation,
        certificate: certificate.into(),
        wrapped_key: wrapped_key.into(),
        not_before: Some(validity.not_before),
        not_after: validity.not_after,
        state,
        since: now,
        published,
        subnets: of.subnets.clone(),
    })
}

/// How a generation begins.
#[derive(Debug, Clone, Copy)]
pub struct Born {
    /// Prepared, or active where no other signs.
    pub state: AuthorityState,
    /// Sequence of the first trust sets that it is in.
    pub published: u64,
    /// When.
    pub now: UnixTime,
}

/// The next generation of a zone's authority, not stored yet, with its key in the store: the number of a
/// generation is used once, also by a zone that is made again under its old name.
pub async fn next_generation(
    plant: &Plant,
    zone: &Zone,
    role: Role,
    born: Born,
) -> Result<(String, AuthorityRecord), AuthorityError> {
    let all: Vec<Held<AuthorityRecord>> =
        list(plant.store.as_ref(), &authority_prefix(&zone.name, role)).await?;
    let generation = all.last().map_or(1, |held| held.record.generation.saturating_add(1));
    Ok((authority_key(&zone.name, role, generation), prepare(plant, zone, role, generation, born)?))
}

/// The authority that signs for this zone and role today.
pub async fn active(
    plant: &Plant,
    zone: &ZoneName,
    role: Role,
) -> Result<Held<AuthorityRecord>, AuthorityError> {
    let all: Vec<Held<AuthorityRecord>> = list(plant.store.as_ref(), &authority_prefix(zone, role)).await?;
    all.into_iter()
        .rev()
        .find(|held| held.record.state == AuthorityState::Active)
        .ok_or_else(|| AuthorityError::None(zone.clone()))
}

/// The authority's key, opened once and kept.
pub fn issuer(plant: &Plant, held: &Held<AuthorityRecord>) -> Result<Arc<Issuer>, AuthorityError> {
    let mut cache = plant.issuers.0.lock().unwrap_or_else(PoisonError::into_inner);
    // After a restore another authority may have this name.
    let known = cache.get(&held.key).filter(|issuer| issuer.certificate() == held.record.certificate.0);
    if let Some(issuer) = known {
        return Ok(Arc::clone(issuer));
    }
    let ca = |source| AuthorityError::Ca { zone: held.record.zone.clone(), source };
    let wrapped = |source| AuthorityError::Wrapped { key: held.key.clone(), source };
    let key = plant.kek.open(held.key.as_bytes(), &held.record.wrapped_key.0).map_err(wrapped)?;
    let key = AuthorityKey::from_pkcs8(&key).map_err(ca)?;
    let issuer = Issuer::new(held.record.certificate.0.clone(), held.record.not_after, key).map_err(ca)?;
    let issuer = Arc::new(issuer);
    cache.insert(held.key.clone(), Arc::clone(&issuer));
    Ok(issuer)
}
