//! How an attestor that starts again goes on with an image log: what a bank of the PCR lacks, or why nothing helps.
//!
//! The PCR begins at zero, or with systemd's separator: where other software measures into it, nothing here fits.

use super::ImageLog;
use crate::eventlog::userspace::OS_SEPARATOR;
use crate::tpm::alg::{HashAlg, HashValue};

/// What is to be done before the next entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Extend these, each into its bank; mostly none.
    Extend(Vec<HashValue>),
    /// Begin a new log: nothing of this one was extended since the device booted.
    BeginAnew,
}

/// No end of the log gives the value of the PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image log does not explain the {bank} bank")]
pub struct Unexplained {
    /// The bank.
    pub bank: HashAlg,
}

/// Where a bank stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// No entry was extended.
    Before,
    /// All but the last entry were.
    Behind,
    /// All were.
    Whole,
}

impl ImageLog {
    /// How to go on, where the PCR has these values, one of each bank.
    pub fn recovery(&self, values: &[HashValue]) -> Result<Recovery, Unexplained> {
        let places = values.iter().map(|value| Ok((value.alg(), self.place(value)?)));
        let places: Vec<(HashAlg, Place)> = places.collect::<Result<_, _>>()?;
        if !places.is_empty() && places.iter().all(|(_, place)| *place == Place::Before) {
            return Ok(Recovery::BeginAnew);
        }
        let mut lacking = Vec::new();
        for (bank, place) in places {
            match place {
                Place::Whole => {}
                // A power cut between two banks; of a longer log the others were extended before.
                Place::Before if self.entries.len() > 1 => return Err(Unexplained { bank }),
                Place::Before | Place::Behind => {
                    let last = self.entries.last().and_then(|entry| entry.digests.of(bank));
                    lacking.push(last.ok_or(Unexplained { bank })?);
                }
            }
        }
        Ok(Recovery::Extend(lacking))
    }

    fn place(&self, value: &HashValue) -> Result<Place, Unexplained> {
        let bank = value.alg();
        let unexplained = Unexplained { bank };
        let zero = HashValue::repeated(bank, 0);
        let separated = zero.extend(bank.hash(&[OS_SEPARATOR.as_bytes()]).as_bytes());
        let digests = self.entries.iter().map(|entry| entry.digests.of(bank).ok_or(unexplained));
        let digests: Vec<HashValue> = digests.collect::<Result<_, _>>()?;
        let count = digests.len();
        for start in [zero, separated] {
            let mut at = start;
            let mut places = vec![at];
            places.extend(digests.iter().map(|digest| {
                at = at.extend(digest.as_bytes());
                at
            }));
            match places.iter().position(|place| place == value) {
                Some(place) if place == count => return Ok(Place::Whole),
                Some(0) => return Ok(Place::Before),
                Some(place) if place.checked_add(1) == Some(count) => return Ok(Place::Behind),
                _ => {}
            }
        }
        Err(unexplained)
    }
}
