//! Changes that are too large for one transaction, all or nothing.
//!
//! Promises: nothing of such a change is seen before its commit, everything after it, whatever stops the broker in
//! between. Does not promise to write over what is there: only keys that nobody has are staged, and whoever
//! writes one of them at the same time makes the change fail.

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use policy::time::UnixTime;

use crate::plant::Plant;
use crate::ports::random;
use crate::record::device::{DEVICE, EK, INVENTORY};
use crate::record::stage::{Progress, STAGE, Stage, stage_key};
use crate::record::zone::{AUTHORITY, CONDUIT, ZONE};
use crate::record::{Held, RecordError, fetch, list, stored};
use crate::session::Refusal;
use crate::session::complete::commit;
use crate::store::record::{Record, encode_staged, stage_of};
use crate::store::{MAX_SCAN, MAX_TXN_KEYS, Revision, Txn, TxnError};

/// Where staged records may be. Whoever stages another kind adds its prefix.
const STAGED: [&str; 6] = [DEVICE, EK, INVENTORY, ZONE, CONDUIT, AUTHORITY];
/// Transactions on their way to the store at once, so that it can write them in one go.
const AT_ONCE: usize = 64;
/// Keys of one removal: each is compared and deleted.
const STEP: usize = MAX_TXN_KEYS / 2;

/// A change in the making.
pub(crate) struct Staging {
    id: String,
    stage: Stage,
    version: Revision,
}

impl Staging {
    /// Begins a change of `by`.
    pub(crate) async fn begin(plant: &Plant, by: &str) -> Result<Self, Refusal> {
        let id = hex::encode(random::<16>(plant.entropy.as_ref()).map_err(Refusal::internal)?);
        let stage = Stage { progress: Progress::Open, by: by.to_owned(), at: plant.now() };
        let txn = Txn::new().absent(stage_key(&id)).put(stage_key(&id), stored(&stage)?);
        let version = plant.store.transact(txn).await.map_err(Refusal::internal)?;
        Ok(Self { id, stage, version })
    }

    /// The stored form of a record of this change.
    pub(crate) fn stored<R: Record>(&self, record: &R) -> Result<Vec<u8>, RecordError> {
        Ok(encode_staged(record, Some(&self.id))?)
    }

    /// A transaction that holds only while the change is open.
    pub(crate) fn txn(&self) -> Txn {
        Txn::new().unchanged(stage_key(&self.id), self.version)
    }

    /// Writes parts of the change. If one cannot be written, the change is given up.
    pub(crate) async fn write(&self, plant: &Plant, parts: Vec<Txn>) -> Result<(), Refusal> {
        let store = plant.store.as_ref();
        let writes = parts.into_iter().map(|part| store.transact(part).map(part_of));
        let written = stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await;
        self.or_abandon(plant, written).await
    }

    /// Makes the whole change count, together with `rest`, which began as [`Self::txn`].
    pub(crate) async fn commit(&self, plant: &Plant, rest: Txn) -> Result<(), Refusal> {
        let committed = Stage { progress: Progress::Committed, ..self.stage.clone() };
        let done = rest.put(stage_key(&self.id), stored(&committed)?);
        let done = part_of(plant.store.transact(done).await);
        self.or_abandon(plant, done).await
    }

    /// Ends a change of which nothing is to count.
    pub(crate) async fn give_up(&self, plant: &Plant) -> Result<(), Refusal> {
        abandon(plant, &self.id).await
    }

    async fn or_abandon(&self, plant: &Plant, done: Result<(), Refusal>) -> Result<(), Refusal> {
        if done.is_err()
            && let Err(error) = abandon(plant, &self.id).await
        {
            tracing::warn!(%error, "what was staged is removed at the next start");
        }
        done
    }
}

fn part_of(written: Result<Revision, TxnError>) -> Result<(), Refusal> {
    match written {
        Ok(_) => Ok(()),
        Err(TxnError::Conflict { key, .. }) => Err(Refusal::Conflict(format!(
            "somebody else changed {key} at the same moment; nothing was changed, try again"
        ))),
        Err(error) => Err(Refusal::internal(error)),
    }
}

/// Removes what changes left behind that began at `before` or earlier and were never committed.
pub(crate) async fn sweep(plant: &Plant, before: UnixTime) -> Result<(), Refusal> {
    let all: Vec<Held<Stage>> = list(plant.store.as_ref(), STAGE).await?;
    let left = |held: &&Held<Stage>| held.record.progress != Progress::Committed && held.record.at <= before;
    for held in all.iter().filter(left) {
        let id = held.key.strip_prefix(STAGE).unwrap_or_default();
        tracing::info!(by = held.record.by, at = %held.record.at, "a change that was not completed is removed");
        abandon(plant, id).await?;
    }
    Ok(())
}

/// Gives a change up: from its first transaction on nobody can add to it or commit it, and the mark goes last, so
/// that it is begun again after a crash.
async fn abandon(plant: &Plant, id: &str) -> Result<(), Refusal> {
    let store = plant.store.as_ref();
    let held: Option<Held<Stage>> = fetch(store, stage_key(id)).await?;
    let Some(held) = held.filter(|held| held.record.progress != Progress::Committed) else { return Ok(()) };
    let abandoned = Stage { progress: Progress::Abandoned, ..held.record };
    let txn = Txn::new().unchanged(held.key.clone(), held.version);
    commit(plant, txn.put(held.key.clone(), stored(&abandoned)?)).await?;
    for prefix in STAGED {
        let staged = staged(plant, prefix, id).await?;
        for step in staged.chunks(STEP) {
            let delete = |txn: Txn, (key, version): &(String, Revision)| {
                txn.unchanged(key.clone(), *version).delete(key.clone())
            };
            commit(plant, step.iter().fold(Txn::new(), delete)).await?;
        }
    }
    commit(plant, Txn::new().delete(held.key)).await
}

/// Keys below `prefix` whose record belongs to the change `id`.
async fn staged(plant: &Plant, prefix: &str, id: &str) -> Result<Vec<(String, Revision)>, Refusal> {
    let mut staged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = plant.store.scan(prefix, after.as_deref(), MAX_SCAN).await.map_err(Refusal::internal)?;
        let Some((last, _)) = page.last() else { return Ok(staged) };
        after = Some(last.clone());
        let mine = page.into_iter().filter(|(_, found)| stage_of(&found.value).as_deref() == Some(id));
        staged.extend(mine.map(|(key, found)| (key, found.version)));
    }
}
