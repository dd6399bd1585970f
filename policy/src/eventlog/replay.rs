//! Replay of a firmware log into the PCR values that it explains.
//!
//! [`replay`] is the strict one that evidence rests on. [`replay_all`] is for people who look at a
//! log; nothing is decided by it.

use std::collections::BTreeMap;

use crate::eventlog::tcg::{Event, EventLog};
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// A log does not replay strictly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The log has no such bank.
    #[error("the log has no {0} bank; quote a bank that the firmware logs")]
    NoBank(HashAlg),
    /// An event that extends a PCR carries no digest of the bank.
    #[error(
        "event {position} extends PCR {pcr} and carries no {bank} digest; quote a bank that every event carries"
    )]
    NoDigest {
        /// Place of the event in the log.
        position: usize,
        /// The PCR.
        pcr: PcrIndex,
        /// The bank.
        bank: HashAlg,
    },
    /// A StartupLocality event that the profile does not allow.
    #[error(
        "event {position} is a StartupLocality that {fault}; the log was changed or the firmware is faulty"
    )]
    StartupLocality {
        /// Place of the event in the log.
        position: usize,
        /// What is wrong with it.
        fault: LocalityFault,
    },
}

/// What is wrong with a StartupLocality event (checklist row 18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocalityFault {
    /// Not 17 bytes.
    #[error("is not 17 bytes long")]
    Length,
    /// Not 0, 3 or 4.
    #[error("names a locality other than 0, 3 and 4")]
    Locality,
    /// Not in PCR 0.
    #[error("is not in PCR 0")]
    Pcr,
    /// After an event that extends PCR 0.
    #[error("comes after an event that extends PCR 0")]
    Late,
    /// Not the only one.
    #[error("is not the first one")]
    Second,
}

/// PCR values that a log explains, and by which events.
#[derive(Debug, Clone)]
pub struct Replay<'l, 'a> {
    values: PcrValues,
    events: BTreeMap<PcrIndex, Vec<&'l Event<'a>>>,
}

impl<'l, 'a> Replay<'l, 'a> {
    /// Values of the PCRs that an event extends; others have none.
    #[must_use]
    pub const fn values(&self) -> &PcrValues {
        &self.values
    }

    /// The events that extend `pcr`, in the log's order.
    #[must_use]
    pub fn events(&self, pcr: PcrIndex) -> &[&'l Event<'a>] {
        self.events.get(&pcr).map_or(&[], Vec::as_slice)
    }
}

/// Replays one bank strictly and whole: in the log's order, from the reset value, with a digest of
/// the bank in every event that extends a PCR (checklist rows 17, 18 and 24).
pub fn replay<'l, 'a>(log: &'l EventLog<'a>, bank: HashAlg) -> Result<Replay<'l, 'a>, ReplayError> {
    if !log.banks().contains(&bank) {
        return Err(ReplayError::NoBank(bank));
    }
    let locality = startup_locality(log)?.unwrap_or(0);
    let mut replay = Replay { values: PcrValues::new(bank), events: BTreeMap::new() };
    for event in log.events() {
        let Some(pcr) = event.extends() else { continue };
        let missing = ReplayError::NoDigest { position: event.position, pcr, bank };
        extend(&mut replay.values, pcr, locality, &event.digest(bank).ok_or(missing)?);
        replay.events.entry(pcr).or_default().push(event);
    }
    Ok(replay)
}

/// Replays every bank leniently: an event without a digest of a bank is passed over in that bank.
#[must_use]
pub fn replay_all(log: &EventLog<'_>) -> Vec<PcrValues> {
    let locality = log.startup_locality().unwrap_or(0);
    let values_of = |bank: &HashAlg| {
        let mut values = PcrValues::new(*bank);
        for event in log.events() {
            if let (Some(pcr), Some(digest)) = (event.extends(), event.digest(*bank)) {
                extend(&mut values, pcr, locality, &digest);
            }
        }
        values
    };
    log.banks().iter().map(values_of).collect()
}

fn extend(values: &mut PcrValues, pcr: PcrIndex, locality: u8, digest: &HashValue) {
    let before = values.value(pcr).copied().unwrap_or_else(|| reset_value(values.bank(), pcr, locality));
    values.set(pcr, before.extend(digest.as_bytes()));
}

/// The value of a PCR after TPM2_Startup (TCG PC Client Platform TPM Profile, 4.6.2; Platform
/// Firmware Profile, 10.4.5.3): PCR 0 holds the startup locality, PCRs 17 to 22 are all ones, the
/// others zero.
#[must_use]
pub fn reset_value(bank: HashAlg, pcr: PcrIndex, locality: u8) -> HashValue {
    match pcr.number() {
        0 => {
            let mut bytes = vec![0; bank.len()];
            if let Some(last) = bytes.last_mut() {
                *last = locality;
            }
            HashValue::new(bank, &bytes).unwrap_or_else(|| HashValue::repeated(bank, 0))
        }
        17..=22 => HashValue::repeated(bank, 0xff),
        _ => HashValue::repeated(bank, 0),
    }
}

/// The startup locality, if the log tells it, and tells it as the profile allows.
fn startup_locality(log: &EventLog<'_>) -> Result<Option<u8>, ReplayError> {
    let mut found = None;
    let mut pcr_0_extended = false;
    for event in log.events() {
        pcr_0_extended |= event.extends().is_some_and(|pcr| pcr.number() == 0);
        if !event.is_startup_locality() {
            continue;
        }
        let refuse = |fault| Err(ReplayError::StartupLocality { position: event.position, fault });
        let locality = match event.startup_locality() {
            None => return refuse(LocalityFault::Length),
            Some(locality @ (0 | 3 | 4)) => locality,
            Some(_) => return refuse(LocalityFault::Locality),
        };
        if event.pcr.is_none_or(|pcr| pcr.number() != 0) {
            return refuse(LocalityFault::Pcr);
        }
        if pcr_0_extended {
            return refuse(LocalityFault::Late);
        }
        if found.replace(locality).is_some() {
            return refuse(LocalityFault::Second);
        }
    }
    Ok(found)
}
