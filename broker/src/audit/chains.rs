//! Reads the chains: each broker's records, over its starts, in the order they were written.

use std::collections::BTreeMap;

use policy::audit::{AuditRecord, ChainHead};

use crate::plant::Plant;
use crate::session::Refusal;
use crate::store::{AUDIT_PREFIX, audit_key};

/// Highest number of a record: 20 digits fit a `u64`.
const MAX_SEQUENCE: u64 = u64::MAX >> 1;

/// What each broker wrote as, in the order of its starts.
pub async fn writers(plant: &Plant) -> Result<BTreeMap<String, Vec<String>>, Refusal> {
    let mut brokers: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    let mut after: Option<String> = None;
    while let Some((found, _)) = plant.store.scan(AUDIT_PREFIX, after.as_deref(), 1).await?.pop() {
        let rest = found.strip_prefix(AUDIT_PREFIX).unwrap_or_default();
        let Some((writer, _)) = rest.split_once('/') else { break };
        // Above every digit: the next writer follows.
        after = Some(format!("{AUDIT_PREFIX}{writer}/~"));
        if let Some((broker, start)) = writer.rsplit_once('.')
            && let Ok(start) = start.parse()
        {
            brokers.entry(broker.to_owned()).or_default().push((start, writer.to_owned()));
        }
    }
    let in_order = |(broker, mut starts): (String, Vec<(u64, String)>)| {
        starts.sort_unstable();
        (broker, starts.into_iter().map(|(_, writer)| writer).collect())
    };
    Ok(brokers.into_iter().map(in_order).collect())
}

/// Number of the last record of `writer`, 0 if there is none.
pub async fn last(plant: &Plant, writer: &str) -> Result<u64, Refusal> {
    let prefix = format!("{AUDIT_PREFIX}{writer}/");
    let (mut low, mut high) = (0, MAX_SEQUENCE);
    while low < high {
        let middle = low + (high - low) / 2;
        let later = plant.store.scan(&prefix, Some(&audit_key(writer, middle)), 1).await?;
        if later.is_empty() { high = middle } else { low = middle.saturating_add(1) }
    }
    Ok(low)
}

/// The last record of each broker.
pub async fn heads(plant: &Plant) -> Result<Vec<ChainHead>, Refusal> {
    let mut heads = Vec::new();
    for writer in writers(plant).await?.into_values().filter_map(|writers| writers.into_iter().last()) {
        let key = audit_key(&writer, last(plant, &writer).await?);
        let Some(found) = plant.store.get(&key).await? else { continue };
        let record = AuditRecord::parse(&found.value).map_err(Refusal::internal)?;
        heads.push(record.head(&found.value));
    }
    Ok(heads)
}

/// Up to `limit` stored records of `writer` after the one with this number, with their numbers.
pub async fn page(
    plant: &Plant,
    writer: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Vec<u8>)>, Refusal> {
    let prefix = format!("{AUDIT_PREFIX}{writer}/");
    let found = plant.store.scan(&prefix, Some(&audit_key(writer, after)), limit).await?;
    let numbered = found.into_iter().map(|(key, found)| {
        let number = key.strip_prefix(&prefix).and_then(|number| number.parse().ok());
        number
            .map(|number| (number, found.value))
            .ok_or_else(|| Refusal::internal(format!("store key {key}")))
    });
    numbered.collect()
}
