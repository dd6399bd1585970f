//! The release keys of the plant: which are in force, how many must sign, and what what they signed is worth.
//!
//! What is new is verified under the keys in force now. What is stored counts on under the keys that signed it and the
//! number that was needed then, also when they were removed since; a key that was compromised vouches for nothing any
//! more. What this does not promise: that a compromise is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use policy::digest::Digest;
use policy::id::{ProductName, ReleaseKeyName};
use policy::reference::dsse::{Envelope, EnvelopeError, SignedRelease};
use policy::reference::keys::{ReleaseKey, ReleaseKeys, RemovedKey};
use policy::reference::state::ReleaseState;

use crate::golden::GoldenError;
use crate::record::golden::ReleaseRecord;
use crate::record::release_key::{
    RELEASE_KEY, RELEASE_KEYS, ReleaseKeyRecord, ReleaseKeysHead, THRESHOLD, ThresholdRecord,
};
use crate::record::{Held, RecordError, fetch, list, stored};
use crate::store::{Store, Txn};

/// Characters of a reason that is told: it is stored with devices that lose trust for it.
const MAX_WHY: usize = 400;

/// A registered key with its id.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The digest of its SubjectPublicKeyInfo.
    pub id: Digest,
    /// Its record.
    pub held: Held<ReleaseKeyRecord>,
}

/// What a stored release is worth.
#[derive(Debug)]
pub enum Worth {
    /// It counts, as its state says.
    Counts(Box<SignedRelease>),
    /// It counts for nothing: why.
    Void(String),
}

/// Every key and threshold, at one revision of their head.
#[derive(Debug, Clone)]
pub struct KeyRing {
    head: Option<Held<ReleaseKeysHead>>,
    keys: BTreeMap<Digest, Registered>,
    thresholds: BTreeMap<ProductName, Held<ThresholdRecord>>,
}

impl KeyRing {
    /// Reads them.
    pub async fn read(store: &dyn Store) -> Result<Self, RecordError> {
        // The head first: what is read after it may be newer, and then a transaction that compares it fails.
        let head = fetch(store, RELEASE_KEYS.to_owned()).await?;
        let records: Vec<Held<ReleaseKeyRecord>> = list(store, RELEASE_KEY).await?;
        let id = |held: &Held<ReleaseKeyRecord>| held.key.strip_prefix(RELEASE_KEY)?.parse::<Digest>().ok();
        let keys = records.into_iter().filter_map(|held| Some((id(&held)?, held)));
        let keys = keys.map(|(id, held)| (id, Registered { id, held })).collect();
        let thresholds: Vec<Held<ThresholdRecord>> = list(store, THRESHOLD).await?;
        let product = |held: &Held<ThresholdRecord>| held.key.strip_prefix(THRESHOLD)?.parse().ok();
        let thresholds = thresholds.into_iter().filter_map(|held| Some((product(&held)?, held))).collect();
        Ok(Self { head, keys, thresholds })
    }

    /// Every key, by id.
    pub fn keys(&self) -> impl Iterator<Item = &Registered> {
        self.keys.values()
    }

    /// The key with this id.
    #[must_use]
    pub fn key(&self, id: &Digest) -> Option<&Registered> {
        self.keys.get(id)
    }

    /// The key in force with this name.
    #[must_use]
    pub fn named(&self, name: &ReleaseKeyName) -> Option<&Registered> {
        self.in_force().find(|key| key.held.record.name == *name)
    }

    /// The keys that may sign something new.
    pub fn in_force(&self) -> impl Iterator<Item = &Registered> {
        self.keys().filter(|key| key.held.record.is_in_force())
    }

    /// How many keys in force may sign releases of `product`.
    #[must_use]
    pub fn available(&self, product: &ProductName) -> usize {
        self.in_force().filter(|key| key.held.record.is_for(product)).count()
    }

    /// How many keys must sign a release of `product`.
    #[must_use]
    pub fn needed(&self, product: &ProductName) -> NonZeroU8 {
        self.threshold(product).map_or(NonZeroU8::MIN, |held| held.record.needed)
    }

    /// The threshold that somebody set for `product`.
    #[must_use]
    pub fn threshold(&self, product: &ProductName) -> Option<&Held<ThresholdRecord>> {
        self.thresholds.get(product)
    }

