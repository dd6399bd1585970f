//! Seals the chains: every few seconds while something was written, at stop, and whenever one is asked for.
//!
//! The newest seal covers everything before it, so older ones prove only when; one in so many of them is kept.
//! A seal is not an event: it would itself want to be sealed.

use std::sync::Arc;
use std::time::Duration;

use policy::audit::{ChainHead, Seal, SignedSeal};

use super::chains;
use super::key::AuditKey;
use crate::metrics::Signed;
use crate::plant::Plant;
use crate::record::audit::{SEAL, seal_key};
use crate::record::{Held, fetch, stored};
use crate::session::Refusal;
use crate::store::{Txn, TxnError};

/// How often the chains are sealed while something is written.
const EVERY: Duration = Duration::from_secs(10);
/// Of older seals, each with a number that this divides is kept: one an hour at most, some 20 MB in a year.
const KEEP: u64 = 360;
/// How often a seal is made anew when another broker was faster.
const ATTEMPTS: usize = 5;

/// Seals and flushes counted refusals and grants, for ever.
pub(crate) async fn regularly(plant: Arc<Plant>) {
    loop {
        tokio::time::sleep(EVERY).await;
        once(&plant).await;
    }
}

/// The same, once: regularly, and when the broker stops.
pub(crate) async fn once(plant: &Plant) {
    plant.refusals.flush(plant).await;
    plant.grants.flush(plant).await;
    if let Err(error) = newest(plant).await {
        tracing::error!(%error, "the audit could not be sealed; it is tried again");
    }
}

/// The seal of everything that is on record now; a new one if there is something new.
pub async fn newest(plant: &Plant) -> Result<SignedSeal, Refusal> {
    make(plant, None).await
}

/// What a seal says.
pub fn read(signed: &SignedSeal) -> Result<Seal, Refusal> {
    serde_json::from_str(&signed.payload).map_err(Refusal::internal)
}

/// A seal of now. `archived` says that the chains begin after other records than before.
pub(super) async fn make(plant: &Plant, archived: Option<&[ChainHead]>) -> Result<SignedSeal, Refusal> {
    for _ in 0..ATTEMPTS {
        let key = AuditKey::open(plant).await?;
        let held: Option<Held<SignedSeal>> = fetch(plant.store.as_ref(), SEAL.to_owned()).await?;
        let last = held.as_ref().map(|held| read(&held.record)).transpose()?;
        let (epoch, heads) = (plant.keys.load().epoch, chains::heads(plant).await?);
        if let (Some(held), Some(last)) = (&held, &last)
            && archived.is_none()
            && (last.epoch, &last.heads) == (epoch, &heads)
        {
            return Ok(held.record.clone());
        }
        let seal = Seal {
            plant: plant.domain(),
            epoch,
            number: last.as_ref().map_or(0, |last| last.number).saturating_add(1),
            at: plant.now(),
            heads,
            archived: archived
                .map_or_else(|| last.map(|last| last.archived).unwrap_or_default(), <[_]>::to_vec),
        };
        let signed = plant.metrics.signing(Signed::Seal, || key.sign(&seal))?;
        match plant.store.transact(replacing(held, seal.number, &signed)?).await {
            Ok(_) => return Ok(signed),
            Err(TxnError::Conflict { .. }) => {}
            Err(error) => return Err(Refusal::internal(error)),
        }
    }
    Err(Refusal::TryLater { why: "other brokers seal the audit at this moment".to_owned(), seconds: 10 })
}

fn replacing(held: Option<Held<SignedSeal>>, number: u64, signed: &SignedSeal) -> Result<Txn, Refusal> {
    let txn = Txn::new().put(SEAL, stored(signed)?);
    let Some(held) = held else { return Ok(txn.absent(SEAL)) };
    let txn = txn.unchanged(SEAL, held.version);
    let before = number.saturating_sub(1);
    Ok(if before.is_multiple_of(KEEP) { txn.put(seal_key(before), stored(&held.record)?) } else { txn })
}
