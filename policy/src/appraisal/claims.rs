//! The AR4SI trustworthiness vector (draft-ietf-rats-ar4si-09, section 2.3).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A claim of the vector. The numbers are the keys of its CBOR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Claim {
    /// Who the Attester is.
    InstanceIdentity = 0,
    /// How it is configured.
    Configuration = 1,
    /// What it executes.
    Executables = 2,
    /// What its file system holds.
    FileSystem = 3,
    /// What it is made of.
    Hardware = 4,
    /// Whether others can see its memory. A TPM says nothing about that: never claimed here.
    RuntimeOpaque = 5,
    /// Whether others can read its storage.
    StorageOpaque = 6,
    /// Whether its inputs are attested.
    SourcedData = 7,
}

impl Claim {
    /// Every claim, by key.
    pub const ALL: [Self; 8] = [
        Self::InstanceIdentity,
        Self::Configuration,
        Self::Executables,
        Self::FileSystem,
        Self::Hardware,
        Self::RuntimeOpaque,
        Self::StorageOpaque,
        Self::SourcedData,
    ];

    /// The claim's name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InstanceIdentity => "instance-identity",
            Self::Configuration => "configuration",
            Self::Executables => "executables",
            Self::FileSystem => "file-system",
            Self::Hardware => "hardware",
            Self::RuntimeOpaque => "runtime-opaque",
            Self::StorageOpaque => "storage-opaque",
            Self::SourcedData => "sourced-data",
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no claim; write for example executables, configuration or hardware")]
pub struct ParseClaimError(String);

impl FromStr for Claim {
    type Err = ParseClaimError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|claim| claim.name() == text)
            .ok_or_else(|| ParseClaimError(text.chars().take(80).collect()))
    }
}

/// How far a claim's value is to be relied on (section 2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The Verifier affirms.
    Affirming,
    /// The Verifier does not affirm, and says why.
    Warning,
    /// The Verifier asserts the contrary.
    Contraindicated,
    /// The Verifier says nothing, or failed.
    None,
}

/// The value of a claim. What a number means depends on the claim; the constants name those that are
/// given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimValue(pub i8);

impl ClaimValue {
    /// No claim is made.
    pub const NONE: Self = Self(0);
    /// Recognised, genuine, approved.
    pub const APPROVED: Self = Self(2);
    /// Executables: what was booted is approved, what ran since is not appraised.
    pub const BOOT_APPROVED: Self = Self(3);
    /// The worst value that still affirms.
    pub const AFFIRMING: Self = Self(31);
    /// File system: holds files that are not recognised.
    pub const UNRECOGNISED_FILES: Self = Self(32);
    /// Executables: not recognised.
    pub const UNRECOGNISED: Self = Self(33);
    /// Configuration: what would show it is not available or not known.
    pub const UNAVAILABLE: Self = Self(36);
    /// The worst value that is still a warning.
    pub const WARNING: Self = Self(95);
    /// Known to be bad.
    pub const CONTRAINDICATED: Self = Self(96);
    /// Hardware and identity: not recognised.
    pub const NOT_RECOGNISED: Self = Self(97);
    /// Any claim: the evidence failed cryptographic validation (section 2.3.3).
    pub const CRYPTO_FAILED: Self = Self(99);

    /// The tier of the value (section 2.3.2).
    #[must_use]
    pub const fn tier(self) -> Tier {
        match self.0 {
            -1..=1 => Tier::None,
            2..=31 | -32..=-2 => Tier::Affirming,
            32..=95 | -96..=-33 => Tier::Warning,
            96.. | ..=-97 => Tier::Contraindicated,
        }
    }

    /// How bad the value is: the tier, and within a tier the distance from zero.
    const fn rank(self) -> (Tier, u8) {
        (self.tier(), self.0.unsigned_abs())
    }
}

impl Tier {
    /// The tier's name, as `ear_status` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }
}

impl fmt::Display for ClaimValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The claims that were made. One that is absent was not made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Claims(BTreeMap<Claim, ClaimValue>);

