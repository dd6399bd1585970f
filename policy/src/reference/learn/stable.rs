//! Whether a device boots the same way each time.

use std::collections::BTreeSet;

use super::{BootEvent, LearnNote, MAX_NOTED, ReferenceDevice};
use crate::appraisal::measurements::Measurements;
use crate::reference::event_type::EventType;
use crate::reference::hash_text::HashText;
use crate::tpm::alg::HashValue;
use crate::tpm::pcr::PcrIndex;

/// What differs in `pcr` between two boots of one of the devices.
pub(super) fn differing(devices: &[ReferenceDevice<'_>], pcr: PcrIndex) -> Option<LearnNote> {
    (1..).zip(devices).find_map(|(device, reference)| {
        let last = &reference.last;
        let earlier = reference.earlier.iter().filter(|boot| boot.bank() == last.bank());
        let other = earlier.into_iter().find(|boot| boot.value(pcr) != last.value(pcr))?;
        Some(LearnNote::BootsDiffer { pcr: pcr.number(), device, events: events(last, other, pcr) })
    })
}

fn events(last: &Measurements<'_>, earlier: &Measurements<'_>, pcr: PcrIndex) -> Vec<BootEvent> {
    let of = |boot: &Measurements<'_>| -> BTreeSet<(EventType, HashValue)> {
        boot.events(pcr).map(|event| (EventType(event.event_type), event.digest)).collect()
    };
    let (ours, theirs) = (of(last), of(earlier));
    let told = |is_last: bool| {
        move |(event_type, digest): &(EventType, HashValue)| BootEvent {
            event_type: *event_type,
            digest: HashText(*digest),
            last: is_last,
        }
    };
    let only_last = ours.difference(&theirs).map(told(true));
    only_last.chain(theirs.difference(&ours).map(told(false))).take(MAX_NOTED).collect()
}
