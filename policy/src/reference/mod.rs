//! Reference Values (RFC 9334, section 8.3): which releases of which products are accepted, and since
//! when not any more.
//!
//! A release enters only as a [`SignedRelease`]. What this module does not promise: it does not hold
//! the counter of a product (a rollback is refused where releases are applied), and it does not know
//! who may change a state.

pub mod by_hand;
pub(crate) mod draft;
pub mod dsse;
pub mod event_type;
pub mod hash_text;
pub mod keys;
pub mod learn;
pub mod learn_words;
pub mod manifest;
pub mod release;
pub mod state;
pub mod supposed;

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::id::ProductName;
use dsse::SignedRelease;
use release::ReleaseId;
use state::{ReleaseState, TransitionError};

/// A release and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    signed: SignedRelease,
    state: ReleaseState,
}

impl Release {
    /// What was signed.
    #[must_use]
    pub const fn signed(&self) -> &SignedRelease {
        &self.signed
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> ReleaseState {
        self.state
    }
}

/// A change of the Reference Values is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Another release has this name.
    #[error("{id} is {known} already and this manifest is {found}; give it a new version")]
    NameTaken {
        /// The name.
        id: ReleaseId,
        /// Digest of the manifest that has it.
        known: Digest,
        /// Digest of the manifest that wants it.
        found: Digest,
    },
    /// No release has this name.
    #[error("there is no release {0}; `touchstone golden list` shows what there is")]
    Unknown(ReleaseId),
    /// The state does not follow from the one it is in.
    #[error("{id}: {reason}")]
    Transition {
        /// The release.
        id: ReleaseId,
        /// Why not.
        reason: TransitionError,
    },
}

/// The releases that evidence is appraised against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceValues {
    releases: BTreeMap<ReleaseId, Release>,
}

impl ReferenceValues {
    /// No release yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { releases: BTreeMap::new() }
    }

    /// Takes a release in, in the state it has on record; `Pending` for a new one. The same release
    /// again changes nothing.
    pub fn insert(&mut self, signed: SignedRelease, state: ReleaseState) -> Result<(), ReferenceError> {
        if let Some(known) = self.releases.get(signed.id()) {
            let (known, found) = (known.signed.manifest().digest(), signed.manifest().digest());
            if known != found {
                return Err(ReferenceError::NameTaken { id: signed.id().clone(), known, found });
            }
            return Ok(());
        }
        self.releases.insert(signed.id().clone(), Release { signed, state });
        Ok(())
    }

    /// Changes the state of a release, if its life has that step.
    pub fn change_state(&mut self, id: &ReleaseId, to: ReleaseState) -> Result<(), ReferenceError> {
        let release = self.releases.get_mut(id).ok_or_else(|| ReferenceError::Unknown(id.clone()))?;
        release.state = release
            .state
            .change_to(to)
            .map_err(|reason| ReferenceError::Transition { id: id.clone(), reason })?;
        Ok(())
    }

    /// Takes a release out: nothing is accepted, and nothing condemned, for it any more.
    pub fn remove(&mut self, id: &ReleaseId) {
        self.releases.remove(id);
    }

    /// The release with this name.
    #[must_use]
    pub fn release(&self, id: &ReleaseId) -> Option<&Release> {
        self.releases.get(id)
    }

    /// Every release, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Release> {
        self.releases.values()
    }

    /// The releases of `products`, by name.
    pub fn of_products<'a>(
        &'a self,
        products: &'a BTreeSet<ProductName>,
    ) -> impl Iterator<Item = &'a Release> {
        self.releases.values().filter(|release| products.contains(&release.signed.id().product))
    }
}
