//! Applications that firmware started before it handed over to boot (checklist row 23).
//!
//! Firmware locks its flash and its settings when it is ready to boot. It tells that moment in PCR 4 with the
//! action "Calling EFI Application from Boot Option", and with the separator where it never writes that action
//! (TCG PC Client Platform Firmware Profile 1.06, 3.3.4.5). An approved boot loader that runs earlier, from a
//! `SysPrep####` variable say, is approved code in a machine that is still open, so a list of events that says
//! nothing about order must not accept it silently.
//!
//! Both marks are known by their digests; their types, which nothing binds, do not matter. What this module
//! does not promise: that firmware which neither tells is in any order. Then every application is early.

use super::measurements::Measurements;
use crate::evidence::verify::VerifiedEvent;
use crate::reference::event_type::EventType;
use crate::tpm::pcr::PcrIndex;

/// The PCR that firmware and boot loaders measure applications into.
const BOOT_LOADER: u8 = 4;
/// Text of the action before each boot attempt (clause 10.4.4).
pub(crate) const CALL: &[u8] = b"Calling EFI Application from Boot Option";
/// Data of a separator that reports no error.
pub(crate) const SEPARATOR: &[u8] = &[0; 4];

/// Whether `event_type` in `pcr` is what may come early: elsewhere the question has no meaning.
pub(crate) fn is_meant(pcr: PcrIndex, event_type: EventType) -> bool {
    pcr.number() == BOOT_LOADER && event_type == EventType::EFI_BOOT_SERVICES_APPLICATION
}

/// The applications of `pcr` that ran before firmware handed over, in the order of the log.
pub(crate) fn applications<'a>(seen: &Measurements<'a>, pcr: PcrIndex) -> Vec<&'a VerifiedEvent> {
    let place_of = |what: &[u8]| {
        let mark = seen.bank().hash(&[what]);
        seen.events(pcr).position(|event| event.digest == mark)
    };
    let handed_over = place_of(CALL).or_else(|| place_of(SEPARATOR)).unwrap_or(usize::MAX);
    let early = seen.events(pcr).take(handed_over);
    early.filter(|event| is_meant(pcr, EventType(event.event_type))).collect()
}
