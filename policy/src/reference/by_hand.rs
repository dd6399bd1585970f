//! Reference Values that a person names on a command line, for one appraisal of a folder.
//!
//! A manifest by itself is no authority ([`SignedRelease`] is), so these values lead only to an
//! [`OfflineResult`](crate::appraisal::offline::OfflineResult): nothing takes them to appraise a device.
//! What this module does not promise: that anybody signed the manifests.

use std::collections::BTreeSet;

use super::dsse::SignedRelease;
use super::manifest::Manifest;
use super::state::ReleaseState;
use super::{ReferenceError, ReferenceValues};
use crate::appraisal::claims::LeastClaims;
use crate::appraisal::policy::{Mode, ZonePolicy};
use crate::id::{NameError, ZoneName};

/// What stands where a zone's name does: no zone was asked.
const NO_ZONE: &str = "offline";

/// The manifests do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ByHandError {
    /// Two releases under one name.
    #[error(transparent)]
    Release(#[from] ReferenceError),
    /// A name that is not well formed.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Manifests that whoever runs the appraisal vouches for, all of them accepted.
#[derive(Clone, Debug)]
pub struct ReferenceByHand {
    values: ReferenceValues,
    policy: ZonePolicy,
}

impl ReferenceByHand {
    /// Takes every manifest as an active release.
    pub fn new(manifests: Vec<Manifest>) -> Result<Self, ByHandError> {
        let zone: ZoneName = NO_ZONE.parse()?;
        let (mut values, mut products) = (ReferenceValues::new(), BTreeSet::new());
        for manifest in manifests {
            products.insert(manifest.product().clone());
            values.insert(SignedRelease::by_hand(manifest), ReleaseState::Active)?;
        }
        let policy = ZonePolicy { zone, products, least: LeastClaims::default(), mode: Mode::Enforce };
        Ok(Self { values, policy })
    }

    /// The releases. Not public: a zone must never be given unsigned ones.
    pub(crate) const fn values(&self) -> &ReferenceValues {
        &self.values
    }

    pub(crate) const fn policy(&self) -> &ZonePolicy {
        &self.policy
    }
}
