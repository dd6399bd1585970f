//! What a plan rests on, as an id that `apply` compares.
//!
//! The id is the revision of the golden values, then a digest of everything else: what vouches for TPMs, what the
//! zones of the product ask for, and the change itself. The revision stands apart so that a refusal can say which of
//! the two moved.

use std::fmt;
use std::str::FromStr;

use policy::digest::Digest;
use policy::id::ProductName;
use policy::reference::state::ReleaseState;
use policy::zone::Segmentation;

use crate::plant::Plant;
use crate::session::Refusal;

/// Hex digits of the digest: an id is no secret, it only has to differ.
const DIGITS: usize = 16;

/// What a plan rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// Revision of the golden values.
    pub golden: u64,
    digest: String,
}

impl Basis {
    /// Of a change that gives the release of this product and manifest the state `to`.
    pub(super) fn of(
        plant: &Plant,
        zones: &Segmentation,
        golden: u64,
        (product, manifest): (&ProductName, Digest),
        to: ReleaseState,
    ) -> Result<Self, Refusal> {
        let asking: Vec<_> = zones
            .zones()
            .filter(|zone| zone.products.contains(product))
            .map(|zone| (&zone.name, &zone.products, &zone.least, zone.mode, zone.timing.reattest_every()))
            .collect();
        let parts = (plant.vouching(), asking, manifest, to.to_string());
        let digest = Digest::of(&serde_json::to_vec(&parts).map_err(Refusal::internal)?).hex();
        Ok(Self { golden, digest: digest.chars().take(DIGITS).collect() })
    }

    /// The same on golden values of another revision.
    pub(super) fn at(&self, golden: u64) -> Self {
        Self { golden, digest: self.digest.clone() }
    }

    /// Refuses a change that was planned on another basis.
    pub(super) fn expected(&self, planned: Option<&Self>, what: &str) -> Result<(), Refusal> {
        let Some(planned) = planned.filter(|planned| *planned != self) else { return Ok(()) };
        let moved = if planned.golden == self.golden {
            "TPM roots, tpm_deny or what zones ask for changed since the plan was made, or it was made for another file or state"
        } else {
            "golden values or zones changed since the plan was made"
        };
        Err(Refusal::Conflict(format!(
            "{moved}, so {what} may do something else now; plan again, `touchstone audit list` says what changed"
        )))
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.golden, self.digest)
    }
}

/// The text is no id of a plan.
#[derive(Debug, thiserror::Error)]
#[error("an id of a plan looks like 42-9f86d081884c7d65; take the one that `touchstone golden plan` shows")]
pub struct ParseBasisError;

impl FromStr for Basis {
    type Err = ParseBasisError;

    fn from_str(text: &str) -> Result<Self, ParseBasisError> {
        let (golden, digest) = text.split_once('-').ok_or(ParseBasisError)?;
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if digest.len() != DIGITS || !digest.chars().all(is_hex) {
            return Err(ParseBasisError);
        }
        Ok(Self { golden: golden.parse().map_err(|_| ParseBasisError)?, digest: digest.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else() {
        let id = "42-9f86d081884c7d65";
        assert_eq!(id.parse::<Basis>().unwrap().to_string(), id);
        for bad in
            ["", "42", "42-", "42-9f86", "x-9f86d081884c7d65", "42-9f86d081884c7d6g", "42-9F86D081884C7D65"]
        {
            assert!(bad.parse::<Basis>().is_err(), "{bad}");
        }
    }
}
