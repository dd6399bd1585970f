//! What evidence measured, borrowed: the view that appraisal and learning read.
//!
//! What this module does not promise: a view proves nothing by itself. It can be made from recorded
//! evidence too, so it leads to a forecast, never to a grant.

use std::collections::{BTreeMap, BTreeSet};

use crate::eventlog::image::{IMAGE_PCR, ImageMeasurement};
use crate::evidence::HardwareProof;
use crate::evidence::linux::Origin;
use crate::evidence::verify::{VerifiedEvent, VerifiedEvidence};
use crate::reference::event_type::EventType;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// PCR values of one bank and the events that explain them.
#[derive(Clone, Debug)]
pub struct Measurements<'a> {
    pcrs: &'a PcrValues,
    events: BTreeMap<PcrIndex, &'a [VerifiedEvent]>,
    unexplained: BTreeSet<PcrIndex>,
    hardware: HardwareProof,
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
        let events = events.into_iter().collect();
        Self { pcrs, events, unexplained: unexplained.iter().copied().collect(), hardware }
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
            Origin::Image(image) => Some(image.as_ref()),
            Origin::Firmware | Origin::Userspace { .. } => None,
        })
    }

    /// Whether the events of `pcr` replay to its value.
    #[must_use]
    pub fn is_explained(&self, pcr: PcrIndex) -> bool {
        !self.unexplained.contains(&pcr)
    }

    /// What vouches for the TPM.
    #[must_use]
    pub const fn hardware(&self) -> HardwareProof {
        self.hardware
    }
}

impl<'a> From<&'a VerifiedEvidence> for Measurements<'a> {
    fn from(evidence: &'a VerifiedEvidence) -> Self {
        let pcrs = evidence.pcrs();
        let events = pcrs.iter().map(|(pcr, _)| (pcr, evidence.events(pcr)));
        Self::new(pcrs, events, evidence.unexplained(), evidence.hardware())
    }
}
