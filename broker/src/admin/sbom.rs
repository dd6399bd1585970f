//! SBOM documents: added, read, taken away. They count for the releases that state their digest, and for nothing else.

use std::collections::BTreeMap;

use policy::digest::Digest;
use policy::reference::ReferenceValues;
use policy::reference::release::ReleaseId;
use policy::reference::state::ReleaseState;
use policy::sbom::{MAX_SBOM_BYTES, Sbom};
use tokio::sync::Semaphore;

use super::Actor;
use super::change::{Draft, commit};
use crate::golden::current;
use crate::plant::Plant;
use crate::record::sbom::{SBOM, SbomRecord, sbom_key};
use crate::record::{Held, fetch, list, stored};
use crate::session::Refusal;
use crate::store::Txn;
use crate::store::blobs::FetchError;
use crate::store::record::decode;

/// Most SBOMs of a plant: with documents of a few MiB each they fill some ten GiB.
const MAX_SBOMS: usize = 4096;
/// Longest subject in characters that is kept: it is shown in a table, in a record of at most 4 KiB.
const MAX_SUBJECT: usize = 200;
/// SBOMs on one page.
const PAGE: usize = 500;

/// Documents that are read at once: each takes some hundred MiB at worst.
pub(super) static READERS: Semaphore = Semaphore::const_new(1);

/// An SBOM with the releases that state it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The record.
    pub record: SbomRecord,
    /// The releases.
    pub releases: Vec<ReleaseId>,
}

/// Adds the document `bytes`; says whether it was there already.
pub async fn add(
    plant: &Plant,
    actor: &Actor,
    bytes: Vec<u8>,
    dry_run: bool,
) -> Result<(Kept, bool), Refusal> {
    let reach = actor.reach(plant, &[]).await?;
    let (bytes, sbom) = read(bytes).await?;
    let document = Digest::of(&bytes);
    let record = SbomRecord {
        document,
        format: sbom.format,
        spec_version: sbom.spec_version,
        subject: sbom.subject.chars().filter(|c| !c.is_control()).take(MAX_SUBJECT).collect(),
        components: u32::try_from(sbom.components.len()).unwrap_or(u32::MAX),
        size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        added_at: plant.now(),
        added_by: actor.name().to_owned(),
    };
    if !dry_run {
        // The blob first, then the record that names it. A document that was damaged is mended by this.
        plant.blobs.put(bytes).await.map_err(Refusal::internal)?;
    }
    let text = format!("added, {} with {} components: {}", record.format, record.components, record.subject);
    let deed = reach.deed(&document.to_string(), &text);
    let decide = || async {
        let releases = naming(plant).await?.remove(&document).unwrap_or_default();
        let key = sbom_key(&document);
        if let Some(known) = fetch::<SbomRecord>(plant.store.as_ref(), key.clone()).await? {
            return Ok(Draft::nothing((Kept { record: known.record, releases }, true)));
        }
        let all: Vec<Held<SbomRecord>> = list(plant.store.as_ref(), SBOM).await?;
        if all.len() >= MAX_SBOMS {
            return Err(Refusal::Conflict(format!(
                "there are {MAX_SBOMS} SBOMs; remove those of retired releases with `touchstone sbom remove`"
            )));
        }
        let txn = Txn::new().absent(key.clone()).put(key, stored(&record)?);
        Ok(Draft::unless(dry_run, (Kept { record: record.clone(), releases }, false), txn, deed.clone()))
    };
    commit(plant, decide).await
}

/// Reads a document on a thread of its own: it may take a second.
async fn read(bytes: Vec<u8>) -> Result<(Vec<u8>, Sbom), Refusal> {
    let _place = READERS.acquire().await.map_err(Refusal::internal)?;
    let work = tokio::task::spawn_blocking(move || {
        let sbom = Sbom::parse(&bytes);
        (bytes, sbom)
    });
    let (bytes, sbom) = work.await.map_err(Refusal::internal)?;
    Ok((bytes, sbom.map_err(|error| Refusal::malformed(error.to_string()))?))
}

/// The releases that state each SBOM.
async fn naming(plant: &Plant) -> Result<BTreeMap<Digest, Vec<ReleaseId>>, Refusal> {
    Ok(named_by(&current(plant).await.map_err(Refusal::internal)?.values))
}

fn named_by(values: &ReferenceValues) -> BTreeMap<Digest, Vec<ReleaseId>> {
    let mut naming: BTreeMap<Digest, Vec<ReleaseId>> = BTreeMap::new();
    for release in values.iter() {
        for sbom in release.signed().manifest().sboms() {
            naming.entry(sbom.digest).or_default().push(release.signed().id().clone());
        }
    }
    naming
}

/// One page of SBOMs by digest, and where the next one begins.
pub async fn page(plant: &Plant, after: Option<Digest>) -> Result<(Vec<Kept>, Option<Digest>), Refusal> {
    let naming = naming(plant).await?;
    let after = after.map(|digest| sbom_key(&digest));
    let found = plant.store.scan(SBOM, after.as_deref(), PAGE).await?;
    let full = found.len() >= PAGE;
    let mut page = Vec::new();
    for (key, value) in found {
        let record: SbomRecord = decode(&key, &value.value).map_err(Refusal::internal)?;
        let releases = naming.get(&record.document).cloned().unwrap_or_default();
        page.push(Kept { record, releases });
    }
    let next = page.last().filter(|_| full).map(|kept| kept.record.document);
    Ok((page, next))
}

/// One SBOM and its document.
pub async fn one(plant: &Plant, digest: Digest) -> Result<(Kept, Vec<u8>), Refusal> {
    let held = held(plant, digest).await?;
    let releases = naming(plant).await?.remove(&digest).unwrap_or_default();
    let document = plant.blobs.fetch(digest, MAX_SBOM_BYTES).await.map_err(|error| match error {
        FetchError::Missing { .. } | FetchError::Altered { .. } => Refusal::NotFound(format!(
            "the document of {digest} is gone or damaged; add it again with `touchstone sbom add`"
        )),
        other => Refusal::internal(other),
    })?;
    Ok((Kept { record: held.record, releases }, document))
}

async fn held(plant: &Plant, digest: Digest) -> Result<Held<SbomRecord>, Refusal> {
    fetch(plant.store.as_ref(), sbom_key(&digest)).await?.ok_or_else(|| {
        Refusal::NotFound(format!("there is no SBOM {digest}; `touchstone sbom list` shows what there is"))
    })
}

/// Takes an SBOM away that no release in use states; the sweep removes the document.
pub async fn remove(plant: &Plant, actor: &Actor, digest: Digest, dry_run: bool) -> Result<Kept, Refusal> {
    let decide = || async {
        let reach = actor.reach(plant, &[]).await?;
        let held = held(plant, digest).await?;
        let golden = current(plant).await.map_err(Refusal::internal)?;
        let releases = named_by(&golden.values).remove(&digest).unwrap_or_default();
        let used = |id: &&ReleaseId| {
            let state = golden.values.release(id).map(policy::reference::Release::state);
            !matches!(state, Some(ReleaseState::Retired | ReleaseState::Withdrawn))
        };
        if let Some(id) = releases.iter().find(used) {
            return Err(Refusal::Conflict(format!(
                "{id} states this SBOM, and without it nobody knows what {id} contains; retire the release first"
            )));
        }
        let deed = reach.deed(&digest.to_string(), "removed");
        let txn = Txn::new().unchanged(held.key.clone(), held.version).delete(held.key);
        Ok(Draft::unless(dry_run, Kept { record: held.record, releases }, txn, deed))
    };
    commit(plant, decide).await
}
