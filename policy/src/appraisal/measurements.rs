//! What evidence measured, borrowed: the view that appraisal and learning read.
//!
//! What this module does not promise: a view proves nothing by itself. It can be made from recorded
//! evidence too, so it leads to a forecast, never to a grant.

use std::collections::{BTreeMap, BTreeSet};

use crate::eventlog::ima::verify::VerifiedIma;
use crate::eventlog::image::{IMAGE_PCR, ImageMeasurement};
use crate::evidence::HardwareProof;
use crate::evidence::flaw::Flaw;
use crate::evidence::linux::EventOrigin;
use crate::evidence::secure_boot::SecureBootState;
use crate::evidence::verify::{VerifiedEvent, VerifiedEvidence};
use crate::reference::event_type::EventType;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// Where measurements come from, and with it what stands behind their TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A device that attested, and how far its TPM is proven to be one.
    Device(HardwareProof),
    /// A device that has no TPM and proves itself with a key: it measured nothing.
    WithoutTpm,
    /// A folder of files: no TPM and no device is proven, whoever brings the folder vouches for it.
    /// [`VerifiedEvidence`] never has this origin, so it leads to no Attestation Result.
    Folder,
}

/// PCR values of one bank and the events that explain them.
#[derive(Clone, Debug)]
pub struct Measurements<'a> {
    pcrs: &'a PcrValues,
    events: BTreeMap<PcrIndex, &'a [VerifiedEvent]>,
    unexplained: BTreeSet<PcrIndex>,
    ima: Option<&'a VerifiedIma>,
    secure_boot: Option<&'a SecureBootState>,
    origin: Origin,
    flaws: &'a [Flaw],
}

impl<'a> Measurements<'a> {
    /// A view of these values and events; `unexplained` are the PCRs whose events do not replay to
    /// their value.
    #[must_use]
    pub fn new(
        pcrs: &'a PcrValues,
        events: impl IntoIterator<Item = (PcrIndex, &'a [VerifiedEvent])>,
        unexplained: &[PcrIndex],
        hardware: HardwareProof,
    ) -> Self {
        Self::with_origin(pcrs, events, unexplained, Origin::Device(hardware))
    }

    /// The same of any origin.
    pub(crate) fn with_origin(
        pcrs: &'a PcrValues,
        events: impl IntoIterator<Item = (PcrIndex, &'a [VerifiedEvent])>,
        unexplained: &[PcrIndex],
        origin: Origin,
    ) -> Self {
        let events = events.into_iter().collect();
        let unexplained = unexplained.iter().copied().collect();
        Self { pcrs, events, unexplained, origin, ima: None, secure_boot: None, flaws: &[] }
    }

    /// The same view with the confirmed records of an IMA list.
    #[must_use]
    pub const fn with_ima(mut self, ima: Option<&'a VerifiedIma>) -> Self {
        self.ima = ima;
        self
    }

    /// The same view with what PCR 7 says about Secure Boot.
    #[must_use]
    pub const fn with_secure_boot(mut self, state: &'a SecureBootState) -> Self {
        self.secure_boot = Some(state);
        self
    }

    /// What PCR 7 says about Secure Boot, if the evidence tells it.
    #[must_use]
    pub const fn secure_boot(&self) -> Option<&'a SecureBootState> {
        self.secure_boot
    }

    /// The view with what is known against the TPM.
    #[must_use]
    pub const fn with_flaws(mut self, flaws: &'a [Flaw]) -> Self {
        self.flaws = flaws;
        self
    }

    /// What is known against the TPM.
    #[must_use]
    pub const fn flaws(&self) -> &'a [Flaw] {
        self.flaws
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.pcrs.bank()
    }

    /// The value of `pcr`, if it was quoted.
    #[must_use]
    pub fn value(&self, pcr: PcrIndex) -> Option<&'a HashValue> {
        self.pcrs.value(pcr)
    }

    /// The quoted PCRs, lowest first.
    pub fn quoted(&self) -> impl Iterator<Item = PcrIndex> + 'a {
        self.pcrs.iter().map(|(pcr, _)| pcr)
    }

    /// The events that were extended into `pcr`, in the order of the log.
    pub fn events(&self, pcr: PcrIndex) -> impl Iterator<Item = &'a VerifiedEvent> {
        let events = self.events.get(&pcr).copied().unwrap_or_default();
        events.iter().filter(|event| EventType(event.event_type) != EventType::NO_ACTION)
    }

    /// What the attestor measured itself, in the order of its log.
    pub fn images(&self) -> impl Iterator<Item = &'a ImageMeasurement> {
        self.events(IMAGE_PCR).filter_map(|event| match &event.origin {
            EventOrigin::Image(image) => Some(image.as_ref()),
            EventOrigin::Firmware | EventOrigin::Userspace { .. } => None,
        })
    }

    /// Whether the events of `pcr` replay to its value.
    #[must_use]
    pub fn is_explained(&self, pcr: PcrIndex) -> bool {
        !self.unexplained.contains(&pcr)
    }

    /// Where they come from, and what stands behind the TPM.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// The confirmed records of the IMA list, if there is one.
    #[must_use]
    pub const fn ima(&self) -> Option<&'a VerifiedIma> {
        self.ima
    }
}

impl<'a> From<&'a VerifiedEvidence> for Measurements<'a> {
    fn from(evidence: &'a VerifiedEvidence) -> Self {
        let pcrs = evidence.pcrs();
        let events = pcrs.iter().map(|(pcr, _)| (pcr, evidence.events(pcr)));
        Self::new(pcrs, events, evidence.unexplained(), evidence.hardware())
            .with_secure_boot(evidence.secure_boot())
            .with_ima(evidence.ima())
            .with_flaws(evidence.flaws())
    }
}