impl Claims {
    /// The value of a claim; [`ClaimValue::NONE`] if it was not made.
    #[must_use]
    pub fn value(&self, claim: Claim) -> ClaimValue {
        self.0.get(&claim).copied().unwrap_or(ClaimValue::NONE)
    }

    /// Makes a claim. A value that is worse than one already made replaces it, a better one does not.
    pub fn lower_to(&mut self, claim: Claim, value: ClaimValue) {
        let entry = self.0.entry(claim).or_insert(value);
        if value.rank() > entry.rank() {
            *entry = value;
        }
    }

    /// The claims that were made, by key.
    pub fn iter(&self) -> impl Iterator<Item = (Claim, ClaimValue)> {
        self.0.iter().map(|(claim, value)| (*claim, *value))
    }
}

/// The worst value that a zone accepts of each claim. A claim that is not listed is not asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeastClaims(BTreeMap<Claim, ClaimValue>);

impl Default for LeastClaims {
    /// A recognised device with a genuine TPM and an approved boot.
    fn default() -> Self {
        let claims = [Claim::InstanceIdentity, Claim::Configuration, Claim::Executables, Claim::Hardware];
        Self(claims.into_iter().map(|claim| (claim, ClaimValue::AFFIRMING)).collect())
    }
}

impl LeastClaims {
    /// These claims, each with the worst value that is accepted.
    #[must_use]
    pub const fn new(least: BTreeMap<Claim, ClaimValue>) -> Self {
        Self(least)
    }

    /// The claims that are asked for, by key.
    pub fn iter(&self) -> impl Iterator<Item = (Claim, ClaimValue)> {
        self.0.iter().map(|(claim, value)| (*claim, *value))
    }

    /// The claims that are asked for and not met. No claim, and a claim that the Verifier failed to
    /// make, meet nothing.
    pub fn unmet<'a>(&'a self, claims: &'a Claims) -> impl Iterator<Item = Claim> + 'a {
        self.iter().filter_map(|(claim, least)| {
            let value = claims.value(claim);
            (value.tier() == Tier::None || value.rank() > least.rank()).then_some(claim)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_those_of_the_draft() {
        let tiers = [
            (-128, Tier::Contraindicated),
            (-97, Tier::Contraindicated),
            (-96, Tier::Warning),
            (-33, Tier::Warning),
            (-32, Tier::Affirming),
            (-2, Tier::Affirming),
            (-1, Tier::None),
            (1, Tier::None),
            (2, Tier::Affirming),
            (31, Tier::Affirming),
            (32, Tier::Warning),
            (95, Tier::Warning),
            (96, Tier::Contraindicated),
            (127, Tier::Contraindicated),
        ];
        for (value, tier) in tiers {
            assert_eq!(ClaimValue(value).tier(), tier, "{value}");
        }
    }

    #[test]
    fn names_and_keys_agree_with_serde() {
        for claim in Claim::ALL {
            assert_eq!(serde_json::to_value(claim).unwrap(), claim.name());
            assert_eq!(claim.name().parse(), Ok(claim));
        }
    }

    #[test]
    fn a_claim_not_made_meets_nothing_even_where_everything_is_accepted() {
        let least = LeastClaims::new([(Claim::FileSystem, ClaimValue(127))].into());
        assert_eq!(least.unmet(&Claims::default()).collect::<Vec<_>>(), [Claim::FileSystem]);
    }

    #[test]
    fn a_known_weakness_can_be_accepted_without_accepting_the_unknown() {
        let least = LeastClaims::new([(Claim::Executables, ClaimValue(32))].into());
        let mut claims = Claims::default();
        claims.lower_to(Claim::Executables, ClaimValue(32));
        assert_eq!(least.unmet(&claims).count(), 0);
        claims.lower_to(Claim::Executables, ClaimValue::UNRECOGNISED);
        assert_eq!(least.unmet(&claims).collect::<Vec<_>>(), [Claim::Executables]);
        claims.lower_to(Claim::Executables, ClaimValue::APPROVED);
        assert_eq!(claims.value(Claim::Executables), ClaimValue::UNRECOGNISED);
    }
}
