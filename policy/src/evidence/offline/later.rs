//! What the logs of a folder tell beyond its PCR values.
//!
//! The kernel and systemd go on measuring while values are collected, so a log may be longer than they are. Nothing
//! vouches for what follows: it counts neither for nor against a device, and whoever appraises the folder is told.

use super::UnusableError;
use crate::appraisal::measurements::Measurements;
use crate::eventlog::ima::list::{ImaList, ImaListError};
use crate::eventlog::ima::verify::ImaPart;
use crate::eventlog::userspace::UserspaceLog;
use crate::evidence::linux::EventOrigin;
use crate::evidence::verify::VerifiedEvent;
use crate::reference::manifest::MAX_PCR;
use crate::tpm::pcr::PcrIndex;

/// Records at the ends of the logs that the PCR values do not cover.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Later {
    /// Of the IMA list.
    pub ima: u64,
    /// Of systemd's log, in PCRs that it explains.
    pub userspace: usize,
}

impl Later {
    pub(super) fn of(seen: &Measurements<'_>, ima: Option<&WholeList>, userspace: &UserspaceLog) -> Self {
        let covered = seen.ima().map_or(0, |list| list.state().position());
        let beyond = |pcr: PcrIndex| {
            let is_of_log = |event: &&VerifiedEvent| matches!(event.origin, EventOrigin::Userspace { .. });
            userspace.of_pcr(pcr).count().saturating_sub(seen.events(pcr).filter(is_of_log).count())
        };
        let pcrs = (0..=u32::from(MAX_PCR)).filter_map(PcrIndex::new);
        let explained = pcrs.filter(|pcr| seen.value(*pcr).is_some() && seen.is_explained(*pcr));
        Self {
            ima: ima.map_or(0, |list| list.records.saturating_sub(covered)),
            userspace: explained.map(beyond).sum(),
        }
    }
}

/// A list that begins at boot, and how many records it has.
#[derive(Debug)]
pub(super) struct WholeList {
    pub(super) part: ImaPart,
    records: u64,
}

/// Reads every record of a list that begins at boot. A digest that is not that of its data is no
/// malformed file but a changed one, which verification finds again and refutes.
pub(super) fn whole_list(bytes: &[u8]) -> Result<WholeList, UnusableError> {
    let mut records = 0;
    for record in ImaList::parse(bytes, 0).map_err(UnusableError::Ima)?.records() {
        match record {
            Ok(record) => records = record.position.saturating_add(1),
            Err(ImaListError::Digest { .. }) => break,
            Err(malformed) => return Err(UnusableError::Ima(malformed)),
        }
    }
    Ok(WholeList { part: ImaPart { first: 0, bytes: bytes.into() }, records })
}
