//! From a list to a [`VerifiedIma`]: the prefix of it that the quoted PCR values confirm.
//!
//! The kernel goes on measuring while the TPM quotes, so a list is longer than its quote. The prefix ends
//! at a record after which *every* PCR that the list extends has its quoted value, also one that it extends
//! only later. What follows is dropped and counts for nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::aggregate::{self, AggregateError};
use super::list::{ImaList, ImaListError, Record};
use super::replay::Running;
use super::state::{Boot, ImaState};
use crate::reference::release::ReleaseId;
use crate::tpm::alg::{HashAlg, HashValue};
use crate::tpm::pcr::{PcrIndex, PcrValues};

/// A list as a device sends it: whole, or what is new since it was last accepted; untrusted.
#[derive(Debug, Clone)]
pub struct ImaPart {
    /// Place of its first record in the list since boot; 0 for a whole list.
    pub first: u64,
    /// The records as the kernel shows them.
    pub bytes: Arc<[u8]>,
}

/// A list was refused. Where a part was, sending the whole list mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImaError {
    /// A part, and nothing is known of what comes before.
    #[error("the list begins with record {0} and nothing before it was accepted; send the whole list")]
    NothingAccepted(u64),
    /// A part of another boot than the one accepted.
    #[error(
        "the device was reset or woke up since its list was accepted ({accepted:?}, now {now:?}); send the whole list"
    )]
    Rebooted {
        /// The boot whose list was accepted.
        accepted: Boot,
        /// The boot that was quoted.
        now: Boot,
    },
    /// A part that begins before the accepted position.
    #[error("the list begins with record {first}, up to {accepted} was accepted; send the whole list")]
    Rewound {
        /// Its first record.
        first: u64,
        /// The accepted position.
        accepted: u64,
    },
    /// A part that begins after the accepted position.
    #[error("the list begins with record {first}, up to {accepted} was accepted; send the whole list")]
    Gap {
        /// Its first record.
        first: u64,
        /// The accepted position.
        accepted: u64,
    },
    /// The accepted list was confirmed in another bank.
    #[error("the list was accepted in bank {accepted}, {quoted} was quoted; send the whole list")]
    OtherBank {
        /// The bank then.
        accepted: HashAlg,
        /// The bank now.
        quoted: HashAlg,
    },
    /// The list cannot be read.
    #[error("the IMA list cannot be read")]
    List(#[source] ImaListError),
    /// The first record does not tie it to the boot.
    #[error("the IMA list does not belong to the boot that was quoted")]
    Aggregate(#[source] AggregateError),
    /// A list that begins in another PCR than 10.
    #[error(
        "the IMA list begins in PCR {0}; let IMA measure into PCR 10, as it does unless it was built otherwise"
    )]
    OtherPcr(PcrIndex),
    /// A record in a PCR that was not quoted.
    #[error("record {position} extends PCR {pcr}, which was not quoted; let IMA measure into PCR 10")]
    NotQuoted {
        /// Place of the record.
        position: u64,
        /// The PCR.
        pcr: PcrIndex,
    },
    /// No prefix gives the quoted values.
    #[error(
        "no beginning of the IMA list gives the quoted PCR {pcr}, {quoted}; all {records} records give {replayed}: the list was changed, cut, or is of another boot, so send the whole list, read after the quote"
    )]
    NoPrefix {
        /// A PCR whose value was never that of the quote when all records were replayed.
        pcr: PcrIndex,
        /// Its quoted value.
        quoted: Box<HashValue>,
        /// Its value after the last record.
        replayed: Box<HashValue>,
        /// Records since boot.
        records: u64,
    },
}

/// What a list must agree with.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a> {
    /// The values that the TPM signed.
    pub pcrs: &'a PcrValues,
    /// The values that the firmware's log explains: what PCRs held before Linux went on.
    pub firmware: &'a PcrValues,
    /// The boot that the quote is of.
    pub boot: Boot,
    /// What was accepted of this device before.
    pub accepted: Option<&'a ImaState>,
}

/// Records that a quote confirms. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub struct VerifiedIma {
    bytes: Arc<[u8]>,
    end: usize,
    alg: HashAlg,
    first: u64,
    state: ImaState,
}

