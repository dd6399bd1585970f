//! Reference Values as they would be after a change, also by a manifest that nobody has signed yet.
//!
//! They lead only to a [`Forecast`](crate::appraisal::Forecast): nothing takes them to appraise fresh evidence, and
//! nobody gets them back as [`ReferenceValues`].

use super::dsse::SignedRelease;
use super::manifest::Manifest;
use super::state::ReleaseState;
use super::{ReferenceError, ReferenceValues};

/// Values that are not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supposed(ReferenceValues);

impl From<ReferenceValues> for Supposed {
    fn from(values: ReferenceValues) -> Self {
        Self(values)
    }
}

impl Supposed {
    /// `values` with the release of a manifest that nobody signed, in the state `to`.
    pub fn with_unsigned(
        mut values: ReferenceValues,
        manifest: Manifest,
        to: ReleaseState,
    ) -> Result<Self, ReferenceError> {
        let id = manifest.id().clone();
        values.insert(SignedRelease::by_hand(manifest), ReleaseState::Pending)?;
        if values.release(&id).is_some_and(|release| release.state() != to) {
            values.change_state(&id, to)?;
        }
        Ok(Self(values))
    }

    /// The releases. Not public: a zone must never be given what is not in force.
    pub(crate) const fn values(&self) -> &ReferenceValues {
        &self.0
    }
}
