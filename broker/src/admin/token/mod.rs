//! One-time join tokens.
//!
//! The secret is shown once and stored wrapped: its proof is an HMAC, so a hash would not do.

mod open;

pub use self::open::{Open, TokenId, TokenIdError, page, revoke};

use policy::digest::Digest;
use policy::id::{DeviceName, ZoneName};
use policy::time::UnixTime;
use policy::zone::Zone;
use zeroize::Zeroizing;

use super::change::{Draft, commit};
use super::device::{existing_zones, known};
use super::{Actor, stand};
use crate::plant::Plant;
use crate::ports::random;
use crate::record::device::{Device, TOKEN, Token, Tpm, device_key, ek_key, no_ek, token_key};
use crate::record::zone::zone_key;
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::session::vouched::no_machine;
use crate::session::without_tpm::refusal_of;
use crate::store::Txn;

/// Lifetime of a token that states none, in seconds: a day.
const LIFETIME: u64 = 86_400;
/// Longest lifetime in seconds: the boxes of a delivery are installed within a month.
const MAX_LIFETIME: u64 = 30 * 86_400;
/// Tokens that may be open at once.
const MAX_TOKENS: usize = 10_000;
/// Expired tokens that are swept with each new one, within the limits of a transaction.
const SWEEP: usize = 50;

/// What a token allows.
#[derive(Debug)]
pub struct Request {
    /// Zones that it admits to.
    pub zones: Vec<ZoneName>,
    /// Only this TPM may use it.
    pub ek: Option<Digest>,
    /// Name that the device gets.
    pub device: Option<DeviceName>,
    /// Seconds; 0: a day.
    pub lifetime: u64,
    /// It is for a device without a TPM, which is named: a new one, or one that lost its key.
    pub without_tpm: bool,
}

/// A new token. Its text is shown once.
pub struct Created {
    /// `ts1.<id>.<secret>`
    pub text: Zeroizing<String>,
    /// When it ends.
    pub expires: UnixTime,
}

impl std::fmt::Debug for Created {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Created(until {})", self.expires)
    }
}

/// Makes a token.
pub async fn create(plant: &Plant, actor: &Actor, request: &Request) -> Result<Created, Refusal> {
    if request.zones.is_empty() {
        return Err(Refusal::malformed("name the zone that the token admits to".to_owned()));
    }
    if request.lifetime > MAX_LIFETIME {
        return Err(Refusal::malformed(format!(
            "a token lives at most {MAX_LIFETIME} s (30 days), not {} s",
            request.lifetime
        )));
    }
    if request.without_tpm && (request.device.is_none() || request.ek.is_some()) {
        return Err(Refusal::malformed(
            "a device without a TPM has no EK and is known by its name alone; name it with --device"
                .to_owned(),
        ));
    }
    commit(plant, || make(plant, actor, request)).await
}

async fn make(plant: &Plant, actor: &Actor, request: &Request) -> Result<Draft<Created>, Refusal> {
    let now = plant.now();
    let reach = actor.reach(plant, &request.zones).await?;
    let (zones, mut txn) = existing_zones(plant, &request.zones, Txn::new()).await?;
    if let Some(name) = &request.device {
        txn = for_name(plant, actor, name, request.without_tpm, txn).await?;
    }
    if request.without_tpm {
        for zone in &zones {
            txn = takes(plant, zone, txn).await?;
        }
    }
    txn = sweep(plant, txn, now).await?;
    let id = hex::encode(random::<16>(plant.entropy.as_ref()).map_err(Refusal::internal)?);
    let secret = Zeroizing::new(random::<32>(plant.entropy.as_ref()).map_err(Refusal::internal)?);
    let key = token_key(&id);
    let wrapped = plant.kek.seal(plant.entropy.as_ref(), key.as_bytes(), secret.as_slice());
    let lifetime = if request.lifetime == 0 { LIFETIME } else { request.lifetime };
    let token = Token {
        wrapped_secret: wrapped.map_err(Refusal::internal)?.into(),
        zones,
        ek: request.ek,
        device: request.device.clone(),
        expires: now.plus(lifetime),
        by: actor.name().to_owned(),
        people: stand::people(plant, actor).await?,
        epoch: plant.keys.load().epoch,
        made: now,
        without_tpm: request.without_tpm,
    };
    let deed = reach.deed(&id, &allowance(&token));
    let text =
        Zeroizing::new(format!("ts1.{id}.{}", Zeroizing::new(hex::encode(secret.as_slice())).as_str()));
    let created = Created { text, expires: token.expires };
    Ok(Draft::write(created, txn.absent(key.clone()).put(key, stored(&token)?), deed))
}