impl VerifiedIma {
    /// The confirmed records that were sent, in the list's order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let bytes = self.bytes.get(..self.end).unwrap_or_default();
        let mut records = ImaList::verified(bytes, self.alg, self.first).records();
        std::iter::from_fn(move || records.read_again())
    }

    /// Place of the first of them in the list since boot; 0 if the list is whole.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The releases that approved every record before the first; none for a whole list.
    #[must_use]
    pub const fn approved_before(&self) -> &BTreeSet<ReleaseId> {
        self.state.approved()
    }

    /// The PCRs that the list extends, PCR 10 among them. It explains that one alone: a record's data is
    /// whatever its template says, so in another PCR it could be told instead of what was measured there.
    pub fn pcrs(&self) -> impl Iterator<Item = PcrIndex> {
        self.state.running.values().keys().copied()
    }

    /// The position up to which it is confirmed; no release approves it yet.
    #[must_use]
    pub fn state(&self) -> ImaState {
        self.state.clone().with_approved(&BTreeSet::new())
    }
}

/// A boundary between records at which every PCR had its quoted value.
struct Match {
    end: usize,
    position: u64,
    running: Running,
}

/// Confirms the longest prefix of `part` that gives the quoted values.
pub fn verify(part: &ImaPart, quoted: &Quoted<'_>) -> Result<VerifiedIma, ImaError> {
    let continued = if part.first == 0 { None } else { Some(continue_from(part.first, quoted)?) };
    let bank = quoted.pcrs.bank();
    let mut running = continued.map_or_else(|| Running::new(bank), |state| state.running.clone());
    let mut matched = continued.and_then(|_| boundary(0, part.first, &running, quoted));
    let mut position = part.first;
    let mut alg = HashAlg::Sha1;
    // A part may be empty: nothing was measured since.
    if continued.is_none() || !part.bytes.is_empty() {
        let list = ImaList::parse(&part.bytes, part.first).map_err(ImaError::List)?;
        alg = list.alg();
        let mut records = list.records();
        while let Some(record) = records.next() {
            let record = record.map_err(ImaError::List)?;
            if record.position == 0 {
                if record.pcr != PcrIndex::IMA {
                    return Err(ImaError::OtherPcr(record.pcr));
                }
                aggregate::verify(&record, quoted.pcrs, quoted.firmware).map_err(ImaError::Aggregate)?;
            }
            if quoted.pcrs.value(record.pcr).is_none() {
                return Err(ImaError::NotQuoted { position: record.position, pcr: record.pcr });
            }
            running.extend(&record, quoted.firmware);
            position = record.position.saturating_add(1);
            matched = boundary(records.offset(), position, &running, quoted).or(matched);
        }
    }
    let missed = match &matched {
        Some(found) => running.missed_by(&found.running, quoted.pcrs, quoted.firmware),
        None => running.differs_from(quoted.pcrs),
    };
    if let Some((pcr, replayed)) = missed {
        return Err(no_prefix(position, pcr, replayed, quoted));
    }
    // Without a match some PCR differs, unless the list was empty.
    let Match { end, position, running } = matched.ok_or(ImaError::List(ImaListError::Empty))?;
    let approved = continued.map(|state| state.approved().clone()).unwrap_or_default();
    let state = ImaState::new(quoted.boot, position, running).with_approved(&approved);
    Ok(VerifiedIma { bytes: Arc::clone(&part.bytes), end, alg, first: part.first, state })
}

/// The accepted state that a part beginning at `first` goes on from.
fn continue_from<'a>(first: u64, quoted: &Quoted<'a>) -> Result<&'a ImaState, ImaError> {
    let state = quoted.accepted.ok_or(ImaError::NothingAccepted(first))?;
    if state.boot != quoted.boot {
        return Err(ImaError::Rebooted { accepted: state.boot, now: quoted.boot });
    }
    if state.running.bank() != quoted.pcrs.bank() {
        return Err(ImaError::OtherBank { accepted: state.running.bank(), quoted: quoted.pcrs.bank() });
    }
    let accepted = state.position;
    match first.cmp(&accepted) {
        std::cmp::Ordering::Less => Err(ImaError::Rewound { first, accepted }),
        std::cmp::Ordering::Greater => Err(ImaError::Gap { first, accepted }),
        std::cmp::Ordering::Equal => Ok(state),
    }
}

fn boundary(end: usize, position: u64, running: &Running, quoted: &Quoted<'_>) -> Option<Match> {
    let matches = running.differs_from(quoted.pcrs).is_none();
    matches.then(|| Match { end, position, running: running.clone() })
}

fn no_prefix(records: u64, pcr: PcrIndex, replayed: HashValue, quoted: &Quoted<'_>) -> ImaError {
    let quoted = quoted.pcrs.value(pcr).copied().unwrap_or(replayed);
    ImaError::NoPrefix { pcr, quoted: Box::new(quoted), replayed: Box::new(replayed), records }
}
