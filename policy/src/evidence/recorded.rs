//! Evidence that was verified once and kept, or that lies in a folder: good for forecasts and for
//! learning, never for a grant.
//!
//! It has no way to [`VerifiedEvidence`](super::verify::VerifiedEvidence): nothing
//! here says that the quote was fresh, or that the device still is what it was.

use std::collections::BTreeMap;

use super::HardwareProof;
use super::flaw::Flaw;
use super::linux::LinuxLogs;
use super::secure_boot::SecureBootState;
use super::verify::{EvidenceError, Explained, Measured, VerifiedEvent, explain};
use crate::appraisal::measurements::{Measurements, Origin};
use crate::eventlog::ima::state::Boot;
use crate::eventlog::ima::verify::{ImaPart, VerifiedIma};
use crate::tpm::alg::HashAlg;
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// PCR values and the events that explain them, as they were stored.
#[derive(Debug, Clone)]
pub struct RecordedEvidence {
    pcrs: PcrValues,
    events: BTreeMap<PcrIndex, Vec<VerifiedEvent>>,
    unexplained: Vec<PcrIndex>,
    ima: Option<VerifiedIma>,
    secure_boot: Option<SecureBootState>,
    origin: Origin,
    flaws: Vec<Flaw>,
}

/// Logs besides the firmware's, as they were stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoredLogs<'a> {
    /// What systemd and the attestor logged.
    pub linux: LinuxLogs<'a>,
    /// The whole IMA list.
    pub ima: Option<&'a ImaPart>,
}

impl RecordedEvidence {
    /// Replays a stored firmware log against the stored values, as strictly as when they came in.
    /// `hardware` is what vouches for the TPM today.
    pub fn replay(
        pcrs: PcrValues,
        firmware_log: &[u8],
        hardware: HardwareProof,
    ) -> Result<Self, EvidenceError> {
        Self::replay_all(pcrs, firmware_log, &StoredLogs::default(), Origin::Device(hardware))
    }

    /// The same with the logs that Linux wrote, and of any origin.
    pub fn replay_all(
        pcrs: PcrValues,
        firmware_log: &[u8],
        logs: &StoredLogs<'_>,
        origin: Origin,
    ) -> Result<Self, EvidenceError> {
        // Only a part is bound to a boot, and nothing was accepted that a part could go on from.
        let boot = Boot { reset_count: 0, restart_count: 0 };
        let (linux, ima) = (logs.linux, logs.ima);
        let measured = Measured { pcrs: &pcrs, firmware_log, linux, ima, boot, accepted: None };
        let Explained { events, unexplained, ima, secure_boot } = explain(&measured)?;
        let secure_boot = Some(secure_boot);
        Ok(Self { pcrs, events, unexplained, origin, ima, secure_boot, flaws: Vec::new() })
    }

    /// What a device without a TPM measured: nothing.
    #[must_use]
    pub fn without_tpm() -> Self {
        Self {
            pcrs: PcrValues::new(HashAlg::Sha256),
            events: BTreeMap::new(),
            unexplained: Vec::new(),
            ima: None,
            secure_boot: None,
            origin: Origin::WithoutTpm,
            flaws: Vec::new(),
        }
    }

    /// The evidence with what is known today against its TPM ([`super::flaw::flaws`]).
    #[must_use]
    pub fn with_flaws(self, flaws: Vec<Flaw>) -> Self {
        Self { flaws, ..self }
    }

    /// What was measured.
    #[must_use]
    pub fn measurements(&self) -> Measurements<'_> {
        let events = self.events.iter().map(|(pcr, events)| (*pcr, events.as_slice()));
        let seen = Measurements::with_origin(&self.pcrs, events, &self.unexplained, self.origin);
        let seen = match &self.secure_boot {
            Some(state) => seen.with_secure_boot(state),
            None => seen,
        };
        seen.with_ima(self.ima.as_ref()).with_flaws(&self.flaws)
    }
}