/// `txn`, if a device may join under `name`: nobody has it, or a device without a TPM that is to get another key.
async fn for_name(
    plant: &Plant,
    actor: &Actor,
    name: &DeviceName,
    without_tpm: bool,
    txn: Txn,
) -> Result<Txn, Refusal> {
    match fetch::<Device>(plant.store.as_ref(), device_key(name)).await? {
        None => {
            let txn = if without_tpm { not_retired(plant, name, txn).await? } else { txn };
            no_machine(plant, name, txn.absent(device_key(name))).await
        }
        Some(held) if without_tpm && !held.record.prover.is_tpm() => {
            let known = known(plant, actor.scope(), name).await?;
            // Whoever lets it join again takes its place in its zones too.
            actor.reach(plant, &known.device.record.zones).await?;
            Ok(txn.unchanged(held.key, held.version))
        }
        Some(_) => Err(Refusal::Conflict(format!("there is a device {name} already; choose another name"))),
    }
}

/// `txn`, if no device without a TPM of this name was retired of which a restored backup does not know.
async fn not_retired(plant: &Plant, name: &DeviceName, txn: Txn) -> Result<Txn, Refusal> {
    let key = ek_key(&no_ek(name));
    match fetch::<Tpm>(plant.store.as_ref(), key.clone()).await? {
        None => Ok(txn.absent(key)),
        Some(held) if held.record.retired => Err(Refusal::Conflict(format!(
            "a device {name} without a TPM was retired or got a TPM before a backup was restored; choose another name"
        ))),
        Some(held) => Ok(txn.unchanged(key, held.version)),
    }
}

/// `txn`, if the zone takes devices without a TPM.
async fn takes(plant: &Plant, name: &ZoneName, txn: Txn) -> Result<Txn, Refusal> {
    let Some(held) = fetch::<Zone>(plant.store.as_ref(), zone_key(name)).await? else { return Ok(txn) };
    match refusal_of(&held.record) {
        None => Ok(txn.unchanged(held.key, held.version)),
        Some(why) => Err(Refusal::Conflict(why)),
    }
}

fn allowance(token: &Token) -> String {
    let zones: Vec<&str> = token.zones.iter().map(ZoneName::as_str).collect();
    let who = token.device.as_ref().map_or_else(|| "one device".to_owned(), ToString::to_string);
    let ek = match token.ek {
        Some(ek) => format!(" with EK {ek}"),
        None if token.without_tpm => " without a TPM".to_owned(),
        None => String::new(),
    };
    format!("{who}{ek} may join {} until {}", zones.join(", "), token.expires)
}

/// Removes tokens that expired; refuses when too many are open.
async fn sweep(plant: &Plant, mut txn: Txn, now: UnixTime) -> Result<Txn, Refusal> {
    let tokens: Vec<Held<Token>> = list(plant.store.as_ref(), TOKEN).await?;
    let (open, expired): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|held| now <= held.record.expires);
    if open.len() >= MAX_TOKENS {
        return Err(Refusal::Conflict(format!(
            "{} join tokens are open, no more are made; wait until some expire",
            open.len()
        )));
    }
    for held in expired.into_iter().take(SWEEP) {
        txn = txn.delete(held.key);
    }
    Ok(txn)
}
