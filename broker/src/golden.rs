//! Golden releases as the broker keeps them: signed envelopes as blobs, their states as records.
//!
//! Signatures are verified again whenever the values are read, so a changed blob accepts nothing.

use std::collections::BTreeSet;
use std::num::NonZeroU8;
use std::sync::Arc;

use policy::id::ProductName;
use policy::reference::dsse::{Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, SignedRelease};
use policy::reference::keys::{ReleaseKey, ReleaseKeyError, ReleaseKeys, ReleaseKeysError};
use policy::reference::release::ReleaseId;
use policy::reference::{ReferenceError, ReferenceValues};

use crate::plant::Plant;
use crate::record::golden::{
    GOLDEN, GoldenHead, RELEASE, RELEASE_KEY, ReleaseKeyRecord, ReleaseRecord, WantedRelease,
    release_key as release_key_of, wanted_key,
};
use crate::record::{Held, RecordError, fetch, list};
use crate::store::Revision;
use crate::store::blobs::FetchError;

/// How many different keys must sign a release.
const THRESHOLD: NonZeroU8 = NonZeroU8::MIN;

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
    /// A stored release key is no PEM.
    #[error("the release key {0} is no PEM public key; restore the last backup")]
    Pem(String),
    /// There is no release key.
    #[error("no release key is registered; the owner's folder has one")]
    NoKey,
}

/// The releases at one revision of the golden head.
#[derive(Debug, Clone)]
pub struct Golden {
    /// Version of the golden head's record: a grant compares it.
    pub version: Revision,
    /// The head's counter.
    pub n: u64,
    /// The releases.
    pub values: Arc<ReferenceValues>,
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
    let mut values = ReferenceValues::new();
    let releases: Vec<Held<ReleaseRecord>> = list(plant.store.as_ref(), RELEASE).await?;
    for held in releases {
        let bytes = plant.blobs.fetch(held.record.envelope, MAX_ENVELOPE_BYTES).await?;
        let signed = verify(plant, &bytes, &held.record.product).await?;
        values.insert(signed, held.record.state)?;
    }
    let golden = Golden { version, n, values: Arc::new(values) };
    plant.golden.write(golden.clone());
    Ok(golden)
}

/// The release that devices of `product` are told to install, while it is accepted.
pub async fn wanted(plant: &Plant, product: &ProductName) -> Result<Option<ReleaseId>, RecordError> {
    let store = plant.store.as_ref();
    let wanted: Option<Held<WantedRelease>> = fetch(store, wanted_key(product)).await?;
    let Some(wanted) = wanted.map(|held| held.record.release) else { return Ok(None) };
    let key = release_key_of(product, wanted.version.as_str());
    let release: Option<Held<ReleaseRecord>> = fetch(store, key).await?;
    Ok(release.filter(|held| held.record.is_accepted(plant.now())).map(|_| wanted))
}

impl GoldenCache {
    fn read(&self) -> Option<Golden> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn write(&self, golden: Golden) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(golden);
    }
}

/// Verifies an envelope that claims to be of `product` against the registered release keys.
pub async fn verify(
    plant: &Plant,
    envelope: &[u8],
    product: &ProductName,
) -> Result<SignedRelease, GoldenError> {
    let records: Vec<Held<ReleaseKeyRecord>> = list(plant.store.as_ref(), RELEASE_KEY).await?;
    let keys =
        records.iter().map(|held| release_key(&held.record, product)).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(GoldenError::NoKey);
    }
    let keys = ReleaseKeys::new(keys, THRESHOLD)?;
    Ok(Envelope::parse(envelope)?.verify(&keys)?)
}

/// A registered key; one without stated products may sign the product at hand.
fn release_key(record: &ReleaseKeyRecord, product: &ProductName) -> Result<ReleaseKey, GoldenError> {
    let pem = pem::parse(&record.public_key).map_err(|error| GoldenError::Pem(error.to_string()))?;
    let products: BTreeSet<ProductName> = if record.products.is_empty() {
        BTreeSet::from([product.clone()])
    } else {
        record.products.iter().cloned().collect()
    };
    Ok(ReleaseKey::from_spki(pem.contents(), products)?)
}