    /// The products with a threshold, and those that keys name.
    #[must_use]
    pub fn products(&self) -> BTreeSet<ProductName> {
        let named = self.keys().flat_map(|key| &key.held.record.products);
        self.thresholds.keys().chain(named).cloned().collect()
    }

    /// The same keys, one of them with another record.
    #[must_use]
    pub fn with(&self, id: Digest, record: ReleaseKeyRecord) -> Self {
        let mut changed = self.clone();
        if let Some(key) = changed.keys.get_mut(&id) {
            key.held.record = record;
        }
        changed
    }

    /// Verifies a new envelope that claims to be of `product`.
    pub fn verify(&self, envelope: &[u8], product: &ProductName) -> Result<SignedRelease, GoldenError> {
        let keys = self.in_force().map(|key| usable(&key.held.record, product));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut removed = Vec::new();
        for key in self.keys().filter(|key| key.held.record.is_for(product)) {
            let Some(change) = &key.held.record.removed else { continue };
            let (key, name) = (usable(&key.held.record, product)?, key.held.record.name.clone());
            removed.push(RemovedKey { key, name, at: change.at });
        }
        removed.sort_by_key(|removed| std::cmp::Reverse(removed.at));
        let keys = ReleaseKeys::new(keys, self.needed(product))?.remembering(removed);
        Ok(Envelope::parse(envelope)?.verify(&keys)?)
    }

    /// What the release of `record` is worth. A withdrawn one condemns, whoever signed it.
    pub fn worth(&self, record: &ReleaseRecord, envelope: &[u8]) -> Result<Worth, GoldenError> {
        let signers = record.signers.iter().filter_map(|id| self.key(&id.parse().ok()?));
        let condemns = record.state == ReleaseState::Withdrawn;
        let (good, bad): (Vec<_>, Vec<_>) =
            signers.partition(|key| condemns || key.held.record.compromised.is_none());
        if good.len() < usize::from(record.needed.get()) {
            let bad: Vec<&str> = bad.iter().map(|key| key.held.record.name.as_str()).collect();
            let (left, needed) = (good.len(), record.needed);
            let why = if bad.is_empty() { "others are not on record".to_owned() } else { told(&bad) };
            return Ok(Worth::Void(format!("{left} of {needed} needed keys vouch for it, since {why}")));
        }
        let good = good.into_iter().map(|key| usable(&key.held.record, &record.product));
        let keys = ReleaseKeys::new(good.collect::<Result<Vec<_>, _>>()?, record.needed)?;
        match Envelope::parse(envelope)?.verify(&keys) {
            Ok(signed) => Ok(Worth::Counts(Box::new(signed))),
            // Rules became stricter since. One release must not take the others with it.
            Err(EnvelopeError::Manifest(faults)) => {
                let why = format!("it would not be accepted today: {faults}").replace('\n', "; ");
                Ok(Worth::Void(why.chars().take(MAX_WHY).collect()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The transaction, if no key and no threshold changes meanwhile.
    #[must_use]
    pub fn unchanged(&self, txn: Txn) -> Txn {
        match &self.head {
            Some(head) => txn.unchanged(RELEASE_KEYS, head.version),
            None => txn.absent(RELEASE_KEYS),
        }
    }

    /// The same transaction as one that changes a key or a threshold.
    pub fn raised(&self, txn: Txn) -> Result<Txn, RecordError> {
        let n = self.head.as_ref().map_or(0, |head| head.record.n).saturating_add(1);
        Ok(self.unchanged(txn).put(RELEASE_KEYS, stored(&ReleaseKeysHead { n })?))
    }
}

fn told(compromised: &[&str]) -> String {
    let verb = if compromised.len() == 1 { "is" } else { "are" };
    format!("{} {verb} compromised", compromised.join(", "))
}

/// The key; one without stated products may sign the product at hand.
fn usable(record: &ReleaseKeyRecord, product: &ProductName) -> Result<ReleaseKey, GoldenError> {
    let products: BTreeSet<ProductName> = match record.products.as_slice() {
        [] => BTreeSet::from([product.clone()]),
        stated => stated.iter().cloned().collect(),
    };
    Ok(ReleaseKey::from_pem(&record.public_key, products)?)
}
