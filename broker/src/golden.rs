//! Golden releases as the broker keeps them: signed envelopes as blobs, their states as records.
//!
//! Signatures are verified again whenever the values are read, so a changed blob accepts nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::id::ProductName;
use policy::reference::dsse::{EnvelopeError, MAX_ENVELOPE_BYTES};
use policy::reference::keys::{ReleaseKeyError, ReleaseKeysError};
use policy::reference::release::ReleaseId;
use policy::reference::state::Standing;
use policy::reference::{ReferenceError, ReferenceValues};
use policy::time::UnixTime;

use crate::plant::Plant;
use crate::record::golden::{GOLDEN, GoldenHead, RELEASE, ReleaseRecord, WantedRelease, wanted_key};
use crate::record::{Held, RecordError, fetch, list};
use crate::release_keys::{KeyRing, Worth};
use crate::store::Revision;
use crate::store::blobs::FetchError;

/// The golden values cannot be read, or an envelope is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The store cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An envelope cannot be read.
    #[error(transparent)]
    Blob(#[from] FetchError),
    /// An envelope is not accepted.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A release key cannot be used.
    #[error("a release key cannot be used: {0}")]
    Key(#[from] ReleaseKeyError),
    /// The release keys do not go together.
    #[error(transparent)]
    Keys(#[from] ReleaseKeysError),
    /// Two releases contradict each other.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

/// The releases at one revision of the golden head.
#[derive(Debug, Clone)]
pub struct Golden {
    /// Version of the golden head's record: a grant compares it.
    pub version: Revision,
    /// The head's counter.
    pub n: u64,
    /// The releases that count.
    pub values: Arc<ReferenceValues>,
    /// Those that count for nothing, with the reason.
    pub void: Arc<BTreeMap<ReleaseId, String>>,
}

impl Golden {
    /// Whether `release` keeps trust at `now`.
    #[must_use]
    pub fn accepts(&self, release: &ReleaseId, now: UnixTime) -> bool {
        let state = self.values.release(release).map(policy::reference::Release::state);
        state.is_some_and(|state| matches!(state.standing(now), Standing::Accepted { .. }))
    }
}

/// Golden values of the revision that was read last.
#[derive(Debug, Default)]
pub struct GoldenCache(std::sync::Mutex<Option<Golden>>);

/// The golden values of now.
pub async fn current(plant: &Plant) -> Result<Golden, GoldenError> {
    let head: Option<Held<GoldenHead>> = fetch(plant.store.as_ref(), GOLDEN.to_owned()).await?;
    let (version, n) = head.map_or((Revision(0), 0), |held| (held.version, held.record.n));
    if let Some(known) = plant.golden.read()
        && known.version == version
    {
        return Ok(known);
    }
    let (values, void) = worth(plant, &KeyRing::read(plant.store.as_ref()).await?).await?;
    let golden = Golden { version, n, values: Arc::new(values), void: Arc::new(void) };
    plant.golden.write(golden.clone());
    Ok(golden)
}

/// What counts under these keys, and what does not.
pub(crate) async fn worth(
    plant: &Plant,
    keys: &KeyRing,
) -> Result<(ReferenceValues, BTreeMap<ReleaseId, String>), GoldenError> {
    let (mut values, mut void) = (ReferenceValues::new(), BTreeMap::new());
    let releases: Vec<Held<ReleaseRecord>> = list(plant.store.as_ref(), RELEASE).await?;
    for Held { record, .. } in releases {
        let bytes = plant.blobs.fetch(record.envelope, MAX_ENVELOPE_BYTES).await?;
        match (keys.worth(&record, &bytes)?, record.id()) {
            (Worth::Counts(signed), _) => values.insert(*signed, record.state)?,
            (Worth::Void(why), Some(id)) => drop(void.insert(id, why)),
            (Worth::Void(_), None) => {}
        }
    }
    Ok((values, void))
}

/// The release that devices of `product` are told to install, while it is accepted.
pub async fn wanted(plant: &Plant, product: &ProductName) -> Result<Option<ReleaseId>, GoldenError> {
    let store = plant.store.as_ref();
    let wanted: Option<Held<WantedRelease>> = fetch(store, wanted_key(product)).await?;
    let Some(wanted) = wanted.map(|held| held.record.release) else { return Ok(None) };
    Ok(current(plant).await?.accepts(&wanted, plant.now()).then_some(wanted))
}

impl GoldenCache {
    fn read(&self) -> Option<Golden> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn write(&self, golden: Golden) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(golden);
    }
}
