//! Evidence that was verified once and kept: good for forecasts and for learning, never for a grant.
//!
//! It has no way to [`VerifiedEvidence`](super::verify::VerifiedEvidence) (design-details, F1): nothing
//! here says that the quote was fresh, or that the device still is what it was.

use std::collections::BTreeMap;

use super::HardwareProof;
use super::linux::LinuxLogs;
use super::verify::{EvidenceError, Explained, VerifiedEvent, explain};
use crate::appraisal::measurements::Measurements;
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// PCR values and the events that explain them, as they were stored.
#[derive(Debug, Clone)]
pub struct RecordedEvidence {
    pcrs: PcrValues,
    events: BTreeMap<PcrIndex, Vec<VerifiedEvent>>,
    unexplained: Vec<PcrIndex>,
    hardware: HardwareProof,
}

impl RecordedEvidence {
    /// Replays a stored firmware log against the stored values, as strictly as when they came in.
    /// `hardware` is what vouches for the TPM today.
    pub fn replay(
        pcrs: PcrValues,
        firmware_log: &[u8],
        hardware: HardwareProof,
    ) -> Result<Self, EvidenceError> {
        Self::replay_all(pcrs, firmware_log, &LinuxLogs::default(), hardware)
    }

    /// The same with the logs that Linux wrote.
    pub fn replay_all(
        pcrs: PcrValues,
        firmware_log: &[u8],
        linux: &LinuxLogs<'_>,
        hardware: HardwareProof,
    ) -> Result<Self, EvidenceError> {
        let Explained { events, unexplained, .. } = explain(&pcrs, firmware_log, linux)?;
        Ok(Self { pcrs, events, unexplained, hardware })
    }

    /// What was measured.
    #[must_use]
    pub fn measurements(&self) -> Measurements<'_> {
        let events = self.events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
        Measurements::new(&self.pcrs, events, &self.unexplained, self.hardware)
    }
}
