//! Join tokens where they are used: the proof of the secret, the zones as they are now, and whoever made it.

use aws_lc_rs::hmac;
use policy::id::ZoneName;
use policy::zone::Zone;

use super::Refusal;
use super::proof::Proven;
use super::statement::TokenProof;
use crate::admin::Act;
use crate::admin::stand::{Fallen, stand};
use crate::plant::Plant;
use crate::record::device::Token;
use crate::record::zone::zone_key;
use crate::record::{Held, fetch};
use crate::store::Txn;

pub(super) fn bad_token() -> Refusal {
    Refusal::NotAdmitted(
        "the join token is unknown, used, expired, or for another TPM; ask the administrator for a new one"
            .into(),
    )
}

/// Whether the device knows the token's secret, which opens to nobody else, and the token still holds.
pub(super) fn valid(
    plant: &Plant,
    proven: &Proven,
    ek_name: &[u8],
    token: &TokenProof,
    held: &Held<Token>,
) -> bool {
    let record = &held.record;
    let Ok(secret) = plant.kek.open(held.key.as_bytes(), &record.wrapped_secret.0) else { return false };
    let mut message = proven.sealed().to_vec();
    message.extend_from_slice(ek_name);
    message.extend_from_slice(&proven.challenge().ak_name.0);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    hmac::verify(&key, &message, &token.proof).is_ok()
        && plant.now() <= record.expires
        && record.epoch == plant.keys.load().epoch
        && record.ek.is_none_or(|ek| ek == *proven.ek())
}

/// The transaction that uses up a token that is [`valid`], if whoever made it may still let devices into its zones.
pub(super) async fn used(plant: &Plant, held: &Held<Token>) -> Result<Txn, Refusal> {
    let Held { key, version, record } = held;
    match stand(plant, Act::CreateToken, &record.people(), &record.zones).await? {
        Ok(rests_on) => Ok(rests_on.unchanged(key.clone(), *version).delete(key.clone())),
        Err(Fallen::NoZone(zone)) => Err(no_zone(&zone)),
        Err(Fallen::Person(name, zone)) => Err(Refusal::NotAdmitted(format!(
            "the join token was made by {name}, who may not let devices into {zone} any more; ask the administrator \
             for a new one"
        ))),
        Err(Fallen::Alone(zone)) => Err(Refusal::NotAdmitted(format!(
            "the join token was made by {} alone, and zone {zone} asks for two people now; ask the administrator for \
             a new one",
            record.by
        ))),
    }
}

/// The zone that a token admits to. It may have been removed since: a later one of that name is another.
pub(super) async fn token_zone(plant: &Plant, name: &ZoneName) -> Result<Held<Zone>, Refusal> {
    let held: Option<Held<Zone>> = fetch(plant.store.as_ref(), zone_key(name)).await?;
    held.ok_or_else(|| no_zone(name))
}

fn no_zone(name: &ZoneName) -> Refusal {
    Refusal::NotAdmitted(format!(
        "zone {name} does not exist any more; ask the administrator for a join token to another"
    ))
}

/// Whether every zone lets tokens in that are bound to no TPM; what follows holds only of the zones as they are now.
pub(super) async fn all_admit(
    plant: &Plant,
    zones: &[ZoneName],
    mut txn: Txn,
) -> Result<(bool, Txn), Refusal> {
    let mut all = true;
    for name in zones {
        let zone = token_zone(plant, name).await?;
        all &= zone.record.token_admits;
        txn = txn.unchanged(zone.key, zone.version);
    }
    Ok((all, txn))
}
