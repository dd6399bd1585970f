//! How far the audit is sealed.

use policy::audit::{ChainHead, SignedSeal};
use policy::time::UnixTime;
use prometheus_client::registry::Registry;

use super::{one, seconds_to};
use crate::audit::{chains, seal};
use crate::plant::Plant;
use crate::record::audit::SEAL;
use crate::record::{Held, fetch};
use crate::session::Refusal;

pub(super) async fn count(plant: &Plant, now: UnixTime, registry: &mut Registry) -> Result<(), Refusal> {
    let held: Option<Held<SignedSeal>> = fetch(plant.store.as_ref(), SEAL.to_owned()).await?;
    let seal = held.map(|held| seal::read(&held.record)).transpose()?;
    let heads = seal.as_ref().map_or(&[][..], |seal| &seal.heads);
    let records = unsealed(plant, heads).await?;
    let records = i64::try_from(records).unwrap_or(i64::MAX);
    one(registry, "audit_unsealed", "Audit records that no seal covers yet", records);
    if let Some(seal) = &seal {
        let age = seconds_to(now, seal.at);
        one(
            registry,
            "audit_seal_age_seconds",
            "Time since the audit was sealed; it is when there is something new",
            age,
        );
    }
    Ok(())
}

/// Records after `heads`, the last that are sealed of each broker.
async fn unsealed(plant: &Plant, heads: &[ChainHead]) -> Result<u64, Refusal> {
    let mut records = 0_u64;
    for (broker, writers) in chains::writers(plant).await? {
        let sealed = heads.iter().find(|head| head.place().is_some_and(|(of, _)| of == broker));
        for writer in writers.iter().rev() {
            let last = chains::last(plant, writer).await?;
            let Some(sealed) = sealed.filter(|head| head.writer == *writer) else {
                records = records.saturating_add(last);
                continue;
            };
            records = records.saturating_add(last.saturating_sub(sealed.sequence));
            break;
        }
    }
    Ok(records)
}
