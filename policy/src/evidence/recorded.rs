//! Evidence that was verified once and kept, or that lies in a folder: good for forecasts and for
//! learning, never for a grant.
//!
//! It has no way to [`VerifiedEvidence`](super::verify::VerifiedEvidence) (design-details, F1): nothing
//! here says that the quote was fresh, or that the device still is what it was.

use std::collections::BTreeMap;

use super::HardwareProof;
use super::secure_boot::SecureBootState;
use super::verify::{EvidenceError, Explained, Measured, VerifiedEvent, explain};
use crate::appraisal::measurements::{Measurements, Origin};
use crate::eventlog::ima::state::Boot;
use crate::eventlog::ima::verify::{ImaPart, VerifiedIma};
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// PCR values and the events that explain them, as they were stored.
#[derive(Debug, Clone)]
pub struct RecordedEvidence {
    pcrs: PcrValues,
    events: BTreeMap<PcrIndex, Vec<VerifiedEvent>>,
    unexplained: Vec<PcrIndex>,
    ima: Option<VerifiedIma>,
    secure_boot: SecureBootState,
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
        Self::replay_from(pcrs, firmware_log, None, Origin::Device(hardware))
    }

    /// The same with the whole IMA list as it was stored.
    pub fn replay_with_ima(
        pcrs: PcrValues,
        firmware_log: &[u8],
        ima: Option<&ImaPart>,
        hardware: HardwareProof,
    ) -> Result<Self, EvidenceError> {
        Self::replay_from(pcrs, firmware_log, ima, Origin::Device(hardware))
    }

    /// The same of any origin.
    pub(super) fn replay_from(
        pcrs: PcrValues,
        firmware_log: &[u8],
        ima: Option<&ImaPart>,
        origin: Origin,
    ) -> Result<Self, EvidenceError> {
        // Only a part is bound to a boot, and nothing was accepted that a part could go on from.
        let boot = Boot { reset_count: 0, restart_count: 0 };
        let measured = Measured { pcrs: &pcrs, firmware_log, ima, boot, accepted: None };
        let Explained { events, unexplained, ima, secure_boot } = explain(&measured)?;
        Ok(Self { pcrs, events, unexplained, origin, ima, secure_boot })
    }

    /// What was measured.
    #[must_use]
    pub fn measurements(&self) -> Measurements<'_> {
        let events = self.events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
        Measurements::with_origin(&self.pcrs, events, &self.unexplained, self.origin)
            .with_secure_boot(&self.secure_boot)
            .with_ima(self.ima.as_ref())
    }
}
