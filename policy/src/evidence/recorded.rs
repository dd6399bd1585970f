//! Evidence that was verified once and kept, or that lies in a folder: good for forecasts and for
//! learning, never for a grant.
//!
//! It has no way to [`VerifiedEvidence`](super::verify::VerifiedEvidence) (design-details, F1): nothing
//! here says that the quote was fresh, or that the device still is what it was.

use std::collections::BTreeMap;

use super::HardwareProof;
use super::verify::{EvidenceError, Explained, VerifiedEvent, explain};
use crate::appraisal::measurements::{Measurements, Origin};
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// PCR values and the events that explain them, as they were stored.
#[derive(Debug, Clone)]
pub struct RecordedEvidence {
    pcrs: PcrValues,
    events: BTreeMap<PcrIndex, Vec<VerifiedEvent>>,
    unexplained: Vec<PcrIndex>,
    origin: Origin,
}

impl RecordedEvidence {
    /// Replays a stored firmware log against the stored values, as strictly as when they came in.
    /// `hardware` is what vouches for the TPM today.
    pub fn replay(
        pcrs: PcrValues,
        firmware_log: &[u8],
        hardware: HardwareProof,
    ) -> Result<Self, EvidenceError> {
        Self::replay_from(pcrs, firmware_log, Origin::Device(hardware))
    }

    /// The same of any origin.
    pub(super) fn replay_from(
        pcrs: PcrValues,
        firmware_log: &[u8],
        origin: Origin,
    ) -> Result<Self, EvidenceError> {
        let Explained { events, unexplained, .. } = explain(&pcrs, firmware_log)?;
        Ok(Self { pcrs, events, unexplained, origin })
    }

    /// What was measured.
    #[must_use]
    pub fn measurements(&self) -> Measurements<'_> {
        let events = self.events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
        Measurements::with_origin(&self.pcrs, events, &self.unexplained, self.origin)
    }
}
